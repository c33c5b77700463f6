"""Programs for a GPU, where its libraries take more passes over memory, or leave its fastest units idle.

They compute what the library's operations compute, to the error of float32, and serve float32 on GPUs with
tensor cores where Triton is installed; everything else goes to the library.
"""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

FIRST_CAPABILITY = (8, 0)
"""Of a GPU whose tensor cores take float32."""


def serve(tensor: Tensor) -> bool:
    """Whether these programs take tensors like this one."""
    return tensor.device.type == "cuda" and tensor.dtype == torch.float32 and _serve(tensor.device)


@cache
def _serve(device: torch.device) -> bool:
    return find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= FIRST_CAPABILITY
