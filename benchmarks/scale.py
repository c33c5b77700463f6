"""What a cell costs besides its training: trivial cells, side by side with bare Ray Tune and Optuna.

    python -m benchmarks.scale [--cells 2000] [--peer-cells 100] [--runs 5000] [--slots 2]

Every side trains cells of one kind (an MLP of one unit on MNIST-5k, 33 steps) and records 100 points of each,
the sweep once as many as the peers and once 2,000:

    sharpflat        `sweep run`: checkpoints, Parquet histories, one MLflow run a cell on SQLite
    ray tune         `tune.Tuner` with its `MLflowLoggerCallback` on SQLite, actors reused or not
    optuna           a study on SQLite with as many processes as slots, every point reported to the trial

Overhead is (wall x slots - training) / cells, the training being what the cells say they took: all that comes
before the first cell and after the last is part of it, so compare sides with equal numbers of cells. For the
sweep the driver's memory is read while it runs. Then `sweep status` and `sweep report` are timed over a store
of `--runs` runs, and `sweep plan` over 100,000 grid points, without and with prefixes to share. Prints a
table and writes JSON to `benchmarks/results/`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

from benchmarks.environment import describe, read_results, write_results

SPACE = """
name: scale
description: Trivial cells.
base:
  model: {{name: mlp, widths: [1]}}
  dataset: mnist-5k
  batch_size: 10
  evaluate_every: 1
  divergence_every: 33
  phases: [{{lr: 0.01, until: 33}}]
axes:
  lr: {rates}
  batch_size: {batches}
  seed: {seeds}
reports:
  - {{kind: heatmap, name: heatmap, x: lr, y: batch_size}}
  - {{kind: table, name: table, rows: [lr], columns: batch_size}}
"""
SEEDS, BATCHES = 10, 10
POINTS = "33 evaluations of 3 series and the last loss: 100 points"
SWEEP = [sys.executable, "-c", "from sweep.cli import main; main()"]


def space_text(cells: int) -> str:
    assert cells % (SEEDS * BATCHES) == 0, f"the number of cells must be a multiple of {SEEDS * BATCHES}"
    rates = [round(1e-3 * (1 + number), 6) for number in range(cells // (SEEDS * BATCHES))]
    return SPACE.format(rates=rates, batches=list(range(10, 10 + BATCHES)), seeds=list(range(SEEDS)))


def measure_sweep(folder: Path, cells: int, slots: int) -> dict[str, Any]:
    """Run the sweep as a user does."""
    (folder / "scale.yaml").write_text(space_text(cells))
    home = folder / "results"
    environment = {**os.environ, "SWEEP_HOME": str(home), "OMP_NUM_THREADS": "1"}
    begun = time.monotonic()
    process = subprocess.Popen(
        [*SWEEP, "run", "scale.yaml", "--cpus", str(slots)],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    memory: list[tuple[float, int]] = []
    while process.poll() is None:
        memory.append((time.monotonic() - begun, resident_kib(process.pid)))
        time.sleep(1.0)
    wall = time.monotonic() - begun
    assert process.returncode == 0, process.returncode
    training = sum(
        attempt["train_seconds"]
        for path in home.glob("artifacts/*/*/artifacts/environment.json")
        for attempt in json.loads(path.read_text())["attempts"]
    )
    inside = [kib for seconds, kib in memory if 0.2 * wall < seconds < 0.95 * wall]
    quarter = max(1, len(inside) // 4)
    return {
        **overhead(wall, slots, training, cells),
        "driver_mib_first_quarter": statistics.median(inside[:quarter]) / 1024,
        "driver_mib_last_quarter": statistics.median(inside[-quarter:]) / 1024,
    }


def overhead(wall: float, slots: int, training: float, cells: int) -> dict[str, Any]:
    return {
        "cells": cells,
        "wall_seconds": wall,
        "training_seconds": training,
        "overhead_ms": 1e3 * (wall * slots - training) / cells,
    }


def resident_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)


TRIAL = """
import sys, time
from pathlib import Path
sys.path.insert(0, ROOT)
import torch
torch.set_num_threads(1)
from search_spaces import load_space_text
from trainers.training import Trainer
from trainers.data import DATASETS

CELLS = [point.cell for point in load_space_text(SPACE).points()]
CHOICE = CELLS[0].dataset
DATA = DATASETS[CHOICE.name].load(Path("."), CHOICE.resolve("dataset", DATASETS[CHOICE.name].options))

