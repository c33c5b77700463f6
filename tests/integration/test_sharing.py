"""Cells that several sweeps want, and grids that grow: each cell is run once, whoever asks for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.integration.processes import PATIENCE_SECONDS, Home

SPACE = """
name: NAME
description: A grid that takes seconds.
base:
  model: {name: mlp, widths: [8]}
  dataset: mnist-5k
  evaluate_every: 200
  divergence_every: 200
  phases: [{lr: 0.01, until: 600}]
axes:
  lr: RATES
  seed: [0]
reports:
  - {kind: curves, name: curves, lines: [lr]}
"""
QUICK = ("--commit-every", "0.3")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    made.lay_database()
    yield made
    made.close()


def write(home: Home, name: str, *rates: float) -> str:
    text = SPACE.replace("NAME", name).replace("RATES", str(list(rates)))
    (home.folder / f"{name}.yaml").write_text(text)
    return f"{name}.yaml"


def runs_by_rate(home: Home) -> dict[float, list[Run]]:
    client = MlflowClient(f"sqlite:///{home.database}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    found: dict[float, list[Run]] = {}
    for run in client.search_runs(experiments, "tags.`sweep.role` = 'cell'", max_results=1000):
        found.setdefault(float(run.data.params["lr"]), []).append(run)
    return found


def test_two_sweeps_that_start_at_once_share_their_cells(home: Home, ray: tuple[str, str]) -> None:
    spaces = {
        "left": write(home, "left", 0.01, 0.02, 0.03, 0.04),
        "right": write(home, "right", 0.03, 0.04, 0.05),
    }
    processes = {name: home.start("run", file, *QUICK, *ray) for name, file in spaces.items()}
    said = {name: process.communicate(timeout=PATIENCE_SECONDS) for name, process in processes.items()}
    for name, process in processes.items():
        assert process.returncode == 0, said[name]
        assert "Traceback" not in "".join(said[name])
    assert "4 completed" in said["left"][0] and "3 completed" in said["right"][0]
    assert sum("being run by other sweeps" in out for out, _ in said.values()) == 1, said
    runs = runs_by_rate(home)
    assert sorted(runs) == [0.01, 0.02, 0.03, 0.04, 0.05]
    assert [len(of_rate) for of_rate in runs.values()] == [1] * 5
    for of_rate in runs.values():
        assert of_rate[0].info.status == "FINISHED"
    # Both reports have all of their cells, whoever ran them.
    for name, count in (("left", 4), ("right", 3)):
        rows = home.run("export", name).splitlines()
        assert sum("completed" in row for row in rows) == count


def test_a_grid_grows_and_a_sweep_that_does_not_reuse_runs_its_own(home: Home, ray: tuple[str, str]) -> None:
    home.run("run", write(home, "grown", 0.01, 0.02), *QUICK, *ray)
    before = {rate: runs[0].info.run_id for rate, runs in runs_by_rate(home).items()}
    said = home.run("run", write(home, "grown", 0.01, 0.02, 0.03), *QUICK, *ray)
    assert "3 cells, 2 done before, 1 to do" in said
    grown = runs_by_rate(home)
    assert {rate: runs[0].info.run_id for rate, runs in grown.items() if rate in before} == before

    refused = home.run("run", "grown.yaml", "--no-reuse", *QUICK, *ray, code=2)
    assert "--name" in refused
    apart_options = ("--no-reuse", "--name", "apart", "--set", "lr=[0.01, 0.02]")
    said = home.run("run", "grown.yaml", *apart_options, *QUICK, *ray)
    assert "0 done before, 2 to do" in said
    apart = runs_by_rate(home)
    assert [len(runs) for runs in apart.values()] == [2, 2, 1]
    for rate in before:
        values = {repr(sorted(run.data.metrics.items())) for run in apart[rate]}
        assert len(values) == 1, "the same cell trained twice gives the same numbers"
    assert "2 done before, 0 to do" in home.run("resume", "apart", *QUICK, *ray)
    # Others still refer to the shared runs, and deleting the sweep that is apart leaves those alone.
    assert "2 done before, 0 to do" in home.run("run", write(home, "other", 0.01, 0.02), *QUICK, *ray)
    home.run("delete", "apart", "--yes")
    assert {
        rate: runs[0].info.run_id for rate, runs in runs_by_rate(home).items() if rate in before
    } == before


def test_another_version_of_the_numerics_is_refused_until_accepted(home: Home, ray: tuple[str, str]) -> None:
    home.run("run", write(home, "old", 0.01), *QUICK, *ray)
    client = MlflowClient(f"sqlite:///{home.database}")
    experiment = client.get_experiment_by_name("old")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`sweep.role` = 'sweep'")
    client.set_tag(parent.info.run_id, "sweep.numerics_version", "0")
    said = home.run("resume", "old", *QUICK, *ray, code=2)
    assert "version 0" in said and "--accept-version" in said
    assert "1 done before" in home.run("resume", "old", "--accept-version", *QUICK, *ray)
    assert "1 done before" in home.run("resume", "old", *QUICK, *ray)
