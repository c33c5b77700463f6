"""A grid that is killed and resumed, against the same grid undisturbed: one run a cell, the same bits."""

import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.integration.faults.matrix import SEED_VARIABLE
from tests.integration.forked_workers import FORKS_VARIABLE
from tests.integration.processes import PATIENCE_SECONDS, Home, wait_until
from tests.integration.ray_head import RayHead

SPACE = """
name: little
description: A grid that takes seconds.
base:
  model: {name: mlp, widths: [16]}
  dataset: mnist-5k
  holdout_size: 100
  refresh_every: 10
  evaluate_every: 40
  divergence_every: 40
  probes: [{name: curvature, every: 80, holdout_size: 100, k: 3}]
  phases: [{lr: 0.05, until: 400}, {lr: 0.05, until: 2400}]
axes:
  alpha_dom: [1, .inf]
  beta_bulk: [2, 0.0001]  # What diverges ends at once: not first, where one has to be in training.
  seed: [0, 1]
reports:
  - {kind: heatmap, name: heatmap, x: alpha_dom, y: beta_bulk}
  - {kind: curves, name: curves, lines: [beta_bulk], panels: alpha_dom}
  - {kind: table, name: table, rows: [alpha_dom], columns: beta_bulk}
"""
COMMITS = ("--commit-every", "0.3")
QUICK = (*COMMITS, "--cpus", "1")
KILLS = 2


@pytest.fixture
def home(tmp_path: Path, forks: str) -> Iterator[Home]:
    made = Home(tmp_path / "a home", {FORKS_VARIABLE: forks})
    made.lay_database()
    (made.folder / "little.yaml").write_text(SPACE)
    yield made
    made.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, ray_head: RayHead) -> Iterator[Home]:
    made = Home(tmp_path_factory.mktemp("undisturbed"), {"RAY_AUTH_MODE": "disabled"})
    (made.folder / "little.yaml").write_text(SPACE)
    made.run("run", "little.yaml", *COMMITS, "--address", ray_head.address)
    yield made
    made.close()


def cell_runs(home: Home) -> dict[str, Run]:
    client = MlflowClient(f"sqlite:///{home.database}")
    experiment = client.get_experiment_by_name("little")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`sweep.role` = 'cell'", max_results=1000)
    cells = [run.data.tags["sweep.cell_id"] for run in found]
    assert len(cells) == len(set(cells)), "a cell has two runs"
    return {run.data.tags["sweep.cell_id"]: run for run in found}


def folder_of(run: Run) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://").replace("%20", " "))


def history(home: Home, run: Run) -> dict[str, list[object]]:
    """The Parquet history of a run without its timestamps."""
    parts = sorted((folder_of(run) / "history").glob("*.parquet"))
    assert [part.name for part in parts] == [
        f"part-000000000-{int(run.data.metrics['final/steps']):09d}.parquet"
    ]
    return parquet.read_table(parts[0]).drop_columns("timestamp_ms").to_pydict()


def assert_equal(home: Home, reference: Home) -> None:
    mine, expected = cell_runs(home), cell_runs(reference)
    assert mine.keys() == expected.keys()
    for cell_id, run in mine.items():
        other = expected[cell_id]
        assert run.info.status == other.info.status == "FINISHED"
        assert run.data.tags["sweep.status"] == other.data.tags["sweep.status"]
        assert repr(sorted(run.data.metrics.items())) == repr(sorted(other.data.metrics.items()))
        assert run.data.params == other.data.params
        assert repr(history(home, run)) == repr(history(reference, other))
    with sqlite3.connect(home.database) as database:
        repeated = database.execute(
            "select run_uuid, key, step, count(*) from metrics"
            " where key not like 'cells/%' and key not like 'best/%'"
            " group by run_uuid, key, step having count(*) > 1"
        ).fetchall()
        unfinished = database.execute("select count(*) from runs where status = 'RUNNING'").fetchone()
    assert repeated == []
    assert unfinished == (0,)


def assert_all_attempts_count(run: Run, *, num_attempts: int) -> None:
    """The environment of each attempt is kept, and the cell's cost is what all of them took."""
    attempts = json.loads((folder_of(run) / "environment.json").read_text())["attempts"]
    assert len({ran["attempt"] for ran in attempts}) == len(attempts) == num_attempts
    assert [ran["stop"] for ran in attempts[:-1]] == [ran["start"] for ran in attempts[1:]]
    assert all(ran["hostname"] for ran in attempts) and attempts[-1]["device_seconds"] > 0
    took = sum(ran["device_seconds"] for ran in attempts)
    assert json.loads(run.data.tags["sweep.cost"])["seconds"] == pytest.approx(took, abs=1e-3)


