"""A search that is killed and resumed against one left alone; cells that are stopped early and go on."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from search_spaces.space import load_space_text
from sweep.record import load_record
from sweep.search.events import Asked, Decided, Event, Known, Released, Told, event_from_json
from tests.integration.processes import Home, wait_until
from trainers.canonical import cell_id
from trainers.history import TRAIN_LOSS
from trainers.training import Trainer

SPACE = """
name: little
description: A search that takes seconds.
base:
  model: {name: mlp, widths: [8]}
  dataset: mnist-5k
  evaluate_every: 100
  divergence_every: 100
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
SEARCH = ("search", "little.yaml", "--cells", str(CELLS), "--cpus", "1", "--commit-every", "0.3")


@pytest.fixture
def undisturbed(tmp_path: Path) -> Iterator[Home]:
    yield from _home(tmp_path / "undisturbed")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    yield from _home(tmp_path / "home")


def _home(folder: Path) -> Iterator[Home]:
    made = Home(folder)
    (made.folder / "little.yaml").write_text(SPACE)
    yield made
    made.close()


def journal(home: Home, name: str) -> list[Event]:
    """The events of a sweep, from its artifacts."""
    files = sorted((home.folder / "results" / "artifacts" / name).glob("*/artifacts/journal/*.jsonl"))
    return [event_from_json(json.loads(line)) for file in files for line in file.read_text().splitlines()]


def cell_runs(home: Home, name: str) -> dict[str, Run]:
    client = MlflowClient(f"sqlite:///{home.database}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`sweep.role` = 'cell'", max_results=1000)
    runs = {run.data.tags["sweep.cell_id"]: run for run in found}
    assert len(runs) == len(found), "a cell has two runs"
    return runs


def without_times(events: list[Event]) -> list[object]:
    """The questions and answers without the seconds that they took."""
    return [
        (event.number, event.configuration, event.cells, event.new) if isinstance(event, Asked) else event
        for event in events
    ]


def test_a_search_that_was_killed_asks_what_an_undisturbed_one_asks(home: Home, undisturbed: Home) -> None:
    said = undisturbed.run(*SEARCH)
    expected = journal(undisturbed, "little-search")
    asked = [event for event in expected if isinstance(event, Asked)]
    told = [event for event in expected if isinstance(event, Told)]
    assert sum(event.new for event in asked) == len(told) == CELLS
    assert any(event.result.diverged for event in told), "the space has rates that diverge"
    best = min(event.result.objectives[0] for event in told if not event.result.diverged)
    assert f"best: final/train_loss {best:.4g}" in said

    process = home.start(*SEARCH)

    def has_asked() -> bool:
        return sum(isinstance(event, Asked) for event in journal(home, "little-search")) >= 3

    assert wait_until(has_asked, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    home.run("resume", "little-search", *SEARCH[-4:])
    assert without_times(journal(home, "little-search")) == without_times(expected)
    mine, theirs = cell_runs(home, "little-search"), cell_runs(undisturbed, "little-search")
    assert mine.keys() == theirs.keys() == {cell for event in asked for cell in event.cells}
    for cell, run in mine.items():
        assert run.data.tags["sweep.status"] == theirs[cell].data.tags["sweep.status"]
        assert run.data.metrics == theirs[cell].data.metrics
    record = load_record(f"sqlite:///{home.database}", "little-search")
    assert record.counts().keys() <= {"completed", "diverged"} and len(record.outcomes) == CELLS

    # Another search, for two objectives, is told of them before it asks for anything.
    said = undisturbed.run(
        *("search", "little.yaml", "--name", "front", "--cells", "1", "--cpus", "1"),
        *("--sampler", "nsga2", "--objective", "final/train_loss", "--objective", "final/test_accuracy"),
    )
    known = [event for event in journal(undisturbed, "front") if isinstance(event, Known)]
    assert len(known) == len([event for event in told if event.result.objectives]) > 0
    assert f"{len(known)} configurations were run before" in said
    assert "on the Pareto front: final/train_loss" in said
    assert len(cell_runs(undisturbed, "front")) == 1


def test_cells_are_stopped_early_and_go_on_to_what_they_would_have_been(home: Home) -> None:
    longer = ("--set", "num_steps=20000", "--cpus", "1", "--commit-every", "0.3", "--first", "lr=0.1")
    home.run("run", "little.yaml", *longer, "--time-limit", "1000")
    record = load_record(f"sqlite:///{home.database}", "little")
    assert record.counts() == {"completed": 1, "stopped": 2}
    decided = [event for event in journal(home, "little") if isinstance(event, Decided)]
    stopped = {event.cell_id: event for event in decided if event.stops}
    assert len(stopped) == 2 and {event.step for event in stopped.values()} == {400}
    for cell, run in cell_runs(home, "little").items():
        if cell in stopped:
            assert run.info.status == "FINISHED" and run.data.tags["sweep.status"] == "stopped"
            assert run.data.tags["sweep.status_reason"] == stopped[cell].reason
            assert 400 < run.data.metrics["final/steps"] < 20000

    # One of them goes on, and the other is left alone.
    one = next(iter(stopped))
    home.run("resume", "little", "--cell", one[:8], "--cpus", "1")
    assert Released(cell_id=one) in journal(home, "little")
    runs = cell_runs(home, "little")
    assert sorted(run.data.tags["sweep.status"] for run in runs.values()) == ["completed"] * 2 + ["stopped"]
    points = load_space_text(SPACE.replace("until: 300", "until: 20000")).points()
    cell = next(point.cell for point in points if cell_id(point.cell) == one)
    trainer = Trainer([cell])
    trainer.advance(20000)
    assert runs[one].data.metrics["final/train_loss"] == trainer.lanes[0].finals[TRAIN_LOSS]
    folder = Path(re.sub("^file://", "", runs[one].info.artifact_uri)) / "history"
    assert [path.name for path in folder.iterdir()] == ["part-000000000-000020000.parquet"]
