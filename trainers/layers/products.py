"""Which matrix products a device has besides those of its library."""

from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor


def tensor_cores_for(tensor: Tensor) -> ModuleType | None:
    """Return `trainers.layers.tensor_cores` where it serves tensors like this one."""
    if tensor.device.type != "cuda" or tensor.dtype != torch.float32:
        return None
    return _tensor_cores(tensor.device)


@cache
def _tensor_cores(device: torch.device) -> ModuleType | None:
    if find_spec("triton") is None or torch.cuda.get_device_capability(device) < (8, 0):
        return None
    from trainers.layers import tensor_cores

    return tensor_cores
