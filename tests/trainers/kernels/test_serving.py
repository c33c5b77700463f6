"""Which tensors the programs take, and what happens where they cannot be compiled."""

from collections.abc import Iterator

import pytest
import torch

from tests.trainers.kernels.conftest import DEVICE
from trainers import kernels
from trainers.kernels import products

FIRST = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    kernels._serve.cache_clear()
    yield
    kernels._serve.cache_clear()


def test_a_processor_and_float64_have_the_library() -> None:
    assert not kernels.serve(torch.zeros(2))
    assert not kernels.serve(torch.zeros(2, dtype=torch.float64, device=DEVICE))


@pytest.mark.parametrize("capability, taken", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_needs_tensor_cores_for_float32(
    capability: tuple[int, int], taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(kernels, "_try_out", lambda device: None)
    assert kernels._serve(FIRST) is taken


def test_the_programs_are_tried_out() -> None:
    kernels._try_out(torch.device(DEVICE))


@pytest.mark.parametrize("name", ["inner", "sums_over"])
def test_wrong_numbers_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(products, name)
    monkeypatch.setattr(products, name, lambda *operands: right(*operands) + 1)
    with pytest.raises(RuntimeError, match="wrong numbers"):
        kernels._try_out(torch.device(DEVICE))


def test_without_a_compiler_the_library_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(device: torch.device) -> None:
        raise RuntimeError("Failed to find C compiler.")

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(kernels, "_try_out", missing)
    with pytest.warns(UserWarning, match="Failed to find C compiler"):
        assert not kernels._serve(FIRST)
    assert not kernels._serve(FIRST), "said once"
