"""How a sweep stands: speed, the best, what went wrong, devices; and the pictures made of characters."""

import io
import json
import math
import time
from dataclasses import replace

import pytest
from rich.console import Console

from search_spaces.search import SearchSpec
from sweep.best import find_best
from sweep.costs import Cost
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.names import Status
from sweep.record import CellOutcome, Record, load_record
from sweep.search.account import Account
from sweep.standing import standing_of
from sweep.standing_view import device_text, heatmap_text, show, sparkline, sparkline_text, watch
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, ended, grid

START_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def record(store: Store) -> Record:
    """Six rates and two k: losses fall with the rate, the largest diverged, one runs, one waits."""
    points = grid("g", {"lr": [1, 2, 3, 4, 5, 6], "k": [2, 10]})
    cells: dict[str, StoredCell] = {}
    for _, axes, cell_id in points:
        cells[cell_id] = ended(0.6 / axes["lr"] + 0.001 * axes["k"], 0.1 * axes["lr"], seed=0)
        if axes["lr"] == 6:
            cells[cell_id] = ended(9.0, 0.1, status=Status.DIVERGED, seed=0)
            cells[cell_id].reason = "the loss is not finite"
    cells[points[0][2]] = ended(0.1, status=Status.RUNNING, seed=0)
    cells[points[1][2]] = StoredCell(status=Status.PENDING)
    found = store.record(points, cells)
    # MLflow sets the times itself: a cell a minute, ten seconds of training each, on two machines by turns.
    outcomes = {
        cell_id: replace(
            outcome,
            status=Status.RUNNING if index == 0 else outcome.status,
            started_ms=START_MS,
            ended_ms=START_MS + 60_000 * index,
            cost=Cost(seconds=10.0, work={"a": 1}, device=f"cpu on m{index % 2}").to_text(),
        )
        if index != 1
        else outcome
        for index, (cell_id, outcome) in enumerate(found.outcomes.items())
    }
    return replace(found, outcomes=outcomes)


def test_speed_is_that_of_the_last_cells_up_to_now(record: Record) -> None:
    """Ten cells ended, minutes 2 to 11; two are left."""
    standing = standing_of(record, now=START_MS / 1000 + 11 * 60)
    assert standing.cells_per_minute == pytest.approx(1.0)
    assert standing.eta_seconds == pytest.approx(120)
    assert standing_of(record, now=START_MS / 1000 + 20 * 60).cells_per_minute == pytest.approx(0.5)
    idle = dict(record.outcomes)
    idle[record.cell_ids[0]] = replace(record.outcome(0), status=Status.INTERRUPTED)
    assert math.isnan(standing_of(replace(record, outcomes=idle)).cells_per_minute)


def test_the_best_leaves_out_what_diverged(record: Record) -> None:
    loss, accuracy = standing_of(record).best
    assert loss.value == pytest.approx(0.6 / 5 + 0.002) and loss.place == "η = 5, k = 2"
    assert accuracy.value == pytest.approx(0.5)


def test_the_best_is_a_mean_over_seeds_as_sweep_best_has_it(store: Store) -> None:
    """The luckiest seed, and what has not all its seeds, are no best configuration."""
    points = [*grid("a", {"lr": [1, 2, 3], "seed": [0, 1]}), *grid("b", {"lr": [1], "seed": [0, 1]})]
    losses = iter([0.1, 0.9, 0.4, 0.42, 0.05, 0.2, 0.6, 0.6])
    cells = {cell: ended(next(losses), 0.5) for _, _, cell in points}
    cells[points[5][2]] = ended(0.2, status=Status.STOPPED)
    found = store.record(points, cells)
    standing = standing_of(found)
    loss, _ = standing.best
    assert (loss.value, loss.place) == (pytest.approx(0.41), "grid a, η = 2")
    assert loss.cells == (points[2][2], points[3][2]) == find_best(found)[1][0].cells
    json_best = standing.to_json()["best"]["final/train_loss"]
    assert json_best["cells"] == list(loss.cells) and json_best["std"] == pytest.approx(0.0141, rel=0.01)
    console = Console(file=io.StringIO(), width=120)
    show(found, console, pictures=False)
    assert "0.410 ±0.014 at grid a, η = 2 (mean of 2 seeds)" in console.file.getvalue()
    assert "best final training loss" in console.file.getvalue()


