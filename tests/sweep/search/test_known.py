"""What a search learns from sweeps that were recorded before it, with a real ledger."""

from collections.abc import Mapping

import pytest

from search_spaces import load_space_text
from search_spaces.reports import AxisValue
from sweep.grid_table import grid_table
from sweep.ledger import Ledger, Sweep
from sweep.names import FINAL_STEPS, FINAL_TRAIN_LOSS, Status
from sweep.search.known import known_configurations
from tests.sweep.small_sweep import FakeSpace
from trainers.canonical import cell_id

BASE = """
name: little
description: A search.
base:
  model: {name: mlp, widths: [8]}
  dataset: mnist-5k
  phases: [{lr: 0.05, until: 300}]
search:
  cells: 6
  axes:
"""
RANGE = load_space_text(BASE + "    lr: {low: 0.01, high: 60, log: true}\n")
CHOICES = load_space_text(BASE + "    lr: {values: [0.1, 2]}\n")
WHOLE = load_space_text(BASE + "    k: {path: phases.0.k, low: 1, high: 5}\n")


def record(
    ledger: Ledger, lr: float, points: list[Mapping[str, AxisValue]], *, status: Status = Status.COMPLETED
) -> Sweep:
    """Record a sweep whose points are all one cell, that of a learning rate."""
    [point] = RANGE.sampled({"lr": lr})
    address = cell_id(point.cell)
    table = grid_table(["grid"] * len(points), points, [address] * len(points))
    space = FakeSpace(name="before")
    sweep = ledger.open_sweep(space, table)
    ledger.write_plan(sweep, space, table)
    run = ledger.start_cell(sweep, cell_id=address, cell=point.cell, axes=points[0], epoch=1)
    finals = {FINAL_TRAIN_LOSS: 0.25, FINAL_STEPS: 300.0} if status.ended else None
    ledger.finish_cell(run.run_id, status, finals=finals, step=300, timestamp_ms=1)
    return sweep


def own(ledger: Ledger) -> Sweep:
    return ledger.open_sweep(FakeSpace(name="own"), grid_table(["grid"], [{"lr": 1.0}], ["other"]))


def test_a_recorded_point_is_known_with_its_result(ledger: Ledger) -> None:
    record(ledger, 0.1, [{"lr": 0.1}])
    [known] = known_configurations(RANGE, ledger, own(ledger))
    assert known.configuration == {"lr": 0.1} and known.result.objectives == (0.25,)


@pytest.mark.parametrize("space", [RANGE, CHOICES])
def test_numbers_that_were_stored_beside_text_are_known(ledger: Ledger, space: object) -> None:
    record(ledger, 0.1, [{"lr": 0.1}, {"lr": "by hand"}])
    found = known_configurations(RANGE if space is RANGE else CHOICES, ledger, own(ledger))
    assert [known.configuration for known in found] == [{"lr": 0.1}]


def test_a_cell_that_has_not_ended_is_not_known(ledger: Ledger) -> None:
    record(ledger, 0.1, [{"lr": 0.1}], status=Status.INTERRUPTED)
    assert known_configurations(RANGE, ledger, own(ledger)) == []


def test_values_that_the_search_cannot_take_are_passed_over(ledger: Ledger) -> None:
    record(ledger, 0.1, [{"k": 0.5}, {"k": float("inf")}, {"k": float("nan")}, {"k": 9.0}])
    assert known_configurations(WHOLE, ledger, own(ledger)) == []
