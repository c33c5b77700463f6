"""The programs for a GPU run on one where there is one; elsewhere Triton interprets them on the host."""

import os
from importlib.util import find_spec

import pytest
import torch

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"

if not GPU:
    # Triton reads it when it is imported, so not in a fixture.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session", autouse=True)
def multiprocessors() -> None:
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    if not GPU:
        from trainers.kernels import products

        products._processors = lambda device: 132  # type: ignore[assignment]
