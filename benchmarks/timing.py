"""Timing of things that are to be compared: taken in turns, so that what else the machine does hits all."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def seconds_of(run: Callable[[], object], device: str) -> float:
    """Return the wall time of one run, with the device idle before and after it."""
    finish(device)
    begun = time.perf_counter()
    run()
    finish(device)
    return time.perf_counter() - begun


def finish(device: str) -> None:
    """Wait for the device."""
    if device != "cpu":
        torch.cuda.synchronize()


def in_turns(
    runs: Mapping[str, Callable[[], object]], repeats: int, device: str, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Return the seconds of `repeats` runs of each, in an order that rotates."""
    names = [*runs]
    for _ in range(warm_up):
        for name in names:
            runs[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(seconds_of(runs[name], device))
    return seconds


def median_ratio(left: list[float], right: list[float]) -> float:
    """Return the median over the turns of the ratio within one turn."""
    return statistics.median(a / b for a, b in zip(left, right, strict=True))


def matrix_product(device: str, size: int | None = None) -> tuple[Callable[[], object], float]:
    """Return a float32 product of square matrices and its flops, by which the matrix rate is measured."""
    size = size or (1536 if device == "cpu" else 8192)
    left, right = torch.randn(2, size, size, device=device)
    out = torch.empty_like(left)
    return lambda: torch.matmul(left, right, out=out), 2.0 * size**3