def test_reasons_and_devices_are_counted(record: Record) -> None:
    standing = standing_of(record)
    assert standing.reasons == {("diverged", "the loss is not finite"): 2}
    assert [(use.device, use.cells, use.seconds) for use in standing.devices] == [
        ("cpu on m0", 6, pytest.approx(60)),
        ("cpu on m1", 5, pytest.approx(50)),
    ]
    assert standing.devices[0].share == pytest.approx(60 / 600)
    console = Console(file=io.StringIO(), width=160)
    show(record, console, pictures=False)
    said = console.file.getvalue()
    assert "6 cells, 60 s of device time, busy 10% of the 10 min from first start to" in said
    values = json.loads(json.dumps(standing.to_json(), allow_nan=False))
    assert values["counts"]["diverged"] == 2 and values["cells"] == 12
    assert "pending" in replace(standing, counts={"completed": 12}).to_json()["counts"]


def test_speed_and_devices_are_of_its_own_cells_and_the_share_of_its_present_driver(record: Record) -> None:
    """Two cells were another sweep's, three had ended long before the driver began, at minute 7."""

    def changed(index: int, outcome: CellOutcome) -> CellOutcome:
        if index == 0:
            return replace(outcome, cost="")
        if index < 4:
            return replace(outcome, sweep="another", ended_ms=START_MS + 60_000 * 10)
        early = -600_000 if index < 7 else 0
        times = {"started_ms": outcome.ended_ms - 60_000 + early, "ended_ms": outcome.ended_ms + early}
        return replace(outcome, **times)

    outcomes = {cell: changed(index, o) for index, (cell, o) in enumerate(record.outcomes.items())}
    own = replace(record, outcomes=outcomes, driver_since_ms=START_MS + 60_000 * 7)
    standing = standing_of(own, now=START_MS / 1000 + 11 * 60)
    assert (standing.cells_per_minute, standing.eta_seconds) == (pytest.approx(1.0), pytest.approx(120))
    use = standing.devices[0]
    assert (use.device, use.cells, use.seconds, use.timed_cells) == ("cpu on m0", 4, pytest.approx(40), 2)
    assert (use.span_seconds, use.share) == (pytest.approx(180), pytest.approx(20 / 180))
    assert device_text(use).endswith("busy 11% of the 3 min from first start to last end of the last 2")
    waiting = {**outcomes, record.cell_ids[0]: replace(record.outcome(0), sweep="another")}
    assert math.isnan(standing_of(replace(own, outcomes=waiting)).cells_per_minute), "another one's cell runs"
    [_, idle] = standing_of(replace(own, driver_since_ms=START_MS + 60_000 * 60)).devices
    assert (idle.timed_cells, math.isnan(idle.share)) == (0, True)
    assert device_text(idle) == "4 cells, 40 s of device time"


def test_a_record_knows_who_ran_its_cells_and_when_its_driver_began(store: Store) -> None:
    points = grid("g", {"lr": [1, 2]})
    first = store.put(points, {points[0][2]: ended(0.1)})
    runs = {points[0][2]: str(load_record(store.uri, first).outcome(0).run_id)}
    name = store.put(points, {points[1][2]: ended(0.1)}, referred=runs)
    assert load_record(store.uri, name).driver_since_ms == 0
    with Lease.acquire(Ledger.open(store.uri), Ledger.open(store.uri).find_sweep(name)) as lease:
        since = lease.holder.since_ms
        driven = load_record(store.uri, name)
        assert driven.is_driven and driven.lease_beat.startswith(f"{lease.epoch}:")
    found = load_record(store.uri, name)
    assert not found.is_driven
    assert [outcome.sweep for outcome in found.outcomes.values()] == [first, name]
    assert found.driver_since_ms == since > 0, "also when it has gone"


def test_a_device_is_not_busy_for_longer_than_the_time(record: Record) -> None:
    """Several trials at once, or runs that are made after their training has begun."""
    long = Cost(seconds=900.0, work={"a": 1}, device="cpu").to_text()
    outcomes = {cell: replace(o, cost=long if o.cost else "") for cell, o in record.outcomes.items()}
    [use] = standing_of(replace(record, outcomes=outcomes)).devices
    assert (use.share, use.seconds, use.span_seconds) == (1.0, 9900.0, 660.0)