def train(index):
    begun = time.monotonic()
    trainer = Trainer([CELLS[index]], data_folder=Path("."), data=DATA)
    trainer.advance(CELLS[index].num_steps)
    history = trainer.drain(0)
    rows = []
    for row, step in enumerate(history.steps):
        if history.timestamps_ms[row] is not None:
            names = ("train/loss", "test/accuracy", "train/grad_norm")
            values = {name: history.series[name][row] for name in names if name in history.series}
            rows.append((step, {name: value for name, value in values.items() if value is not None}))
    return rows, time.monotonic() - begun
"""

TUNE = """
import logging, os
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_CHDIR_TO_TRIAL_DIR="0")
import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
import trivial

class Trivial(tune.Trainable):
    def setup(self, config):
        self.reset_config(config)
    def reset_config(self, config):
        self.rows, self.seconds = trivial.train(config["index"])
        self.row = 0
        return True
    def save_checkpoint(self, folder):
        return {}
    def load_checkpoint(self, state):
        pass
    def step(self):
        step, values = self.rows[self.row]
        self.row += 1
        return {**values, "train_seconds": self.seconds, "done": self.row == len(self.rows)}

ray.init("local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
callbacks = [MLflowLoggerCallback(tracking_uri=URI, experiment_name="scale")]
tuner = tune.Tuner(
    tune.with_resources(Trivial, {"CPU": 1}),
    param_space={"index": tune.grid_search(list(range(CELLS)))},
    tune_config=tune.TuneConfig(reuse_actors=REUSE),
    run_config=tune.RunConfig(storage_path=FOLDER, callbacks=callbacks, verbose=0),
)
results = tuner.fit()
assert len(results) == CELLS and not results.errors
print("TRAINING", sum(result.metrics["train_seconds"] for result in results))
"""

OPTUNA = """
import multiprocessing, sys
import optuna
import trivial
optuna.logging.set_verbosity(optuna.logging.ERROR)

def objective(trial):
    rows, seconds = trivial.train(trial.suggest_int("index", 0, CELLS - 1))
    for step, values in rows:
        for number, value in enumerate(values.values()):
            trial.report(value, 3 * step + number)
    trial.set_user_attr("seconds", seconds)
    return rows[-1][1]["train/loss"]

def work():
    # A study does not keep its sampler. This one ends the study when all of the grid is done.
    sampler = optuna.samplers.GridSampler({"index": list(range(CELLS))})
    optuna.load_study(study_name="scale", storage=URI, sampler=sampler).optimize(objective)

if __name__ == "__main__":
    optuna.create_study(study_name="scale", storage=URI)
    processes = [multiprocessing.get_context("spawn").Process(target=work) for _ in range(SLOTS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    study, complete = optuna.load_study(study_name="scale", storage=URI), optuna.trial.TrialState.COMPLETE
    trials = study.get_trials(states=[complete])
    assert {trial.params["index"] for trial in trials} == set(range(CELLS))
    print("TRAINING", sum(trial.user_attrs["seconds"] for trial in trials))
"""


def measure_peer(folder: Path, script: str, cells: int, slots: int, *, reuse: bool = False) -> dict[str, Any]:
    """Run a peer's script in a fresh process."""
    root = Path(__file__).parents[1]
    trial = TRIAL.replace("ROOT", repr(str(root))).replace("SPACE", repr(space_text(cells)))
    (folder / "trivial.py").write_text(trial)
    settings = {
        "URI": f"sqlite:///{folder / 'record.db'}",
        "FOLDER": str(folder / "tune"),
        "CELLS": cells,
        "SLOTS": slots,
        "REUSE": reuse,
    }
    head = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    (folder / "peer.py").write_text(f"{head}\n{textwrap.dedent(script)}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "peer.py"], cwd=folder, env=environment, capture_output=True, text=True
    )
    wall = time.monotonic() - begun
    assert done.returncode == 0, done.stderr[-2000:]
    training = float(done.stdout.rpartition("TRAINING ")[2])
    return overhead(wall, slots, training, cells)


def measure_reading(folder: Path, runs: int) -> dict[str, Any]:
    """Fill a store with a sweep of so many ended cells, and time the commands that read it."""
    from search_spaces import load_space_text
    from sweep.grid_table import grid_table
    from sweep.ledger import Entries, Ledger
    from sweep.names import FINAL_STEPS, FINAL_TEST_ACCURACY, FINAL_TRAIN_LOSS, Status
    from sweep.plan import make_plan

    home = folder / "results"
    space = load_space_text(space_text(runs))
    plan = make_plan(space)
    ledger = Ledger.open(f"sqlite:///{home / 'mlflow.db'}", artifacts_root=home / "artifacts")
    table = grid_table(plan.grids, plan.axes, plan.cell_ids)
    sweep = ledger.open_sweep(space, table)
    ledger.write_plan(sweep, space, table)
    for number, (cell_id, cell) in enumerate(plan.cells.items()):
        entries = Entries()
        run = ledger.start_cell(
            sweep, cell_id=cell_id, cell=cell, axes=plan.axes_of(cell_id), entries=entries
        )
        finals = {FINAL_TRAIN_LOSS: 1 / (1 + number), FINAL_TEST_ACCURACY: 0.5, FINAL_STEPS: 33.0}
        ledger.finish_cell(run.run_id, Status.COMPLETED, finals=finals, step=33, entries=entries)
    found: dict[str, Any] = {"runs": runs}
    environment = {**os.environ, "SWEEP_HOME": str(home), "OMP_NUM_THREADS": "1"}
    for command in (["status", "scale", "--json"], ["report", "scale"]):
        seconds: list[float] = []
        for _ in range(3):
            begun = time.monotonic()
            subprocess.run(
                [*SWEEP, *command], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
            )
            seconds.append(time.monotonic() - begun)
        found[f"{command[0]}_seconds"] = statistics.median(seconds)
    return found


PLANS = {
    "plan": "phases: [{lr: 0.1, until: 20000}]",
    "plan, with forks": "phases: [{lr: 0.1, until: 100}, {lr: 0.1, until: 20000}]",
}
PLAN_SPACE = """
name: large
base: {{model: mlp, dataset: mnist-5k, {phases}}}
axes:
  alpha_dom: {divisors}
  beta_bulk: {divisors}
  seed: {seeds}
"""
PLANNED_CELLS = 100_000


def measure_plan(folder: Path, phases: str) -> dict[str, Any]:
    """Time `sweep plan` of 100,000 grid points, all of the command: divisors of 100 by 100, 10 seeds."""
    divisors = [round(0.1 * (1 + number), 1) for number in range(100)]
    (folder / "large.yaml").write_text(
        PLAN_SPACE.format(phases=phases, divisors=divisors, seeds=list(range(10)))
    )
    environment = {**os.environ, "SWEEP_HOME": str(folder / "results"), "OMP_NUM_THREADS": "1"}
    runs: list[tuple[float, float]] = []
    for _ in range(3):
        begun = time.monotonic()
        process = subprocess.Popen(
            [*SWEEP, "plan", "large.yaml", "--json"], cwd=folder, env=environment, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0
        assert json.loads(said)["cells"] == PLANNED_CELLS
        runs.append((time.monotonic() - begun, used.ru_maxrss / 1024))
    seconds, peak = zip(*runs, strict=True)
    return {
        "cells": PLANNED_CELLS,
        "unique_cells": json.loads(said)["unique_cells"],
        "seconds": statistics.median(seconds),
        "peak_mib": max(peak),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--peer-cells", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="sides to measure")
    options = parser.parse_args()
    few, slots = options.peer_cells, options.slots
    sides = {
        "sharpflat": lambda folder: measure_sweep(folder, options.cells, slots),
        "sharpflat, as many cells as the peers": lambda folder: measure_sweep(folder, few, slots),
        "ray tune, actors reused": lambda folder: measure_peer(folder, TUNE, few, slots, reuse=True),
        "ray tune, its defaults": lambda folder: measure_peer(folder, TUNE, few, slots),
        "optuna": lambda folder: measure_peer(folder, OPTUNA, few, slots),
        "reading": lambda folder: measure_reading(folder, options.runs),
    }
    for name, phases in PLANS.items():
        sides[name] = lambda folder, phases=phases: measure_plan(folder, phases)
    for name, measure in sides.items():
        if options.only and name not in options.only:
            continue
        environment = describe()
        with tempfile.TemporaryDirectory(prefix="scale ") as folder:
            measured = measure(Path(folder))
        print(f"{name:37s}", {key: round(value, 2) for key, value in measured.items()}, flush=True)
        kept = read_results("scale").get("sides", {})
        kept[name] = {**measured, "slots": slots, "environment": environment}
        write_results("scale", {"points": POINTS, "sides": kept})


if __name__ == "__main__":
    main()
