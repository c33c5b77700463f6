"""Programs for a GPU, where its libraries take more passes over memory, or leave its fastest units idle.

They compute what the library's operations compute, to the error of float32, and serve float32 on GPUs with
tensor cores where Triton is installed and can compile; everything else goes to the library.
"""

import warnings
from functools import cache
from importlib.util import find_spec
from subprocess import SubprocessError

import torch
from torch import Tensor

FIRST_CAPABILITY = (8, 0)
"""Of a GPU whose tensor cores take float32."""


def serve(tensor: Tensor) -> bool:
    """Whether these programs take tensors like this one."""
    return tensor.device.type == "cuda" and tensor.dtype == torch.float32 and _serve(tensor.device)


@cache
def _serve(device: torch.device) -> bool:
    if find_spec("triton") is None or torch.cuda.get_device_capability(device) < FIRST_CAPABILITY:
        return False
    try:
        from trainers.kernels.products import halves

        halves(torch.zeros(1, 4, 4, device=device))
    except (RuntimeError, OSError, ImportError, SubprocessError) as error:
        # Triton wants a C compiler and Python's headers; not every machine has them.
        warnings.warn(f"the GPU's libraries are used, which take longer: {error}", stacklevel=2)
        return False
    return True