def test_names_in_mlflow(undisturbed: Home) -> None:
    runs = cell_runs(undisturbed)
    assert len(runs) == 8
    client = MlflowClient(f"sqlite:///{undisturbed.database}")
    for run in runs.values():
        parent = client.get_run(run.data.tags["mlflow.parentRunId"])
        assert parent.data.tags["sweep.role"] == "sweep"
        assert parent.info.status == "FINISHED"
        assert run.data.params["lr"] == "0.05" and run.data.params["alpha_dom"] in ("1.0", "inf")
        assert run.data.params["phase.0.until"] == run.data.params["switch_step"] == "400"
        assert run.data.metrics["status/diverged"] == float(run.data.tags["sweep.status"] == "diverged")
        assert {
            "train/loss",
            "test/accuracy",
            "train/grad_norm",
            "curvature/lambda_1",
        } <= run.data.metrics.keys()
        names = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert {"cell.json", "environment.json", "history"} <= names
    statuses = sorted(run.data.tags["sweep.status"] for run in runs.values())
    assert statuses == ["completed"] * 4 + ["diverged"] * 4


def test_killed_at_random_moments_and_resumed(home: Home, undisturbed: Home) -> None:
    seed = int(os.environ.get(SEED_VARIABLE, random.randrange(2**32)))
    print(f"kill moments from seed {seed}")
    draw = random.Random(seed)
    kills, in_mid_training = 0, 0
    while kills < KILLS or not in_mid_training:
        process = home.start(*(("run", "little.yaml") if kills == 0 else ("resume", "little")), *QUICK)
        before = set(home.cells_in_mid_training())
        if not wait_until(lambda before=before: bool(set(home.cells_in_mid_training()) - before), process):
            break
        # Somewhere in what follows: commits, ends of cells, starts of others.
        if not wait_until(_after(draw.uniform(0, 3)), process):
            break
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        kills += 1
        in_mid_training += bool(home.cells_in_mid_training())
    print(f"{kills} kills, {in_mid_training} of them with a cell in mid-training")
    assert in_mid_training, "never killed while a cell was in mid-training"
    home.run("resume", "little", *QUICK)
    assert_equal(home, undisturbed)


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def test_lanes_give_the_same_bits(home: Home, undisturbed: Home, ray: tuple[str, str]) -> None:
    process = home.start("run", "little.yaml", "--lanes", "4", *COMMITS, *ray)
    assert wait_until(lambda: len(home.cells_in_mid_training()) > 1, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert "of up to 3 cells at a time" in home.run("resume", "little", "--lanes", "3", *COMMITS, *ray)
    assert_equal(home, undisturbed)


@pytest.mark.parametrize("how", ["SIGINT", "stop"])
def test_stopped_cleanly_and_resumed(how: str, home: Home, undisturbed: Home, ray: tuple[str, str]) -> None:
    # Asking through MLflow takes longer than a little cell; what is asked there is not resumed here.
    longer = ("--set", "num_steps=400000") if how == "stop" else ()
    process = home.start("run", "little.yaml", *longer, *COMMITS, *ray)
    assert wait_until(lambda: bool(home.cells_in_mid_training()), process)
    if how == "SIGINT":
        os.kill(process.pid, signal.SIGINT)
    else:
        home.run("stop", "little")
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, out + err
    assert "sweep resume little" in out
    assert "RUNNING" not in {run.info.status for run in cell_runs(home).values()}
    killed = {cell for cell, run in cell_runs(home).items() if run.info.status == "KILLED"}
    in_mid_training = set(home.cells_in_mid_training())
    assert killed and killed >= in_mid_training
    if how == "SIGINT":
        home.run("resume", "little", *COMMITS, *ray)
        assert_equal(home, undisturbed)
        for cell in in_mid_training:
            assert_all_attempts_count(cell_runs(home)[cell], num_attempts=2)


def test_reports_need_nothing_but_mlflow(undisturbed: Home) -> None:
    undisturbed.run("report", "little", "--out", "first")
    (undisturbed.folder / "results" / "storage").rename(undisturbed.folder / "gone")
    try:
        undisturbed.run("report", "little", "--out", "second")
    finally:
        (undisturbed.folder / "gone").rename(undisturbed.folder / "results" / "storage")
    first = {
        path.relative_to(undisturbed.folder / "first"): path
        for path in undisturbed.folder.glob("first/**/*.*")
    }
    assert {path.suffix for path in first} == {".png", ".md", ".csv", ".html"}
    for name, path in first.items():
        assert (undisturbed.folder / "second" / name).read_bytes() == path.read_bytes(), name


def test_a_complete_sweep_is_left_alone_and_a_grown_one_is_grown(undisturbed: Home) -> None:
    assert "8 done before, 0 to do" in undisturbed.run("run", "little.yaml")
    before = {cell: run.info.run_id for cell, run in cell_runs(undisturbed).items()}
    said = undisturbed.run("run", "little.yaml", "--set", "beta_bulk=[0.0001]", code=2)
    assert "beta_bulk=2" in said and "--name" in said
    assert {cell: run.info.run_id for cell, run in cell_runs(undisturbed).items()} == before
