"""The benchmarks' scripts in little, on a CPU: what they train, count and keep."""

import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import (
    block_product,
    bulk_step,
    eigenspace_refresh,
    full_data_hessian,
    lanes_throughput,
    plain_step,
    table1_whole,
)
from benchmarks.environment import read_results
from benchmarks.floors import flops_a_column, flops_a_step
from benchmarks.pieces import packs_of, train_a_piece
from benchmarks.problems import load
from benchmarks.synthetic import cifar_shaped
from benchmarks.timing import matrix_product
from search_spaces import load_space
from sweep.plan import make_plan
from tests.pages import DOCS
from tests.trainers.small_cells import bulk, made_data, sgd, small_cell
from trainers.canonical import cell_id
from trainers.chain import ChainObjective
from trainers.checkpoint import decode
from trainers.layers.recognition import chain_of
from trainers.losses import MeanSquaredError
from trainers.training import Trainer

PLAIN, BULK = 0.01, 0.3
"""Relative, of the flops that a row counts to those that are multiplied: the former count biases; those of
Hessian products inputs that are 0, too, and neither all products of hidden layers nor the projection."""


def flops_of(run: Callable[[], object]) -> int:
    """The flops of all matrix products of a pass."""
    # What adds to a matrix in its place is left out otherwise.
    adding = {torch.ops.aten.baddbmm_: lambda into, left, right, **_: 2 * math.prod(left) * right[-1]}
    with FlopCounterMode(display=False, custom_mapping=adding) as counted:
        run()
    return counted.get_total_flops()


def test_table1_is_the_search_space() -> None:
    cells = table1_whole.table1_cells()
    assert len(cells) == 39
    assert {cell_id(cell) for cell in cells} == set(make_plan(load_space("zs25-table1")).cells)


@pytest.mark.parametrize("hidden", [(5,), (5, 4, 6)])
def test_floors_are_held_against_what_passes_multiply(hidden: tuple[int, ...]) -> None:
    sizes = (7, *hidden, 3)
    layers = [nn.Linear(*pair, bias=False) for pair in itertools.pairwise(sizes)]
    module = nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))[:-1]
    objective = ChainObjective(chain_of(module, (7,)) or (), MeanSquaredError(0.5))
    params, inputs, targets = (
        torch.randn(1, *shape) for shape in ((objective.num_params,), (11, 7), (11, 3))
    )
    step = flops_of(lambda: objective.loss_and_gradient(params, inputs, targets))
    assert step == flops_a_step(module, 11)
    product, direction = objective.curvature(params, inputs, targets), torch.randn(1, 1, objective.num_params)
    product(direction)
    column = flops_of(lambda: product(direction))
    # Of every layer but the first a pass takes six products, of which the floor counts four.
    left_out = 2 * 2 * 11 * sum(layer.weight.numel() for layer in layers[1:])
    assert column == flops_a_column(module, 11) + left_out


def test_pieces_give_what_one_training_gives(tmp_path: Path) -> None:
    data = made_data()
    cells = [small_cell(sgd(40), bulk(250), evaluate_every=50, seed=seed) for seed in range(2)]
    whole = Trainer(cells, data=data)
    whole.advance(250)
    for count in range(1, 4):
        found = train_a_piece(
            cells, data, tmp_path, device="cpu", seconds=1e-9, watch=lambda trainer: {"saw": trainer.step}
        )
        assert len(found["pieces"]) == count and found["finished"] == (count == 3)
        assert found["pieces"][-1]["saw"] == found["steps"]
    assert [(piece["start"], piece["stop"]) for piece in found["pieces"]] == [
        (0, 100),
        (100, 200),
        (200, 250),
    ]
    for index in range(2):
        kept = decode((tmp_path / f"{index}.lane").read_bytes()).tensors["weights"]
        assert torch.equal(kept, whole.weights(index))
        assert found["lanes"][index]["refreshes"] == 42
    again = train_a_piece(cells, data, tmp_path, device="cpu", seconds=10, watch=lambda _: {})
    assert again["pieces"] == found["pieces"]


def test_the_packs_of_table1_train_one_after_the_other(tmp_path: Path) -> None:
    packs = packs_of(table1_whole.table1_cells(steps=1))
    assert sorted(len(pack) for pack in packs) == [12, 12, 15]
    small = [[packs[0][0]], [packs[1][-1]]]
    rows = table1_whole.train_packs(small, cifar_shaped(), tmp_path, device="cpu", seconds=60)
    assert all(row["finished"] and row["flops"] > 0 < row["share_of_matrix_rate"] for row in rows)


def test_cells_of_the_full_data_hessian_take_all_examples() -> None:
    one, other = full_data_hessian.cells_of(2, steps=1)
    assert one.holdout_size is None and one.refresh_every == 1 and one.seed != other.seed


@pytest.mark.parametrize("bulk", [False, True])
def test_throughput_counts_cell_steps(bulk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes, steps, repeats, taken = 3, 10, 2, {"lanes": 4.0, "loop": 2.5, "matrices": 0.5}
    multiplied: list[int] = []

    def in_turns(
        runs: Mapping[str, Callable[[], object]], repeats: int, device: str
    ) -> dict[str, list[float]]:
        for _ in range(repeats):
            runs["loop"]()
            multiplied.append(flops_of(runs["lanes"]))
        return {name: [seconds] * repeats for name, seconds in taken.items()}

    monkeypatch.setattr(lanes_throughput, "in_turns", in_turns)
    row = lanes_throughput.measure(load("mnist-5k"), lanes, bulk, steps, repeats, "cpu")
    assert row["cell_steps_per_second"] == lanes * steps / taken["lanes"]
    assert row["loop_steps_per_second"] == steps / taken["loop"]
    assert row["times_the_loop"] == pytest.approx(lanes * taken["loop"] / taken["lanes"])
    rate = 1e12 * row["matrix_tflops"]
    assert rate == pytest.approx(matrix_product("cpu")[1] / taken["matrices"])
    wanted = sum(multiplied) / repeats / taken["lanes"]
    assert row["share_of_matrix_rate"] * rate == pytest.approx(wanted, rel=BULK if bulk else PLAIN)


def test_steps_and_products_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_step, "STEPS", 20)
    monkeypatch.setattr(block_product, "WIDTHS", (4, 12))
    plain = plain_step.measure("mnist-5k", "mlp100-relu", steps=3, repeats=2, device="cpu")
    assert plain["times_the_loop"] > 0
    with_refreshes = bulk_step.measure("mnist-5k", "mlp100-relu", 500, repeats=1, device="cpu")
    assert with_refreshes["columns_a_refresh"] >= 12 and with_refreshes["times_a_plain_step"] > 0
    found = block_product.measure("mnist-5k", "mlp100-relu", 500, repeats=1, device="cpu")
    assert found["coordinates"] < found["parameters"] == 89_610
    assert set(found["widths"]) == {"4", "12"}


def test_the_page_has_the_refreshes_that_were_measured() -> None:
    page = (DOCS / "performance.md").read_text()
    assert eigenspace_refresh.matrix(read_results("eigenspace_refresh")) in page
