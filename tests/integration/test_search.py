"""A search that is killed, against one left alone; cells that are stopped early, killed there, and go on."""

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from search_spaces.space import load_space_text
from sweep.names import Status
from sweep.record import load_record
from sweep.search.asking import Asking, Ended
from sweep.search.events import Asked, Decided, Event, Known, Released, Told, event_from_json
from tests.integration.processes import Home, wait_until
from trainers.canonical import cell_id
from trainers.cell import Cell
from trainers.history import TEST_ACCURACY, TRAIN_LOSS
from trainers.training import Trainer

SPACE = """
name: little
description: A search that takes seconds.
base:
  model: {name: mlp, widths: [8]}
  dataset: mnist-5k
  evaluate_every: 400
  divergence_every: 400
  phases: [{lr: 0.05, until: 300}]
axes:
  lr: [0.0002, 0.1, 0.002]
search:
  axes:
    lr: {low: 0.01, high: 60, log: true}
  startup: 3
stopper: {kind: asha, grace: 400, factor: 2}
"""
CELLS = 6
SEARCH = ("search", "little.yaml", "--cells", str(CELLS), "--commit-every", "0.3")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    made.lay_database()
    (made.folder / "little.yaml").write_text(SPACE)
    yield made
    made.close()


def journal_files(home: Home, name: str) -> list[Path]:
    return sorted((home.folder / "results" / "artifacts" / name).glob("*/artifacts/journal/*.jsonl"))


def journal(home: Home, name: str) -> list[Event]:
    """The events of a sweep, from its artifacts."""
    lines = [line for file in journal_files(home, name) for line in file.read_text().splitlines()]
    return [event_from_json(json.loads(line)) for line in lines]


def cell_runs(home: Home, name: str) -> dict[str, Run]:
    client = MlflowClient(f"sqlite:///{home.database}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`sweep.role` = 'cell'", max_results=1000)
    runs = {run.data.tags["sweep.cell_id"]: run for run in found}
    assert len(runs) == len(found), "a cell has two runs"
    return runs


def ending(cell: Cell) -> Ended:
    """Train a cell in this process."""
    trainer = Trainer([cell])
    trainer.advance(cell.num_steps)
    lane = trainer.lanes[0]
    assert lane.outcome is not None, "trained to its end"
    metrics = {"final/train_loss": lane.finals[TRAIN_LOSS], "final/test_accuracy": lane.finals[TEST_ACCURACY]}
    return Ended(
        status=Status(lane.outcome.status), metrics=metrics, steps=lane.outcome.step, num_steps=cell.num_steps
    )


def undisturbed() -> tuple[list[Event], dict[str, Ended]]:
    """What the search asks and is told when nothing goes wrong, and how its cells end: no driver, no Ray."""
    space = load_space_text(SPACE).for_search({"cells": CELLS})
    asking, events, ends = Asking(space.search, []), list[Event](), dict[str, Ended]()
    while not asking.is_over(0.0):
        number, configuration = asking.ask()
        [point] = space.sampled(configuration)
        address = cell_id(point.cell)
        ends[address] = ending(point.cell)
        asked = Asked(number=number, configuration=configuration, cells=(address,), new=1, steps=300)
        asking.put(asked)
        asking.ended(address, ends[address])
        events += [asked, *asking.tell()]
    return events, ends


def without_times(events: list[Event]) -> list[Event]:
    """The questions and answers without the seconds that they took."""
    return [replace(event, seconds=0.0) if isinstance(event, Asked) else event for event in events]


