"""Lanes are independent: a cell in a pack against the same cell alone."""

import pytest
import torch

from tests.trainers.small_cells import CURVATURE, DIVERGING, bulk, dom, made_data, sgd, small_cell
from tests.trainers.tolerances import FINALS, TRAJECTORY
from trainers import chain
from trainers.cell import Cell
from trainers.options import Choice
from trainers.training import Trainer


def pack(model: Choice, probes: bool) -> list[Cell]:
    fields: dict[str, object] = {"model": model, "probes": CURVATURE if probes else ()}
    return [
        small_cell(sgd(100), **fields),
        small_cell(sgd(13), bulk(100, k=2), seed=1, **fields),
        small_cell(sgd(40), dom(60), bulk(100, lr=0.02, k=3), seed=2, **fields),
        small_cell(sgd(100, lr=1e9), seed=3, **fields),
        small_cell(bulk(35), seed=4, **fields),
    ]


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        (Choice.of("mlp", widths=(8, 6)), torch.float64),
        (Choice.of("mlp", widths=(8, 6)), torch.float32),
        (Choice.of("cnn", channels=2), torch.float64),
    ],
)
def test_a_lane_equals_the_cell_alone(model: Choice, dtype: torch.dtype) -> None:
    data = made_data(dtype)
    cells = pack(model, probes=dtype == torch.float32)
    together = Trainer(cells, data=data, dtype=dtype)
    together.advance(100)
    assert together.finished
    for index, cell in enumerate(cells):
        alone = Trainer([cell], data=data, dtype=dtype)
        alone.advance(100)
        assert alone.lanes[0].outcome == together.lanes[index].outcome
        assert alone.lanes[0].refreshes == together.lanes[index].refreshes
        left, right = alone.weights(0), together.weights(index)
        if cell.phases[0].lr < 1:
            torch.testing.assert_close(left, right, rtol=0, atol=TRAJECTORY[dtype])
            assert alone.lanes[0].finals == pytest.approx(together.lanes[index].finals, rel=FINALS[dtype])
        else:
            # Weights that grow by orders of magnitude a step have no common digits, but end the same way.
            assert torch.equal(left.isnan(), right.isnan())
        one, other = alone.drain(0), together.drain(index)
        assert one.steps == other.steps and one.series.keys() == other.series.keys()
    statuses = [lane.outcome.status if lane.outcome else None for lane in together.lanes]
    assert statuses == ["completed", "completed", "completed", "diverged", "completed"]


def test_a_lane_may_end_where_another_is_refreshed() -> None:
    data, cells = made_data(), [small_cell(bulk(20)), small_cell(bulk(40), seed=1)]
    together = Trainer(cells, data=data)
    together.advance(40)
    for index, cell in enumerate(cells):
        alone = Trainer([cell], data=data)
        alone.advance(40)
        assert alone.lanes[0].outcome == together.lanes[index].outcome
        torch.testing.assert_close(
            alone.weights(0), together.weights(index), rtol=0, atol=TRAJECTORY[torch.float32]
        )


@pytest.mark.parametrize("ahead", [False, True])
def test_a_lane_may_end_while_it_is_refreshed(ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU a refresh begins before the steps before it are looked at; the others know nothing of it."""
    data, cells = made_data(), [small_cell(bulk(60, lr=lr), seed=seed) for seed, lr in DIVERGING.items()]
    alone = [Trainer([cell], data=data) for cell in cells]
    for one in alone:
        one.advance(60)
    monkeypatch.setattr(Trainer, "_begins_ahead", property(lambda _: ahead))
    together = Trainer(cells, data=data)
    together.advance(60)
    for index, one in enumerate(alone):
        lane, other = one.lanes[0], together.lanes[index]
        assert lane.outcome == other.outcome and lane.outcome is not None
        assert lane.refreshes == other.refreshes
        assert one.drain(0).steps == together.drain(index).steps
        if lane.outcome.status == "completed":
            torch.testing.assert_close(
                one.weights(0), together.weights(index), rtol=0, atol=TRAJECTORY[torch.float32]
            )
    assert [lane.outcome.status for lane in together.lanes if lane.outcome].count("diverged") == 2


@pytest.mark.parametrize("ahead", [False, True])
def test_where_it_is_paused_has_no_influence(ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that diverges leaves the others where the cells say; their last bits depend on who is there."""
    data, monitored = made_data(), {"evaluate_every": 1000, "divergence_every": 1000}
    monitored |= {"model": Choice.of("mlp", widths=(9, 7))}
    cells = [small_cell(sgd(60, lr=1e9), **monitored)]
    cells += [small_cell(sgd(60), seed=1, **monitored), small_cell(sgd(30), bulk(60), seed=2, **monitored)]
    monkeypatch.setattr(Trainer, "_begins_ahead", property(lambda _: ahead))
    whole, paused = Trainer(cells, data=data), Trainer(cells, data=data)
    whole.advance(60)
    pauses = 0
    while not paused.finished:
        paused.advance(60, pause=lambda: True)
        pauses += 1
    assert pauses > 1 and whole.lanes[0].outcome is not None
    for index, lane in enumerate(whole.lanes):
        assert lane.outcome == paused.lanes[index].outcome
        assert torch.equal(whole.weights(index).nan_to_num(), paused.weights(index).nan_to_num())


def test_one_lane_pauses_after_any_step() -> None:
    data, cell = made_data(), small_cell(sgd(13), bulk(40))
    whole, paused = Trainer([cell], data=data), Trainer([cell], data=data)
    whole.advance(40)
    for step in range(1, 41):
        paused.advance(40, pause=lambda: True)
        assert paused.step == step
    assert paused.lanes[0].outcome == whole.lanes[0].outcome
    assert torch.equal(whole.weights(0), paused.weights(0))
    one, other = whole.drain(0), paused.drain(0)
    assert one.steps == other.steps and one.series == other.series


def test_a_pack_resumes_with_ended_lanes() -> None:
    data = made_data()
    cells = pack(Choice.of("mlp", widths=(8,)), probes=False)
    whole = Trainer(cells, data=data)
    whole.advance(100)
    first = Trainer(cells, data=data)
    first.advance(52)
    second = Trainer(cells, data=data)
    second.restore([first.state(index) for index in range(len(cells))])
    assert second.step == 52
    second.advance(100)
    for index, lane in enumerate(whole.lanes):
        assert second.lanes[index].outcome == lane.outcome
        assert torch.equal(second.weights(index).nan_to_num(), whole.weights(index).nan_to_num())


@pytest.mark.parametrize(("widths", "budget"), [((16,), None), ((16, 32), None), ((16, 32), 2**17)])
def test_on_a_cpu_the_bits_of_aligned_lanes_do_not_depend_on_the_neighbours(
    widths: tuple[int, ...], budget: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of others they do: a product's kernel depends on where in memory a lane begins.

    With a small budget a product takes the examples in many chunks.
    """
    if budget is not None:
        monkeypatch.setitem(chain.TANGENT_BYTES, "cpu", budget)
    data = made_data()
    cells = [cell for cell in pack(Choice.of("mlp", widths=widths), probes=True) if cell.phases[0].lr < 1]
    together = Trainer(cells, data=data)
    together.advance(100)
    for index, cell in enumerate(cells):
        alone = Trainer([cell], data=data)
        alone.advance(100)
        assert torch.equal(alone.weights(0), together.weights(index))
        one, other = alone.drain(0), together.drain(index)
        for name, values in one.series.items():
            assert repr(values) == repr(other.series[name]), f"cell {index}: {name}"
