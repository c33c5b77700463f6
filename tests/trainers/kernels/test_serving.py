"""Which tensors the programs take, and what happens where they cannot be compiled."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainers.kernels.conftest import DEVICE, GPU
from trainers import kernels
from trainers.kernels import combination, products, projection, small

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy interprets, and warns of overflow

Program = Callable[..., Tensor | None]

FIRST = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    kernels._serve.cache_clear()
    if not GPU:
        # Interpreted, wider ones take ten seconds.
        monkeypatch.setattr(small, "WIDEST_BLOCK", 12)
    yield
    kernels._serve.cache_clear()


@pytest.fixture(scope="module")
def known() -> list[tuple[tuple[Tensor, ...], dict[str, float], tuple[Tensor, ...]]]:
    """Operands, options and results of `first_ritz`."""
    return []


@pytest.fixture
def found_once(known: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same operands `first_ritz`, which has most of the time, finds the same."""
    program = small.first_ritz

    def remembered(*operands: Tensor, **options: float) -> tuple[Tensor, ...]:
        for given, options_given, found in known:
            if options_given == options and all(map(torch.equal, given, operands)):
                return tuple(one.clone() for one in found)
        given = tuple(operand.clone() for operand in operands)
        found = program(*operands, **options)
        known.append((given, options, tuple(one.clone() for one in found)))
        return found

    monkeypatch.setattr(small, "first_ritz", remembered)


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


def coarse(operand: Any) -> Any:
    """What is left of operands without the small halves of their numbers."""
    if isinstance(operand, tuple):
        return tuple(map(coarse, operand))
    if operand is None:
        return None
    if operand.dim() == 5:
        return torch.stack([operand[0], torch.zeros_like(operand[1])])
    return ((operand.view(torch.int32) + 4096) & -8192).view(torch.float32)


def without_small_halves(program: Program) -> Program:
    return lambda first, *operands, **options: program(first, *map(coarse, operands), **options)


def changed(change: Callable[[Tensor], Tensor], program: Program) -> Program:
    def run(first: Tensor, *operands: Any, **options: Any) -> Tensor | None:
        result = program(first, *operands, **options)
        written = first if result is None else result
        written.copy_(change(written))
        return result

    return run


DEFECTS: dict[str, Callable[[Program], Program]] = {
    "small halves dropped": without_small_halves,
    "rows swapped": partial(changed, lambda result: result.flip(-2)),
    "a column lost": partial(
        changed, lambda result: result * (torch.arange(result.shape[-1]) > 0).to(result)
    ),
}


@pytest.mark.parametrize(
    "name, defect",
    [
        *((name, "small halves dropped") for name in ("multiply", "inner", "sums_over", "add_projection")),
        *(("combine", defect) for defect in DEFECTS),
    ],
)
@pytest.mark.usefixtures("found_once")
def test_wrong_numbers_are_found(name: str, defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = {"add_projection": projection, "combine": combination}.get(name, products)
    monkeypatch.setattr(module, name, DEFECTS[defect](getattr(module, name)))
    with pytest.raises(RuntimeError, match=f"wrong numbers.*{name}"):
        kernels._try_out(torch.device(DEVICE))


@pytest.mark.usefixtures("found_once")
def test_a_basis_that_is_not_orthonormal_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    program = small.first_ritz

    def coarser(*operands: Tensor, **options: float) -> tuple[Tensor, ...]:
        found, whole, unfinished = program(*operands, **options)
        return found, coarse(whole), unfinished

    monkeypatch.setattr(small, "first_ritz", coarser)
    with pytest.raises(RuntimeError, match="wrong numbers.*first_ritz"):
        kernels._try_out(torch.device(DEVICE))


def test_without_a_compiler_the_library_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(device: torch.device) -> None:
        raise RuntimeError("Failed to find C compiler.")

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(kernels, "_try_out", missing)
    with pytest.warns(UserWarning, match="Failed to find C compiler"):
        assert not kernels._serve(FIRST)
    assert not kernels._serve(FIRST), "said once"
