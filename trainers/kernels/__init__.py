"""Programs for a GPU, where its libraries take more passes over memory, or leave its fastest units idle.

They compute what the library's operations compute, to the error of float32, and serve float32 on GPUs with
tensor cores where Triton is installed and can compile; everything else goes to the library.
"""

import warnings
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
    if find_spec("triton") is None or torch.cuda.get_device_capability(device) < FIRST_CAPABILITY:
        return False
    try:
        _try_out(device)
    except Exception as error:
        # Triton wants a C compiler and Python's headers, and fails in as many ways as it has versions.
        # Nothing depends on it.
        warnings.warn(f"the GPU's libraries are used, which take longer: {error}", stacklevel=2)
        return False
    return True


def _try_out(device: torch.device) -> None:
    """Compile each program once, with every way of cutting it, and see that it computes what is known.

    Here and not where it is first needed, because a program that asks for more than a GPU has fails when it
    is started.
    """
    from trainers.kernels.products import LARGE, halves, inner, multiply, sums_over
    from trainers.kernels.projection import add_projection

    ones, row = torch.ones(1, 64, 64, device=device), torch.ones(1, 64, device=device)
    into = row.clone()
    add_projection(into, ones, row, row[:, :1], None)
    pair = ones.unsqueeze(1), halves(ones).unsqueeze(2)
    whole = torch.empty_like(pair[0])
    multiply(whole, pair, pair, bias_NRJ=row.unsqueeze(1), scale_NMS=2 * ones, tiles=LARGE)
    found = (sums_over(ones, ones), 64), (inner(ones, ones), 64), (into, 1 + 64**2), (whole, 2 * (2 * 64 + 1))
    if not all(bool((values == value).all()) for values, value in found):
        raise RuntimeError("Triton's programs give wrong numbers on this GPU.")