def test_nodes_are_shown_while_cells_run(record: Record) -> None:
    use = {"cpu_utilization_percentage": 93.4, "system_memory_usage_percentage": 41.0, "trials_running": 2.0}
    nodes = {"m0": {**use, "gpu_0_memory_usage_percentage": 12.0}}
    for seconds, when in ((5.0, "now"), (600.0, "10 min ago")):
        busy = replace(record, nodes=nodes, nodes_ms=int(1000 * (time.time() - seconds)))
        console = Console(file=io.StringIO(), width=120)
        show(busy, console, pictures=False)
        [line] = [one for one in console.file.getvalue().splitlines() if " m0: 2 trials" in one]
        assert line.split("  ", 2)[1] == when
        assert "m0: 2 trials, processors 93 %, gpu 0 memory 12 %, memory 41 %" in line
        assert standing_of(busy).to_json()["nodes_seconds"] == pytest.approx(seconds, abs=5.0)
    over = {cell: replace(o, status=Status.COMPLETED) for cell, o in record.outcomes.items()}
    assert standing_of(replace(busy, outcomes=over)).nodes == {}


def test_a_node_that_is_gone_is_not_busy(store: Store) -> None:
    points = grid("g", {"lr": [1]})
    name = store.put(points, {points[0][2]: ended(0.1)})
    assert (load_record(store.uri, name).nodes, load_record(store.uri, name).nodes_ms) == ({}, 0)
    ledger = Ledger.open(store.uri)
    sweep = ledger.find_sweep(name)
    for node in ("a", "b"):
        ledger.log_progress(sweep, {f"system/{node}/cpu_utilization_percentage": 90.0}, step=10)
    ledger.log_progress(sweep, {"system/c/trials_running": 1.0}, step=4_995)
    ledger.log_progress(sweep, {"system/b/trials_running": 2.0}, step=5_000)
    record = load_record(store.uri, name)
    assert record.nodes == {
        "b": {"cpu_utilization_percentage": 90.0, "trials_running": 2.0},
        "c": {"trials_running": 1.0},
    }
    assert abs(record.nodes_ms / 1000 - time.time()) < 60


def test_a_heatmap_of_characters(record: Record) -> None:
    lines = heatmap_text(record).splitlines()
    assert lines[1].split() == ["10", "--", "··", "▒▒", "▓▓", "██", "xx"]
    two = lines[2].split()
    assert two[0] == "2" and two[1] == ">>" and two[-1] == "xx" and two[-2] == "██" and two[2] == "··"
    assert "x diverged" in lines[-1] and "> running" in lines[-1] and "- pending" in lines[-1]


def test_equal_values_are_the_best_and_panels_share_a_scale(store: Store) -> None:
    points = grid("g", {"lr": [1, 2], "batch_size": [10, 20], "k": [2, 10]})
    spec = {"kind": "heatmap", "name": "h", "x": "lr", "y": "batch_size", "panels": "k"}
    equal = store.record(points, {cell: ended(0.5) for _, _, cell in points}, [spec])
    assert heatmap_text(equal).count("██") == 8
    points = grid("g", {"lr": [1, 2], "batch_size": [10, 20], "k": [2, 10]})
    apart = store.record(points, {cell: ended(0.1 * v["k"]) for _, v, cell in points}, [spec])
    text = heatmap_text(apart)
    assert (text.count("██"), text.count("··")) == (4, 4)


def test_a_sparkline_rises_with_its_values() -> None:
    assert sparkline([1, 10, 100, math.inf, 1000]) == "▁▃▆ █"
    assert sparkline([3, 3]) == "██"
    assert sparkline([math.inf]) == " "


def test_the_sparkline_says_what_it_spans(record: Record) -> None:
    text = sparkline_text(standing_of(record))
    assert text.startswith("lowest training loss of a cell") and text.endswith("0.302 to 0.122 over 10 cells")


def test_what_is_printed(record: Record) -> None:
    console = Console(file=io.StringIO(), width=120)
    show(record, console, pictures=True)
    text = console.file.getvalue()
    parts = (
        "12 cells, 12 grid points",
        "8 completed",
        "2 x the loss is not finite",
        "cpu on m1: 5 cells",
        "██",
    )
    assert [part for part in parts if part not in text] == []


