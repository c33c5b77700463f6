"""The programs for a GPU run on one where there is one; elsewhere Triton interprets them on the host.

Without a GPU these tests are run by `tests/trainers/test_kernels.py`, or with `TRITON_INTERPRET=1`.
"""

from importlib.util import find_spec

import pytest
import torch

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"


@pytest.fixture(scope="session", autouse=True)
def multiprocessors() -> None:
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    if not GPU:
        from trainers.kernels import products, projection

        products.processors = projection.processors = lambda device: 132  # type: ignore[assignment]
