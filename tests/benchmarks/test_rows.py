"""The benchmarks' scripts in little, on a CPU: what they train, count and keep."""

import math
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
from search_spaces import load_space
from sweep.plan import make_plan
from tests.trainers.small_cells import bulk, made_data, sgd, small_cell
from trainers.canonical import cell_id
from trainers.checkpoint import decode
from trainers.training import Trainer


def test_table1_is_the_search_space() -> None:
    cells = table1_whole.table1_cells()
    assert len(cells) == 39
    assert {cell_id(cell) for cell in cells} == set(make_plan(load_space("zs25-table1")).cells)


def test_floors_count_what_a_pass_multiplies() -> None:
    module = nn.Sequential(nn.Linear(7, 5, bias=False), nn.Tanh(), nn.Linear(5, 3, bias=False))
    counted = FlopCounterMode(display=False)
    with counted:
        module(torch.randn(11, 7)).sum().backward()
    assert flops_a_step(module, 11) == counted.get_total_flops()
    assert flops_a_column(module, 11) == 4 * 11 * 35 + 8 * 11 * 15


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
def test_throughput_counts_cell_steps(bulk: bool) -> None:
    row = lanes_throughput.measure(load("mnist-5k"), 2, bulk, steps=2, repeats=2, device="cpu")
    assert row["share_of_matrix_rate"] > 0
    assert math.isclose(row["times_the_loop"], row["cell_steps_per_second"] / row["loop_steps_per_second"])


def test_steps_and_products_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_step, "STEPS", 20)
    monkeypatch.setattr(block_product, "WIDTHS", (4, 12))
    plain = plain_step.measure("mnist-5k", "mlp100-relu", steps=3, repeats=2, device="cpu")
    assert 0.1 < plain["times_the_loop"] < 100
    with_refreshes = bulk_step.measure("mnist-5k", "mlp100-relu", 500, repeats=1, device="cpu")
    assert with_refreshes["columns_a_refresh"] >= 12 and with_refreshes["times_a_plain_step"] > 1
    found = block_product.measure("mnist-5k", "mlp100-relu", 500, repeats=1, device="cpu")
    assert found["coordinates"] < found["parameters"] == 89_610
    assert set(found["widths"]) == {"4", "12"}


def test_the_readme_has_the_refreshes_that_were_measured() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert eigenspace_refresh.matrix(read_results("eigenspace_refresh")) in readme
