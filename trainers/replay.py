"""What keeps a GPU from waiting for the host: operations recorded once, and copies that nobody waits for yet.

A CUDA graph is a sequence of small operations recorded once and started at once from then on. A GPU does a
small operation in less time than the host takes to start it, so that what consists of dozens of them waits
for the host. Recorded operations read and write the memory that they were recorded with.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class Arriving:
    """A tensor on its way to the host, while the device goes on with what it is told next.

    Args:
        tensor: What is copied.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._copied: torch.cuda.Event | None = None
        self._tensor = tensor.to("cpu", non_blocking=True)
        if tensor.device.type == "cuda":
            self._copied = torch.cuda.Event()
            self._copied.record()

    def get(self) -> Tensor:
        """Return it, once it is there."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._tensor


class Recording(Generic[Result]):
    """A function without arguments; each call repeats its operations and returns its first result.

    Args:
        function: Has been called before, so that libraries have set themselves up; waits for nothing.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # Of what other threads do, asking for memory say, nothing belongs to it.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._result = function()

    def __call__(self) -> Result:
        """Repeat the operations."""
        self._graph.replay()
        return self._result


class Recorded(Generic[Result]):
    """A function of tensors that always have the same shapes; recorded in its second call, on a GPU.

    What it returns is overwritten by the next call. The function is given with each call and not kept: a
    method of whoever holds this would keep the recording's memory until Python looks for cycles.
    """

    def __init__(self) -> None:
        self._inputs: tuple[Tensor, ...] | None = None
        self._recording: Recording[Result] | None = None

    def __call__(self, function: Callable[..., Result], *inputs: Tensor) -> Result:
        """Return the function's result.

        Args:
            function: The same in every call.
            inputs: What it is called with.
        """
        if inputs[0].device.type != "cuda":
            return function(*inputs)
        if self._inputs is None:
            self._inputs = tuple(map(torch.empty_like, inputs))
            return function(*inputs)
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        if self._recording is None:
            fixed = self._inputs
            self._recording = Recording(lambda: function(*fixed))
        return self._recording()