def test_a_live_table_reads_until_all_have_ended(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    over = {cell: replace(o, status=Status.COMPLETED) for cell, o in record.outcomes.items()}
    reads = iter([record, record, replace(record, outcomes=over)])
    console = Console(file=io.StringIO(), width=120)
    watch(lambda: next(reads), console, pictures=False)
    assert len(pauses) == 2 and min(pauses) >= 2
    assert "12 completed" in console.file.getvalue()
    assert next(reads, None) is None


def test_a_live_table_of_a_search_stays_between_two_questions(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    search = SearchSpec.model_validate({"axes": {"lr": {"low": 1, "high": 6}}, "cells": 20})
    account = Account(search=search, trials=(), cells=12, steps=0, seconds=0.0)
    over = {cell: replace(o, status=Status.COMPLETED) for cell, o in record.outcomes.items()}
    asking = replace(record, outcomes=over, search=account, is_driven=True)
    reads = iter([asking, asking, replace(asking, is_driven=False)])
    watch(lambda: next(reads), Console(file=io.StringIO(), width=120), pictures=False)
    assert len(pauses) == 2 and next(reads, None) is None
    # A grid asks for nothing, whoever holds it.
    watch(lambda: replace(asking, search=None), Console(file=io.StringIO(), width=120), pictures=False)


def test_the_time_left_of_a_search_has_what_it_will_still_ask_for(record: Record) -> None:
    """Two cells are left of those that were asked for, and eight of the budget; a minute each."""

    def eta(**budget: object) -> float:
        search = SearchSpec.model_validate({"axes": {"lr": {"low": 1, "high": 6}}, **budget})
        account = Account(search=search, trials=(), cells=12, steps=0, seconds=0.0)
        return standing_of(replace(record, search=account), now=START_MS / 1000 + 11 * 60).eta_seconds

    assert eta(cells=20, seconds=1e6) == pytest.approx(600)
    assert eta(cells=10) == pytest.approx(120)
    assert math.isnan(eta(steps=1000)) and math.isnan(eta(seconds=1e6))


def test_a_live_table_ends_where_a_driver_falls_silent(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a driver on another machine lives is told by its beat alone."""
    now = [1000.0]

    def sleep(seconds: float) -> None:
        now[0] += 9.0

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr("sys.argv", ["sweep"])
    driven = replace(record, is_driven=True)
    beats = ["1:1", "1:1", "1:2", "1:2", "1:2", "1:2"]
    reads = iter([replace(driven, lease_beat=beat) for beat in beats])
    console = Console(file=io.StringIO(), width=40)
    watch(lambda: next(reads), console, pictures=False, given={"--tracking-uri": "sqlite:///a.db"})
    assert next(reads, None) is None
    said = console.file.getvalue().splitlines()[-1]
    assert said == (
        "its driver has not been heard of for 20 s; "
        f"go on with: sweep resume {record.name} --tracking-uri sqlite:///a.db"
    )
    # Without a driver it waits for one to go on.
    over = {cell: replace(o, status=Status.COMPLETED) for cell, o in record.outcomes.items()}
    reads = iter([*[replace(record, lease_beat="1:2")] * 5, replace(record, outcomes=over)])
    watch(lambda: next(reads), console, pictures=False)
    assert next(reads, None) is None


def test_a_heatmap_without_points_says_so(store: Store) -> None:
    points = grid("g", {"lr": [1, 2]})
    spec = {"kind": "heatmap", "name": "heat", "x": "lr", "y": "k"}
    found = store.record([*points, *grid("other", {"k": [1, 2]})], {}, [spec])
    assert heatmap_text(found) == "no heatmap: no grid point has both lr and k"


def test_characters_need_no_symbols_of_figures(store: Store) -> None:
    points = grid("g", {"lr": [1, 2], "alpha_dom": [1, 2], "k": [2, 10]})
    spec = {"kind": "heatmap", "name": "h", "x": "lr", "y": "alpha_dom", "panels": "k"}
    text = heatmap_text(store.record(points, {cell: ended(0.1) for _, _, cell in points}, [spec]))
    assert "$" not in text and "\nk = 10\n" in text
