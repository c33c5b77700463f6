"""What holds for every test: one thread for torch, as in a trial, in an order for several workers."""

import gc
import itertools
import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


WHOLE = ("integration", "test_kernels.py", "test_driver_away.py")
"""Parts of the paths of modules whose tests take longest: one that is begun last is waited for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests of whole sweeps, which take longest, at the beginning of every worker's share.

    Workers begin with equal shares, in this order, and who has done its own takes from the end of another's.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    modules: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if any(part in WHOLE for part in item.path.parts):
            modules.setdefault(item.path, []).append(item)
    whole = list(modules.values())
    quick = [item for item in items if item.path not in modules]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        ordered += itertools.chain.from_iterable(whole[worker::workers])
        rest = max(0, len(items) * (worker + 1) // workers - len(ordered))
        ordered += quick[:rest]
        quick = quick[rest:]
    items[:] = ordered + quick


def pytest_collectstart() -> None:
    """Of what is imported next nothing is garbage, and there is more and more to look through."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Spare what was imported from every collection of garbage: it is most of what there is."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()