def test_a_search_that_was_killed_asks_what_an_undisturbed_one_asks(home: Home, ray: tuple[str, str]) -> None:
    expected, ends = undisturbed()
    told = [event for event in expected if isinstance(event, Told)]
    assert any(event.result.diverged for event in told), "the space has rates that diverge"
    best = min(event.result.objectives[0] for event in told if not event.result.diverged)

    process = home.start(*SEARCH, *ray)

    def has_asked() -> bool:
        return sum(isinstance(event, Asked) for event in journal(home, "little-search")) >= 3

    assert wait_until(has_asked, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    said = home.run("resume", "little-search", *SEARCH[-2:], *ray)
    assert f"best: final/train_loss {best:.4g}" in said
    assert without_times(journal(home, "little-search")) == expected
    runs = cell_runs(home, "little-search")
    assert runs.keys() == ends.keys()
    for cell, run in runs.items():
        assert run.data.tags["sweep.status"] == ends[cell].status
        assert {name: run.data.metrics[name] for name in ends[cell].metrics} == ends[cell].metrics
    record = load_record(f"sqlite:///{home.database}", "little-search")
    assert record.counts().keys() <= {"completed", "diverged"} and len(record.outcomes) == CELLS
    assert record.search is not None and len(record.search.asked) == len(told)

    # Another search, for two objectives, is told of them before it asks for anything.
    said = home.run(
        *("search", "little.yaml", "--name", "front", "--cells", "1", "--sampler", "nsga2", *ray),
        *("--objective", "final/train_loss", "--objective", "final/test_accuracy"),
    )
    known = [event for event in journal(home, "front") if isinstance(event, Known)]
    assert len(known) == len([event for event in told if event.result.objectives]) > 0
    assert f"{len(known)} configurations were run before" in said
    assert "on the Pareto front: final/train_loss" in said
    assert len(cell_runs(home, "front")) == 1


def test_cells_are_stopped_early_and_go_on_to_what_they_would_have_been(
    home: Home, ray: tuple[str, str]
) -> None:
    process = home.start(
        *("run", "little.yaml", "--set", "num_steps=12000", "--commit-every", "0.3", "--first", "lr=0.1"),
        *("--time-limit", "1000", *ray),
    )

    def decisions() -> list[Decided]:
        return [event for event in journal(home, "little") if isinstance(event, Decided)]

    assert wait_until(lambda: any(decided.stops for decided in decisions()), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    first, *_, stopped = before = decisions()
    assert not first.stops and (stopped.stops, stopped.step) == (True, 400)
    # As if the first cell had been far worse there: whoever computed the decisions again would not see it.
    [file] = journal_files(home, "little")
    text = file.read_text()
    file.write_text(text.replace(json.dumps(first.value), "1e9"))
    before[0] = replace(first, value=1e9)

    home.run("resume", "little", "--commit-every", "0.3", "--first", "lr=0.1", *ray)
    after = decisions()
    assert after[: len(before)] == before
    assert len({(decided.cell_id, decided.step) for decided in after}) == len(after), "decided twice"
    record = load_record(f"sqlite:///{home.database}", "little")
    assert record.counts() == {"completed": 1, "stopped": 2}
    [other] = [decided for decided in after if decided.stops and decided.cell_id != stopped.cell_id]
    assert other.step > 400, "compared with the recorded value, it was the best at the first rung"
    runs = cell_runs(home, "little")
    for decided in (stopped, other):
        run = runs[decided.cell_id]
        assert run.info.status == "FINISHED" and run.data.tags["sweep.status"] == "stopped"
        assert run.data.tags["sweep.status_reason"] == decided.reason
        assert decided.step < run.data.metrics["final/steps"] < 12000

    # One of them goes on, and the other is left alone.
    one = stopped.cell_id
    home.run("resume", "little", "--cell", one[:8], *ray)
    assert Released(cell_id=one) in journal(home, "little")
    runs = cell_runs(home, "little")
    assert sorted(run.data.tags["sweep.status"] for run in runs.values()) == ["completed"] * 2 + ["stopped"]
    points = load_space_text(SPACE.replace("until: 300", "until: 12000")).points()
    cell = next(point.cell for point in points if cell_id(point.cell) == one)
    assert runs[one].data.metrics["final/train_loss"] == ending(cell).metrics["final/train_loss"]
    folder = Path(re.sub("^file://", "", runs[one].info.artifact_uri)) / "history"
    assert [path.name for path in folder.iterdir()] == ["part-000000000-000012000.parquet"]
