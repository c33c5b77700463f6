"""What holds for every test: one thread for torch, as in a trial, in an order for two workers."""

import gc
import itertools
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests of whole sweeps, which take longest, at the beginning of both halves.

    Two workers begin with a half each, and who has done its own takes from the end of the other's.
    """
    modules: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if "integration" in item.path.parts:
            modules.setdefault(item.path, []).append(item)
    whole = list(modules.values())
    first, second = (list(itertools.chain.from_iterable(whole[start::2])) for start in (0, 1))
    quick = [item for item in items if item.path not in modules]
    middle = max(0, len(items) // 2 - len(first))
    items[:] = first + quick[:middle] + second + quick[middle:]


def pytest_collection_finish() -> None:
    """Spare what was imported from every collection of garbage: it is most of what there is."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
