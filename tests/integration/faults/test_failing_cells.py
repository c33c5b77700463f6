"""A cell that raises, hangs or runs out of memory fails with its reason and log; the others go on."""

from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import load_text
from mlflow.entities import Run

from sweep import names
from tests.integration.faults.grid import Grid
from tests.integration.faults.matrix import MATRIX

SPACE = """
name: grid
description: Cells that fail in every way, and one that does not.
base:
  model: {name: mlp, widths: [16]}
  dataset: mnist-5k
  evaluate_every: 500
  divergence_every: 500
  phases: [{lr: 0.05, until: STEPS}]
axes:
  kind:
    choices:
      raises: {model: {name: file, path: BROKEN, function: raises}}
      hangs: {model: {name: file, path: BROKEN, function: hangs}}
      hangs once: {model: {name: file, path: BROKEN, function: hangs_once}}
      killed: {model: {name: file, path: BROKEN, function: killed}}
      no memory: {model: {name: mlp, widths: [400000000]}}
      good: {}
reports:
  - {kind: curves, name: curves, lines: [kind]}
"""
BROKEN = """
import math, os, signal, sys, time
from torch import nn

# Where it is planned, and built for it, everything is fine.
TRAINS = "worker" in sys.argv[0]

def good(input_shape, num_outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), num_outputs))

def raises(*given):
    if TRAINS:
        raise RuntimeError("this model cannot be built")
    return good(*given)

def hangs(*given):
    if TRAINS:
        time.sleep(3600)
    return good(*given)

def killed(*given):
    if TRAINS:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
    return good(*given)

def hangs_once(*given):
    if TRAINS and not os.path.exists(MARK):
        open(MARK, "w").close()
        time.sleep(3600)
    return good(*given)
"""
REASONS = {
    "raises": "this model cannot be built",
    "hangs": "no progress for",
    "killed": "died",
    "no memory": "memory",
}
RETRIES = min(MATRIX - 1, 1)
if MATRIX == 1:
    # Trying again is in test_workers.py, too; here it takes another six starts of a worker.
    SPACE = "".join(line for line in SPACE.splitlines(keepends=True) if "hangs once" not in line)


def test_cells_that_fail_in_every_way(
    make_grid: Callable[..., Grid], ray: tuple[str, str], tmp_path: Path
) -> None:
    options = ["--max-failures", str(RETRIES), "--hang-after", "4", *ray]
    broken = tmp_path / "broken.py"
    broken.write_text(BROKEN.replace("MARK", repr(str(tmp_path / "hung once"))))
    # That Ray has another working folder.
    grid = make_grid(space=SPACE.replace("BROKEN", f"'{broken}'"), steps=1000, options=options)
    said = grid.finish(grid.start(), code=1)
    good = {"good", "hangs once"} if MATRIX > 1 else {"good"}
    assert grid.statuses() == {"failed": len(REASONS), "completed": len(good)}
    runs = {run.data.params["kind"]: run for run in grid.runs().values()}
    for kind, reason in REASONS.items():
        tags = runs[kind].data.tags
        assert runs[kind].info.status == "FAILED"
        assert reason in tags["sweep.status_reason"], (kind, tags["sweep.status_reason"])
        assert tags["sweep.cell_id"] in said and tags["sweep.status_reason"][:40] in said
        assert log_of(grid, runs[kind]), f"{kind} left no log"
        # What the user has written fails whenever it is tried.
        assert attempts_of(grid, runs[kind]) in (0, 1 if kind == "raises" else 1 + RETRIES), kind
    if MATRIX > 1:
        assert attempts_of(grid, runs["hangs once"]) == 2
    for kind in good:
        assert runs[kind].info.status == "FINISHED"
        assert runs[kind].data.metrics["final/steps"] == 1000
    counts = grid.home.run("status", "grid", "--json", "--tracking-uri", grid.tracking_uri)
    assert f'"failed": {len(REASONS)}' in counts


def log_of(grid: Grid, run: Run) -> str:
    files = {file.path for file in MlflowClient(grid.tracking_uri).list_artifacts(run.info.run_id)}
    assert names.ARTIFACT_ERROR in files, files
    return load_text(f"{run.info.artifact_uri}/{names.ARTIFACT_ERROR}")


def attempts_of(grid: Grid, run: Run) -> int:
    folder = grid.storage / "cells" / run.data.tags["sweep.cell_id"] / "attempts"
    return len(list(folder.glob("a*-*.json")))
