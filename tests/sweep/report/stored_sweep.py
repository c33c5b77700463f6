"""Writes a sweep into a real MLflow store the way the ledger and the recorder do, from plain values.

So the reader and the reports are tested against the format and not against the code that writes it.
"""

import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from sweep import names
from sweep.names import Status

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FIRST_TIMESTAMP_MS = 1_700_000_000_000
INITIAL_LOSS = 0.5


@dataclass
class StoredCell:
    """One cell to be stored; `status` pending means that it has no run."""

    status: Status = Status.COMPLETED
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    histories: dict[str, Sequence[tuple[int, float]]] = field(default_factory=dict)


Point = tuple[str, Mapping[str, Any], str]
"""Grid, axes, cell id."""


def store_sweep(
    client: MlflowClient,
    name: str,
    points: Sequence[Point],
    cells: Mapping[str, StoredCell],
    *,
    space_text: str = "reports: []\n",
    root: Path,
    referred: Mapping[str, str] | None = None,
) -> str:
    """Store a sweep; `referred` names runs of other sweeps by cell. Returns the parent's run id."""
    experiment = client.create_experiment(name, artifact_location=(root / "artifacts" / name).as_uri())
    parent = client.create_run(
        experiment,
        run_name=name,
        tags={
            names.TAG_ROLE: names.ROLE_SWEEP,
            names.TAG_NAME: name,
            names.TAG_SPACE: name,
            names.TAG_GIT_COMMIT: COMMIT,
        },
    ).info.run_id
    runs = dict(referred or {})
    for cell_id, cell in cells.items():
        if cell.status is not Status.PENDING and cell_id not in runs:
            runs[cell_id] = store_cell(client, experiment, parent, name, cell_id, cell)
    client.log_text(parent, space_text, names.ARTIFACT_SPACE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / names.ARTIFACT_CELLS
        parquet.write_table(cells_table(points, cells, runs), path)
        client.log_artifact(parent, str(path))
    return parent


def store_cell(
    client: MlflowClient, experiment: str, parent: str, name: str, cell_id: str, cell: StoredCell
) -> str:
    """Store the run of one cell."""
    run_id = client.create_run(
        experiment,
        start_time=FIRST_TIMESTAMP_MS,
        tags={
            names.TAG_ROLE: names.ROLE_CELL,
            names.TAG_PARENT: parent,
            names.TAG_NAME: name,
            names.TAG_CELL_ID: cell_id,
        },
    ).info.run_id
    metrics = [
        Metric(key, value, FIRST_TIMESTAMP_MS + step, step)
        for key, history in cell.histories.items()
        for step, value in history
    ]
    metrics += [Metric(key, value, FIRST_TIMESTAMP_MS, 0) for key, value in cell.metrics.items()]
    params = [Param(key, str(value)) for key, value in cell.params.items()]
    tags = [RunTag(names.TAG_STATUS, cell.status.value), RunTag(names.TAG_STATUS_REASON, cell.reason)]
    client.log_batch(run_id, metrics[:1000], params, tags)
    for start in range(1000, len(metrics), 1000):
        client.log_batch(run_id, metrics[start : start + 1000])
    client.set_terminated(run_id, cell.status.mlflow_status)
    return run_id


def cells_table(
    points: Sequence[Point], cells: Mapping[str, StoredCell], runs: Mapping[str, str]
) -> pa.Table:
    """Return `cells.parquet` in memory; its statuses are deliberately stale (all pending)."""
    axes = dict.fromkeys(axis for _, values, _ in points for axis in values)
    columns: dict[str, Any] = {"grid": [grid for grid, _, _ in points]}
    for axis in axes:
        values = [point[1].get(axis) for point in points]
        present = [value for value in values if value is not None]
        if all(isinstance(value, int) for value in present):
            kind = pa.int64()
        else:
            kind = pa.string() if any(isinstance(value, str) for value in present) else pa.float64()
        columns[names.AXIS_COLUMN_PREFIX + axis] = pa.array(values, kind)
    columns["cell_id"] = [cell_id for _, _, cell_id in points]
    columns["run_id"] = pa.array([runs.get(cell_id) for _, _, cell_id in points], pa.string())
    columns["status"] = [Status.PENDING.value for _ in points]
    columns["status_reason"] = ["" for _ in points]
    for column in ("final_train_loss", "final_test_accuracy", "final_steps"):
        columns[column] = pa.array([None for _ in points], pa.float64())
    return pa.table(columns)


_calls = itertools.count()


def grid(name: str, axes: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return the product of axes, with cell ids made of their values; no two calls share a cell."""
    call = next(_calls)
    points: list[dict[str, Any]] = [{}]
    for axis, values in axes.items():
        points = [{**point, axis: value} for point in points for value in values]
    texts = [",".join(f"{axis}={value}" for axis, value in point.items()) for point in points]
    return [(name, point, f"{call}/{name}:{text}") for point, text in zip(points, texts, strict=True)]


def space_text(name: str, points: Sequence[Point], reports: Sequence[Mapping[str, Any]]) -> str:
    """Return a space with the grids and axes of the points, as YAML that the project's own loader reads."""
    grids: dict[str, dict[str, dict[Any, None]]] = {}
    for grid_name, values, _ in points:
        axes = grids.setdefault(grid_name, {})
        for axis, value in values.items():
            axes.setdefault(axis, {})[value] = None
    space = {
        "name": name,
        "description": "A space of the tests.",
        "base": {
            "model": "mlp",
            "dataset": "mnist-5k",
            "probes": [{"name": "curvature"}],
            "phases": [{"lr": 0.1, "until": 100}, {"lr": 0.1, "until": 400}],
        },
        "grids": [
            {"name": grid_name, "axes": {axis: _axis(list(values)) for axis, values in axes.items()}}
            for grid_name, axes in grids.items()
        ],
        "reports": [dict(report) for report in reports],
    }
    return yaml.safe_dump(space, sort_keys=False, allow_unicode=True)


def _axis(values: list[Any]) -> Any:
    if any(isinstance(value, str) for value in values):
        return {"choices": {value: {"batch_size": 10 * (index + 1)} for index, value in enumerate(values)}}
    return values


def ended(
    loss: float, accuracy: float = 0.9, *, status: Status = Status.COMPLETED, steps: int = 400, **params: Any
) -> StoredCell:
    """Return a cell that ended with these finals."""
    return StoredCell(
        status=status,
        metrics={
            names.FINAL_TRAIN_LOSS: loss,
            names.FINAL_TEST_ACCURACY: accuracy,
            names.FINAL_STEPS: float(steps),
            names.STATUS_DIVERGED: float(status is Status.DIVERGED),
        },
        params={"model": "mlp", "dataset": "mnist-5k", "loss": "mse", **params},
        histories={"train/loss": [(0, INITIAL_LOSS), (steps, loss)]},
    )


def decay(
    rate: float, steps: int, every: int, *, floor: float = 0.0, seed: int = 0, blow_up: int | None = None
) -> list[tuple[int, float]]:
    """Return a noisy loss curve that may blow up at a step, ending non-finite."""
    random = np.random.default_rng(seed)
    curve: list[tuple[int, float]] = []
    for step in range(0, steps + 1, every):
        value = floor + (INITIAL_LOSS - floor) * math.exp(-rate * step)
        value *= 1 + (0.06 * float(random.standard_normal()) if step else 0)
        if blow_up is not None and step >= blow_up:
            value *= math.exp(0.08 * (step - blow_up))
            if value > 1e3:
                curve.append((step, math.inf))
                break
        curve.append((step, value))
    return curve
