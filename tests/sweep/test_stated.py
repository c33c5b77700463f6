"""What a sweep states of its points, where their runs are another sweep's with other literals."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from search_spaces import load_space_text, read_stored_space
from search_spaces.reports import AxisValue
from sweep.best import best_space, find_best
from sweep.compare import compare
from sweep.export import export_table
from sweep.grid_table import grid_table
from sweep.names import Status
from sweep.notebook import LoadedSweep
from sweep.plan import make_plan
from sweep.record import Record, load_record
from sweep.report.points import axis_values, select, switch_points
from sweep.stated import StatedCells, last_switch, setting, switch_steps
from sweep.verdicts import load_runs
from tests.fresh_database import fresh_database
from tests.sweep.small_sweep import open_ledger
from trainers.canonical import cell_id, stages
from trainers.cell import Cell, Condition, Phase, Probe, Solver
from trainers.options import Choice

LOSS = "final/train_loss"
STEPS = 20


class Shared:
    """Sweeps in one store; each new cell ends with a loss that counts the cells."""

    def __init__(self, folder: Path) -> None:
        (folder / "mlflow.db").write_bytes(fresh_database())
        self.ledger = open_ledger(folder)
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.losses: dict[str, float] = {}

    def run(self, name: str, axes: Mapping[str, Any], *phases: Mapping[str, Any]) -> Record:
        return self.run_grids(name, [{"name": "grid", "axes": dict(axes)}], *phases)

    def run_grids(self, name: str, grids: Sequence[Any], *phases: Mapping[str, Any], **more: Any) -> Record:
        base = {"model": "mlp", "dataset": "mnist-5k", "phases": list(phases)}
        given = {"name": name, "base": base, "grids": list(grids), **more}
        space = load_space_text(yaml.safe_dump(given, sort_keys=False))
        plan = make_plan(space)
        table = grid_table(plan.grids, plan.axes, plan.cell_ids)
        sweep = self.ledger.open_sweep(space, table)
        self.ledger.write_plan(sweep, space, table)
        known = self.ledger.lookup(list(plan.cells), sweep)
        for address, cell in plan.cells.items():
            if address not in known:
                self.losses[address] = float(len(self.losses) + 1)
                run = self.ledger.start_cell(sweep, cell_id=address, cell=cell, axes=plan.axes_of(address))
                finals = {LOSS: self.losses[address]}
                self.ledger.finish_cell(run.run_id, Status.COMPLETED, finals=finals, timestamp_ms=1)
        return load_record(self.uri, name)


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared(tmp_path)


def test_a_missing_axis_is_what_the_sweep_states_and_not_what_its_run_was_made_with(shared: Shared) -> None:
    """The run was made with lr 0.1 over 1; the second sweep asks for it as 0.2 over 2."""
    shared.run("aa", {"alpha_dom": [1.0]}, {"lr": 0.1, "until": STEPS})
    divisors = {"alpha_dom": [2.0], "beta_bulk": [2.0]}
    second = shared.run("bb", divisors, {"lr": 0.2, "until": STEPS})
    third = shared.run("cc", {"lr": [0.1, 0.2], **divisors}, {"lr": 0.1, "until": STEPS})
    assert second.outcome(0).params["lr"] == "0.1" and second.cell_ids[0] == third.cell_ids[1]
    pairs = {pair.axes["lr"]: pair for pair in compare(second, third, (LOSS,)).pairs}
    assert pairs[0.2].metrics[LOSS].difference == 0.0
    assert pairs[0.1].first == ()


def test_an_axis_is_filled_in_by_its_path_and_not_by_its_name(shared: Shared) -> None:
    phases = {"lr": 0.1, "until": 10}, {"lr": 0.2, "until": STEPS}
    first = shared.run("aa", {"lr": {"path": "phases.0.lr", "values": [0.1, 0.2]}}, *phases)
    second = shared.run("bb", {"seed": [0]}, *phases)
    pairs = {pair.axes["lr"]: bool(pair.second) for pair in compare(first, second, (LOSS,)).pairs}
    assert pairs == {0.1: True, 0.2: False}


def test_switch_steps_are_the_points_own_whoever_made_the_run(shared: Shared) -> None:
    """With equal rates the two phases are one, so the cell is one whatever the switch point."""
    shared.run("aa", {"alpha_dom": [1.0]}, {"lr": 0.1, "until": STEPS})
    axes = {"switch_step": [0, 5, 10], "alpha_dom": [1.0, 2.0]}
    record = shared.run("bb", axes, {"lr": 0.1, "until": 5}, {"lr": 0.1, "until": STEPS})
    assert len({run.cell_id for run in load_runs(record) if run.axes["alpha_dom"] == 1.0}) == 1
    assert all(run.switch_step == run.axes["switch_step"] for run in load_runs(record))
    found = switch_points(record, range(len(record.cell_ids)), ("switch_step",))
    by_point = {key: set(cells.values()) for key, cells in found.items()}
    assert by_point == {(0,): {()}, (5,): {(5,)}, (10,): {(10,)}}


MIXED = [
    {"name": "numbers", "axes": {"k": [10, 5], "alpha_dom": [2, math.inf]}},
    {"name": "words", "axes": {"k": {"choices": {"auto": {"phases.0.k": 3}}}, "alpha_dom": [2, math.inf]}},
]


def test_numbers_beside_text_on_an_axis_are_numbers_again(shared: Shared) -> None:
    """A column of the table has one type; a filter, the order and the best space go by the labels."""
    reports = [{"kind": "finals", "name": "own", "x": "alpha_dom", "where": {"k": [10]}}]
    record = shared.run_grids("mixed", MIXED, {"lr": 0.1, "until": STEPS}, reports=reports)
    points = range(len(record.cell_ids))
    assert record.axes["k"] == (10, 10, 5, 5, "auto", "auto")
    assert axis_values(record, points, "k") == (5, 10, "auto")
    assert [record.axes["k"][point] for point in select(record, record.reports[0])] == [10, 10]
    metric, found = find_best(record, top=3)
    space = load_space_text(record.text)
    best = load_space_text(best_space(space, found, metric=metric, sweep="mixed", file="best.yaml"))
    assert [cell_id(point.cell) for point in best.points()] == list(record.cell_ids[:3])
    assert LoadedSweep(record).best()["k"].tolist() == ["10", "10", "5", "5", "auto", "auto"]
    assert export_table(record)["k"].to_pylist() == ["10", "10", "5", "5", "auto", "auto"]


def cell(*phases: Phase, **fields: Any) -> Cell:
    given: dict[str, Any] = {"model": Choice("mlp"), "dataset": Choice("mnist-5k"), "phases": phases}
    return Cell(**given | fields)


def ends(*untils: int | Condition) -> Cell:
    """Phases that differ, so that none merges with its neighbour."""
    return cell(*(Phase(lr=0.1 + 0.01 * index, until=until) for index, until in enumerate(untils)))


@pytest.mark.parametrize(
    ("untils", "switches"),
    [
        ((100, 400), (100,)),
        ((400,), ()),
        ((0, 400), ()),
        ((50, 50, 70, 400), (50, 70)),
        ((100, 50, 200), (100,)),
        ((100, 400, 400), (100,)),
    ],
)
def test_switch_points_are_where_stages_begin(untils: tuple[int, ...], switches: tuple[int, ...]) -> None:
    stated = ends(*untils)
    assert switch_steps(stated) == switches == tuple(stage.start for stage in stages(stated))[1:]
    assert last_switch(stated, None) == (switches[-1] if switches else None)


def test_a_condition_is_resolved_by_the_run_and_a_step_after_it_is_not() -> None:
    condition = Condition(chi_above=0.5, at_most=40)
    assert last_switch(ends(condition, 90), 6.0) == 6
    assert last_switch(ends(condition, 90), None) is None
    # Earlier versions recorded where the condition was met, though another phase follows.
    assert last_switch(ends(condition, 60, 90), 6.0) == 60
    assert switch_steps(ends(condition, 60, 90)) == (60,)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("seed", 3),
        ("model", "mlp(widths=8)"),
        ("dataset", "mnist-5k"),
        ("holdout_size", 5000),
        ("solver.tolerance", 0.1),
        ("phases.0.until", 5),
        ("phases.-1.lr", 0.2),
        ("phases.*.lr", None),
        ("phases.*.optimizer", "sgd"),
        ("phases.1.k", 10),
        ("phases.0.alpha_dom", math.inf),
        ("phases.2.lr", None),
        ("probes.0.every", 100),
        ("probes.0.k", 4),
    ],
)
def test_settings_by_path(path: str, expected: AxisValue | None) -> None:
    stated = cell(
        Phase(lr=0.1, until=5, alpha_dom=math.inf, k=3),
        Phase(lr=0.2, until=9),
        model=Choice.of("mlp", widths=(8,)),
        seed=3,
        holdout_size=None,
        solver=Solver(tolerance=0.1),
        probes=(Probe(name="curvature", options=(("k", 4),)),),
    )
    assert setting(stated, path) == expected


BASE = {"model": "mlp", "dataset": "mnist-5k", "phases": [{"lr": 0.1, "until": 5}, {"lr": 0.1, "until": 9}]}


def test_the_points_of_a_search_are_stated_by_its_journal_entries() -> None:
    search = {
        "axes": {
            "lr": {"low": 0.01, "high": 1.0},
            "k": {"low": 2, "high": 20},
            "method": {"choices": {"bulk": {"phases.-1.alpha_dom": math.inf}, "sgd": {}}},
        },
        "seeds": [0, 1],
        "cells": 4,
    }
    text = yaml.safe_dump({"name": "asked", "base": BASE, "search": search})
    stated = StatedCells(read_stored_space(text, origin="test"))
    axes: dict[str, AxisValue] = {"lr": 0.25, "k": 4.0, "method": "bulk", "seed": 1}
    (_, point) = load_space_text(text).sampled({"lr": 0.25, "k": 4, "method": "bulk"})
    found = stated.cell("known", axes)
    assert found is not None and cell_id(found) == cell_id(point.cell)
    assert (stated.paths("k"), stated.paths("method")) == (("phases.-1.k",), ())
    assert stated.cell("search", {**axes, "lr": 5.0}) is None
    assert stated.cell("search", {"lr": 0.25}) is None


@pytest.mark.parametrize("labels", [[10, 5], ["10", "5"], [10.0, 5.0]])
def test_a_point_is_found_by_what_a_table_has_made_of_its_labels(labels: Sequence[AxisValue]) -> None:
    grids = [{"name": "a", "axes": {"k": [10, 5]}}]
    stated = StatedCells(
        read_stored_space(yaml.safe_dump({"name": "s", "base": BASE, "grids": grids}), origin="")
    )
    assert [found.phases[-1].k for k in labels if (found := stated.cell("a", {"k": k}))] == [10, 5]
    assert stated.cell("a", {"k": 7}) is None
    assert stated.cell("a", {}) is None
    assert stated.cell("b", {"k": 10}) is None
