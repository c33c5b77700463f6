"""The programs for a GPU compile for one, wherever there is none: their interpreter takes more than that."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

if find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from triton import compile as compile_program
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from trainers.kernels import combination, products, projection, small
from trainers.kernels.dense import TENSOR_CORES

HOPPER = GPUTarget("cuda", 90, 32)
MOST_SHARED_BYTES = 227 * 2**10
"""Of one program."""

TYPES = {torch.float64: "*fp64", torch.float32: "*fp32", torch.int32: "*i32", torch.int64: "*i64"}
OPTIONS = {"num_warps", "num_stages", "maxnreg", "enable_fp_fusion"}


class Compiler:
    """Stands for a program: compiles what it is started with, as it would be on a GPU."""

    def __init__(self, program: Any) -> None:
        self._program = program
        self.compiled = 0

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self._start

    def _start(self, *arguments: Any, **keywords: Any) -> None:
        names = self._program.arg_names
        given = dict(zip(names, arguments, strict=False)) | keywords
        options = {name: given.pop(name) for name in OPTIONS & given.keys()}
        signature = {name: self._type(name, given[name]) for name in names}
        where = {name: (index,) for index, name in enumerate(names)}
        source = ASTSource(
            self._program,
            signature,
            {where[name]: given[name] for name, kind in signature.items() if kind == "constexpr"},
            {
                where[name]: [["tt.divisibility", 16]]
                for name, kind in signature.items()
                if kind.startswith("*")
            },
        )
        found = compile_program(source, target=HOPPER, options=options)
        assert found.metadata.shared <= MOST_SHARED_BYTES
        self.compiled += 1

    def _type(self, name: str, value: Any) -> str:
        if isinstance(value, Tensor):
            return TYPES[value.dtype]
        if name.isupper():
            return "constexpr"
        return "fp32" if isinstance(value, float) else "i32"


@pytest.fixture(autouse=True)
def processors(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (products, projection):
        monkeypatch.setattr(module, "processors", lambda device: 132)


def compiler(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Compiler:
    found = Compiler(getattr(module, name))
    monkeypatch.setattr(module, name, found)
    return found


@pytest.mark.parametrize("tiles", [products.LARGE, products.SMALL, products.SLIM])
def test_products(tiles: products.Tiles, monkeypatch: pytest.MonkeyPatch) -> None:
    program, splitting = (compiler(monkeypatch, products, name) for name in ("_product", "_split"))
    left, right, second = torch.zeros(2, 3, 70, 64), torch.zeros(2, 3, 40, 64), torch.zeros(2, 3, 40, 32)
    others = second.new_zeros(2, 3, 32, 70).mT, products.halves(second)
    given = {"bias_NRJ": torch.zeros(2, 3, 40), "scale_NMS": torch.zeros(2, 70, 40)}
    products.multiply(torch.zeros(2, 3, 70, 40), (left, products.halves(right)), others, **given, tiles=tiles)
    assert (program.compiled, splitting.compiled) == (1, 2)


@pytest.mark.parametrize("length", [8, 40])
def test_sums_in_their_place(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program, splitting = (compiler(monkeypatch, products, name) for name in ("_product", "_split_across"))
    room = torch.zeros(600, 2, length, 120)
    tall, short = torch.zeros(600, 64, 2 * length), torch.zeros(600, 64, 120)
    assert products.place_sums(tall, short, room, room[..., 0])
    assert (program.compiled, splitting.compiled) == (1, 1)


def test_outputs_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    program = compiler(monkeypatch, products, "_product")
    weight, inputs = torch.zeros(200, 100, 784), torch.zeros(200, 50, 784)
    TENSOR_CORES.outputs(inputs, weight, torch.zeros(200, 100))
    TENSOR_CORES.gradient(torch.zeros(200, 50, 100), inputs, weight)
    assert program.compiled == 2


@pytest.mark.parametrize("same", [False, True])
def test_inner_products(same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [compiler(monkeypatch, products, name) for name in ("_product", "_gram")]
    for count in (24, 100):
        rows = torch.zeros(2, count, 1000)
        products.inner(rows, rows if same else rows[:, :12])
    assert [program.compiled for program in programs] == ([0, 2] if same else [2, 0])


@pytest.mark.parametrize("within", [False, True])
def test_projections(within: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    program = compiler(monkeypatch, projection, "_projection")
    rates, counts = torch.zeros(2, 1), torch.zeros(2, dtype=torch.int32)
    given = {"rates_N1": rates, "places_P": torch.arange(600, dtype=torch.int32)} if within else {}
    basis, vectors = torch.zeros(2, 10, 500 if within else 600), torch.zeros(2, 600)
    projection.add_projection(vectors, basis, vectors, rates, counts_N=counts, **given)
    monkeypatch.setattr(projection, "processors", lambda device: 1)
    projection.add_projection(vectors, basis, vectors, rates, counts_N=counts, **given)
    assert program.compiled == 2


@pytest.mark.parametrize("width", [12, 24, 100])
def test_combinations(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program = compiler(monkeypatch, combination, "_combination")
    rows, factors = torch.zeros(2, 2 * width, 1000), torch.zeros(2, width, 2 * width)
    combination.combine(rows, factors)
    combination.combine(rows, factors, unless=torch.zeros(1, dtype=torch.int32))
    assert program.compiled == 2


@pytest.mark.parametrize("width", [12, 32])
def test_small_algebra(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program = compiler(monkeypatch, small, "_first_ritz")
    gram = torch.zeros(2, 2 * width, 2 * width, dtype=torch.float64)
    given = {"tolerance": 0.1, "least_scale": 0.01, "rank_tolerance": 1e-5, "rounding": 1e-6}
    given["least_turned"] = 0.01
    small.first_ritz(gram, gram[:, 0, 0], torch.zeros(2, dtype=torch.int32), **given)
    assert program.compiled == 1
