"""Reads a sweep back from MLflow alone: its space, its grid points, and the outcome of every cell.

The counterpart of the ledger and the recorder, which write. A reader needs the tracking URI and the sweep's
name and nothing else; the names it looks for are those of `sweep.names`. Reports are built on a `Record`.
"""

import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from search_spaces.reports import AxisValue, Report
from search_spaces.space import load_space_text
from sweep import names
from sweep.names import Status
from trainers.errors import ConfigError, SharpflatError, unknown_name

INITIAL_STEP = 0
HISTORY_OF_LOSS = "train/loss"
SEED_AXIS = "seed"

# What the initial training loss depends on; one history per combination is read instead of one per run.
INITIAL_LOSS_PARAMS = ("model", "dataset", "loss", "init", "seed")

RUNS_PER_PAGE = 1000
RUN_IDS_PER_FILTER = 200
HTTP_READERS = 8

# SQL has no infinity: MLflow stores the largest double in its place.
STORED_INFINITY = 1.7976931348623157e308


class RecordError(SharpflatError):
    """The record of a sweep cannot be read, or is not in the expected format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric of one run, by increasing step, one value a step.

    Args:
        steps: Training steps, int64, shape (points,).
        values: Values, float64, shape (points,); NaN and infinity as measured.
    """

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOutcome:
    """What MLflow knows about one cell.

    Args:
        cell_id: The cell's content address.
        run_id: Its run, or `None` when it has not been started.
        status: The recorded status; `None` when the run that the sweep refers to is gone from MLflow.
        reason: The recorded reason, or the empty string.
        metrics: The latest value of every metric.
        params: All params, as text.
        initial_loss: The training loss at step 0, or `None` when it was not recorded.
    """

    cell_id: str
    run_id: str | None = None
    status: Status | None = Status.PENDING
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    initial_loss: float | None = None

    @property
    def diverged(self) -> bool:
        """Whether the cell is shown as diverged: its status says so, or it ended above its initial loss."""
        if self.status is Status.DIVERGED:
            return True
        if self.status is not Status.COMPLETED or self.initial_loss is None:
            return False
        return self.metrics.get(names.FINAL_TRAIN_LOSS, -math.inf) > self.initial_loss

    @property
    def switch_steps(self) -> tuple[int, ...]:
        """The ends of all phases but the last, in order; empty phases left out."""
        ends: list[int] = []
        while (until := self.params.get(f"phase.{len(ends)}.until")) is not None:
            ends.append(int(float(until)))
        last = ends[-1] if ends else 0
        return tuple(sorted({end for end in ends if 0 < end < last}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A sweep as MLflow has it: one entry per grid point in the arrays, one outcome per distinct cell.

    Args:
        name: The sweep's name.
        space_name: The name of the space that it ran.
        space_sha256: Digest of the stored space.
        commit: The recorded git commit, or the empty string.
        reports: What the space wants drawn.
        grids: The grid of each point.
        axes: Axis name to the value at each point; `None` where the point's grid lacks the axis.
        cell_ids: The cell of each point.
        outcomes: Cell to what is known about it.
        parent_run_id: The sweep's own run, where reports are kept.
        client: For reading histories.
        remote: Whether MLflow is behind HTTP, where reading in parallel pays.
    """

    name: str
    space_name: str
    space_sha256: str
    commit: str
    reports: tuple[Report, ...]
    grids: tuple[str, ...]
    axes: Mapping[str, tuple[AxisValue | None, ...]]
    cell_ids: tuple[str, ...]
    outcomes: Mapping[str, CellOutcome]
    parent_run_id: str
    client: MlflowClient
    remote: bool = False

    def outcome(self, point: int) -> CellOutcome:
        """Return the outcome of the cell of a grid point."""
        return self.outcomes[self.cell_ids[point]]

    def counts(self) -> dict[str, int]:
        """Return the number of distinct cells by status, without zeros; "missing" where a run is gone."""
        counted = Counter("missing" if o.status is None else o.status.value for o in self.outcomes.values())
        order = [*(status.value for status in Status), "missing"]
        return {name: counted[name] for name in order if counted[name]}

    def histories(self, run_ids: Iterable[str], keys: Sequence[str]) -> dict[tuple[str, str], Series]:
        """Read metric histories.

        Args:
            run_ids: Runs to read.
            keys: Metric names.

        Returns:
            (run, metric) to its series; empty series where nothing was recorded.

        Raises:
            RecordError: The store does not answer.
        """
        wanted = [(run_id, key) for run_id in dict.fromkeys(run_ids) for key in keys]
        try:
            if not self.remote:
                return {pair: read_series(self.client, *pair) for pair in wanted}
            with ThreadPoolExecutor(HTTP_READERS) as pool:
                futures = [pool.submit(read_series, self.client, *pair) for pair in wanted]
                return {pair: future.result() for pair, future in zip(wanted, futures, strict=True)}
        except (MlflowException, SQLAlchemyError) as error:
            raise RecordError(f"cannot read the histories of {self.name!r}: {_first_line(error)}") from error


def read_series(client: MlflowClient, run_id: str, key: str) -> Series:
    """Read one metric of one run; where a step was recorded twice, the later record counts."""
    by_step = {metric.step: restored(metric.value) for metric in client.get_metric_history(run_id, key)}
    steps = sorted(by_step)
    return Series(
        steps=np.array(steps, dtype=np.int64),
        values=np.array([by_step[step] for step in steps], dtype=np.float64),
    )


def restored(value: float) -> float:
    """Undo MLflow's replacement of infinity by the largest double."""
    return math.copysign(math.inf, value) if abs(value) >= STORED_INFINITY else value


def load_record(tracking_uri: str, name: str) -> Record:
    """Read a sweep.

    Args:
        tracking_uri: Where MLflow is.
        name: The sweep's name.

    Raises:
        ConfigError: There is no such store or no such sweep.
        RecordError: The store does not answer or the record is damaged.
    """
    client = open_client(tracking_uri)
    try:
        experiment = _experiment(client, name)
        parent = _parent(client, experiment)
        origin = f"{names.ARTIFACT_SPACE} of sweep {name!r}"
        space = load_space_text(_artifact(client, parent, names.ARTIFACT_SPACE).decode(), origin=origin)
        columns = _columns(_artifact(client, parent, names.ARTIFACT_CELLS), name)
        cell_ids = tuple(columns["cell_id"])
        outcomes = _outcomes(client, experiment, cell_ids, columns["run_id"])
    except (MlflowException, SQLAlchemyError) as error:
        raise RecordError(f"cannot read sweep {name!r} from {tracking_uri}: {_first_line(error)}") from error
    prefix = names.AXIS_COLUMN_PREFIX
    return Record(
        name=name,
        space_name=parent.data.tags.get(names.TAG_SPACE, space.name),
        space_sha256=space.sha256,
        commit=parent.data.tags.get(names.TAG_GIT_COMMIT, ""),
        reports=tuple(space.reports),
        grids=tuple(columns["grid"]),
        axes={key.removeprefix(prefix): tuple(columns[key]) for key in columns if key.startswith(prefix)},
        cell_ids=cell_ids,
        outcomes=outcomes,
        parent_run_id=parent.info.run_id,
        client=client,
        remote=_is_remote(tracking_uri),
    )


def open_client(tracking_uri: str) -> MlflowClient:
    """Return a client for reading; refuse a SQLite file that is not there, which MLflow would create.

    Raises:
        ConfigError: The file does not exist.
        RecordError: The store cannot be opened.
    """
    if tracking_uri.startswith("sqlite"):
        database = make_url(tracking_uri).database
        if not database or not Path(database).is_file():
            raise ConfigError(
                f"no MLflow database at {database or tracking_uri!r}: nothing has been recorded there. "
                "Run a sweep first, or give the place of its record with --tracking-uri."
            )
    # A progress bar per artifact would break the lines of the command that reads.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        return MlflowClient(tracking_uri=tracking_uri)
    except (MlflowException, SQLAlchemyError) as error:
        raise RecordError(f"cannot open the MLflow store {tracking_uri}: {_first_line(error)}") from error


def _is_remote(tracking_uri: str) -> bool:
    return tracking_uri.startswith(("http://", "https://"))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _experiment(client: MlflowClient, name: str) -> Experiment:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        raise unknown_name(
            "sweep", name, (found.name for found in _all_experiments(client) if found.name != "Default")
        )
    if experiment.lifecycle_stage != "active":
        raise ConfigError(f"sweep {name!r} has been deleted; it is in MLflow's trash until that is emptied.")
    return experiment


def _all_experiments(client: MlflowClient) -> Iterator[Experiment]:
    token: str | None = None
    while True:
        page = client.search_experiments(max_results=RUNS_PER_PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _parent(client: MlflowClient, experiment: Experiment) -> Run:
    found = client.search_runs(
        [experiment.experiment_id],
        f"tags.`{names.TAG_ROLE}` = '{names.ROLE_SWEEP}'",
        max_results=1,
        order_by=["attributes.start_time ASC"],
    )
    if not found:
        raise ConfigError(
            f"the MLflow experiment {experiment.name!r} holds no sweep: no run is tagged as its parent."
        )
    return found[0]


def _artifact(client: MlflowClient, run: Run, path: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(client.download_artifacts(run.info.run_id, path, folder)).read_bytes()
        except OSError as error:
            raise RecordError(
                f"the record of the sweep has no {path}: {_first_line(error)}. The sweep may have been "
                "interrupted before its plan was stored; run it again."
            ) from error


def _columns(data: bytes, name: str) -> dict[str, list[Any]]:
    try:
        columns: dict[str, list[Any]] = parquet.read_table(pyarrow.BufferReader(data)).to_pydict()
    except pyarrow.ArrowException as error:
        raise RecordError(
            f"{names.ARTIFACT_CELLS} of sweep {name!r} is damaged: {_first_line(error)}"
        ) from error
    if missing := {"grid", "cell_id", "run_id"} - columns.keys():
        raise RecordError(f"{names.ARTIFACT_CELLS} of sweep {name!r} lacks {', '.join(sorted(missing))}.")
    return columns


def _outcomes(
    client: MlflowClient, experiment: Experiment, cell_ids: Sequence[str], run_ids: Sequence[str | None]
) -> dict[str, CellOutcome]:
    referred = {cell: run for cell, run in zip(cell_ids, run_ids, strict=True) if run is not None}
    filter_cells = f"tags.`{names.TAG_ROLE}` = '{names.ROLE_CELL}'"
    by_cell: dict[str, list[Run]] = {}
    by_run: dict[str, Run] = {}
    for run in _search(client, [experiment.experiment_id], filter_cells):
        by_run[run.info.run_id] = run
        by_cell.setdefault(run.data.tags.get(names.TAG_CELL_ID, ""), []).append(run)
    # A cell that another sweep had already run is referred to by its run id there.
    elsewhere = sorted(set(referred.values()) - by_run.keys())
    if elsewhere:
        experiments = [found.experiment_id for found in _all_experiments(client)]
        for start in range(0, len(elsewhere), RUN_IDS_PER_FILTER):
            quoted = ", ".join(f"'{run_id}'" for run_id in elsewhere[start : start + RUN_IDS_PER_FILTER])
            for run in _search(client, experiments, f"attributes.run_id IN ({quoted})"):
                by_run[run.info.run_id] = run
    chosen: dict[str, Run | None] = {}
    for cell_id in dict.fromkeys(cell_ids):
        run = by_run.get(referred.get(cell_id, ""))
        if run is None and cell_id in by_cell:
            run = min(by_cell[cell_id], key=_preference)
        chosen[cell_id] = run
    initial = _initial_losses(client, [run for run in chosen.values() if run is not None])
    return {
        cell_id: _outcome(cell_id, run, gone=cell_id in referred, initial=initial)
        for cell_id, run in chosen.items()
    }


def _search(client: MlflowClient, experiments: list[str], filter_string: str) -> Iterator[Run]:
    token: str | None = None
    while True:
        page = client.search_runs(experiments, filter_string, max_results=RUNS_PER_PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _status(run: Run) -> Status:
    tag = run.data.tags.get(names.TAG_STATUS, Status.RUNNING)
    try:
        return Status(tag)
    except ValueError as error:
        raise RecordError(
            f"run {run.info.run_id}: tag {names.TAG_STATUS} is {tag!r}, which is no status."
        ) from error


def _preference(run: Run) -> tuple[bool, int, str]:
    return (not _status(run).ended, run.info.start_time, run.info.run_id)


def _loss_group(run: Run) -> tuple[str | None, ...]:
    return tuple(run.data.params.get(param) for param in INITIAL_LOSS_PARAMS)


def _initial_losses(client: MlflowClient, runs: Sequence[Run]) -> dict[tuple[str | None, ...], float]:
    """Read the training loss at step 0 once for all runs that start from the same weights."""
    losses: dict[tuple[str | None, ...], float] = {}
    for run in runs:
        group = _loss_group(run)
        if group in losses or _status(run) is not Status.COMPLETED:
            continue
        series = read_series(client, run.info.run_id, HISTORY_OF_LOSS)
        if series.steps.size and series.steps[0] == INITIAL_STEP and math.isfinite(series.values[0]):
            losses[group] = float(series.values[0])
        else:
            losses[group] = math.inf
    return losses


def _outcome(
    cell_id: str, run: Run | None, *, gone: bool, initial: Mapping[tuple[str | None, ...], float]
) -> CellOutcome:
    if run is None:
        return CellOutcome(cell_id=cell_id, status=None if gone else Status.PENDING)
    loss = initial.get(_loss_group(run), math.inf)
    return CellOutcome(
        cell_id=cell_id,
        run_id=run.info.run_id,
        status=_status(run),
        reason=run.data.tags.get(names.TAG_STATUS_REASON, ""),
        metrics={key: restored(value) for key, value in run.data.metrics.items()},
        params=dict(run.data.params),
        initial_loss=loss if math.isfinite(loss) else None,
    )
