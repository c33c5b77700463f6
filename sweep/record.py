"""Reads a sweep back from MLflow alone: its space, its grid points, and the outcome of every cell.

The counterpart of the ledger and the recorder, which write. A reader needs the tracking URI and the sweep's
name and nothing else; the names it looks for are those of `sweep.names`. Reports are built on a `Record`.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric

from search_spaces import read_stored_space
from search_spaces.claims import ClaimSpec
from search_spaces.reports import AxisValue, Report
from sweep import names
from sweep.errors import LedgerError
from sweep.holder import Holder
from sweep.lease import current_holder, last_epoch
from sweep.ledger import CellRun, Ledger, ParentRun
from sweep.ledger.connection import Artifacts, translated
from sweep.names import Status
from sweep.search.account import Account, account_of
from sweep.search.points import stored_events
from sweep.stated import StatedCells
from trainers.cell import Cell

SEED_AXIS = "seed"
HTTP_READERS = 8
READ_AHEAD = 2 * HTTP_READERS

SECONDS_NODES_ARE_SHOWN = 60.0
"""A node that the driver has not told of for so long, while it told of another, runs nothing any more."""

# SQL has no infinity: MLflow stores the largest double in its place.
STORED_INFINITY = 1.7976931348623157e308


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric of one run, by increasing step, one value a step.

    Args:
        steps: Training steps, int64, shape (points,).
        values: Values, float64, shape (points,); NaN and infinity as measured.
    """

    steps: np.ndarray
    values: np.ndarray


NO_SERIES = Series(steps=np.array([], dtype=np.int64), values=np.array([]))

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOutcome:
    """What MLflow knows about one cell.

    Args:
        cell_id: The cell's content address.
        run_id: Its run, or `None` when it has not been started.
        status: The recorded status; `None` when the run that the sweep refers to is gone from MLflow.
        reason: The recorded reason, or the empty string.
        metrics: The latest value of every metric.
        params: All params, as text. Of a run that several sweeps share they are the literals of the one that
            made it; what a sweep itself states is in `Record.stated`.
        started_ms: When its run was made; 0 without a run.
        ended_ms: When its run was closed; 0 while it is open.
        cost: What its training took, see `sweep.costs`; empty before its end.
        sweep: The sweep that ran it, which may be another one; empty without a run.
    """

    cell_id: str
    run_id: str | None = None
    status: Status | None = Status.PENDING
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    started_ms: int = 0
    ended_ms: int = 0
    cost: str = ""
    sweep: str = ""

    @property
    def diverged(self) -> bool:
        """Whether the cell ended as diverged."""
        return self.status is Status.DIVERGED

    @property
    def ended(self) -> bool:
        """Whether there is an outcome: completed, stopped or diverged."""
        return self.status is not None and self.status.ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A sweep as MLflow has it: one entry per grid point in the arrays, one outcome per distinct cell.

    Args:
        name: The sweep's name.
        space_name: The name of the space that it ran.
        space_sha256: Digest of the stored space.
        commit: The recorded git commit, or the empty string.
        dirty: Whether the sources had changes that were not committed.
        reports: What the space wants drawn.
        claims: What the paper says, and the bands.
        divergence_factor: Multiple of the initial loss above which runs of the space's base have diverged.
        text: The stored space.
        stated: The cells that it states.
        description: The first line of what the space says of itself.
        search: What a search has asked and what came of it; `None` for a grid.
        nodes: Node to how busy it was when last heard of, by the names of `sweep.node_use`.
        nodes_ms: When the driver last told of one; 0 where it never did.
        driver_since_ms: When the last of its drivers began; 0 where there was none.
        is_driven: Whether a driver holds it, as far as that can be told from here.
        lease_beat: What its driver changes all the time; empty where there never was one.
        grids: The grid of each point.
        axes: Axis name to the value at each point; `None` where the point's grid lacks the axis.
        cell_ids: The cell of each point.
        outcomes: Cell to what is known about it.
        parent_run_id: The sweep's own run, where reports are kept.
        client: For reading metrics.
        artifacts: The files of its runs.
        remote: Whether MLflow is behind HTTP, where reading in parallel pays.
        of_conditions: Run to the share of the eigenspaces by which its phases ended that had not converged,
            once its history has been read; `None` where there was none.
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
    artifacts: Artifacts
    stated: StatedCells
    dirty: bool = False
    remote: bool = False
    claims: tuple[ClaimSpec, ...] = ()
    divergence_factor: float = 10.0
    text: str = ""
    description: str = ""
    search: Account | None = None
    nodes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    nodes_ms: int = 0
    driver_since_ms: int = 0
    is_driven: bool = False
    lease_beat: str = ""
    of_conditions: dict[str, float | None] = field(default_factory=dict[str, float | None], compare=False)

    def outcome(self, point: int) -> CellOutcome:
        """Return the outcome of the cell of a grid point."""
        return self.outcomes[self.cell_ids[point]]

    def cell(self, point: int) -> Cell | None:
        """Return the cell of a grid point as the sweep states it; `None` where its space does not tell."""
        axes = {name: value for name, values in self.axes.items() if (value := values[point]) is not None}
        return self.stated.cell(self.grids[point], axes)

    def counts(self) -> dict[str, int]:
        """Return the number of distinct cells by status, without zeros; "missing" where a run is gone."""
        counted = Counter("missing" if o.status is None else o.status.value for o in self.outcomes.values())
        order = [*(status.value for status in Status), "missing"]
        return {name: counted[name] for name in order if counted[name]}

    def histories(self, run_ids: Iterable[str], keys: Sequence[str]) -> dict[tuple[str, str], Series]:
        """Read what MLflow has of metrics: a few hundred points each, see `sweep.thinning`.

        Args:
            run_ids: Runs to read.
            keys: Metric names.

        Returns:
            (run, metric) to its series; empty series where nothing was recorded.

        Raises:
            LedgerError: MLflow does not answer.
        """
        wanted = [(run_id, key) for run_id in dict.fromkeys(run_ids) for key in keys]
        return dict(zip(wanted, self.each(lambda pair: self.points(*pair), wanted), strict=True))

    def points(self, run_id: str, key: str) -> Series:
        """Read what MLflow has of one metric of one run.

        Where a step was recorded twice, the later record counts.

        Raises:
            LedgerError: MLflow does not answer.
        """
        with translated(f"reading the histories of {self.name!r}"):
            return _series_of(self.client.get_metric_history(run_id, key))

    def each(self, read: Callable[[T], R], of: Iterable[T]) -> Iterator[R]:
        """Read one thing after the other, in their order; several at a time where MLflow is behind HTTP.

        At most `READ_AHEAD` more are read than have been taken: whole histories are large.
        """
        if not self.remote:
            yield from map(read, of)
            return
        ahead: deque[Future[R]] = deque()
        with ThreadPoolExecutor(HTTP_READERS) as pool:
            try:
                for one in of:
                    ahead.append(pool.submit(read, one))
                    if len(ahead) > READ_AHEAD:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for unread in ahead:
                    unread.cancel()


def _series_of(points: Iterable[Metric]) -> Series:
    by_step = {metric.step: restored(metric.value) for metric in points}
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

    A cell that is marked as running, while no process holds the lease of this sweep or of the one that made
    its run, reads as interrupted.

    Args:
        tracking_uri: Where MLflow is.
        name: The sweep's name.

    Raises:
        ConfigError: There is no sweep of that name.
        LedgerError: MLflow does not answer, or the record is damaged.
    """
    ledger = Ledger.open(tracking_uri, create=False)
    sweep = ledger.find_sweep(name)
    space = read_stored_space(ledger.read_space(sweep), origin=f"{names.ARTIFACT_SPACE} of sweep {name!r}")
    table = ledger.read_cells(sweep)
    if table is None:
        raise LedgerError(f"sweep {name!r} has no {names.ARTIFACT_CELLS}; start it again with `sweep run`.")
    columns: dict[str, list[Any]] = table.to_pydict()
    runs, parent = ledger.lookup(columns["cell_id"], sweep), ledger.parent_run(sweep)
    runs = _without_a_driver(ledger, parent, name, runs)
    referred = {
        cell for cell, run in zip(columns["cell_id"], columns["run_id"], strict=True) if run is not None
    }
    tags = parent.data.tags
    stated = StatedCells(space)
    nodes, nodes_ms = _nodes(parent)
    return Record(
        name=name,
        space_name=tags.get(names.TAG_SPACE, space.name),
        space_sha256=space.sha256,
        commit=tags.get(names.TAG_GIT_COMMIT, ""),
        dirty=tags.get(names.TAG_GIT_DIRTY) == "true",
        reports=tuple(space.reports),
        grids=tuple(columns["grid"]),
        axes=_axes(columns, stated),
        cell_ids=tuple(columns["cell_id"]),
        outcomes={
            cell_id: _outcome(cell_id, runs.get(cell_id), gone=cell_id in referred)
            for cell_id in dict.fromkeys(columns["cell_id"])
        },
        parent_run_id=sweep.run_id,
        client=ledger.client,
        artifacts=ledger.artifacts,
        remote=tracking_uri.startswith(("http://", "https://")),
        claims=space.claims,
        divergence_factor=space.spec.base.divergence_factor,
        text=space.text,
        stated=stated,
        description=(space.description.strip().splitlines() or [""])[0].rstrip("."),
        nodes=nodes,
        nodes_ms=nodes_ms,
        driver_since_ms=_driver_since_ms(parent),
        is_driven=current_holder(parent) is not None,
        lease_beat=tags.get(names.TAG_LEASE_BEAT, ""),
        search=account_of(space.search, stored_events(space, ledger, sweep)) if space.is_search else None,
    )


def _axes(
    columns: Mapping[str, Sequence[Any]], stated: StatedCells
) -> dict[str, tuple[AxisValue | None, ...]]:
    prefix = names.AXIS_COLUMN_PREFIX
    return {
        axis: tuple(
            stated.label(grid, axis, value) for grid, value in zip(columns["grid"], values, strict=True)
        )
        for axis, values in (
            (key.removeprefix(prefix), columns[key]) for key in columns if key.startswith(prefix)
        )
    }


def _nodes(parent: ParentRun) -> tuple[dict[str, dict[str, float]], int]:
    """Return how busy the nodes were when the driver last heard of them, and when that was."""
    metrics = [
        metric
        # With their steps (the sweep's age in seconds), which `parent.data.metrics` lacks.
        for metric in parent.data.to_proto().metrics
        if metric.key.startswith(names.SYSTEM_METRIC_PREFIX)
    ]
    found: dict[str, dict[str, float]] = {}
    heard: dict[str, int] = {}
    for metric in metrics:
        node, _, name = metric.key.removeprefix(names.SYSTEM_METRIC_PREFIX).rpartition("/")
        found.setdefault(node, {})[name] = metric.value
        heard[node] = max(heard.get(node, 0), metric.step)
    newest = max(heard.values(), default=0)
    shown = {node: use for node, use in found.items() if newest - heard[node] <= SECONDS_NODES_ARE_SHOWN}
    return shown, max((metric.timestamp for metric in metrics), default=0)


def _driver_since_ms(parent: ParentRun) -> int:
    taken = parent.data.params.get(f"{names.PARAM_LEASE_PREFIX}{last_epoch(parent)}")
    return 0 if taken is None else Holder.read(taken).since_ms


def _without_a_driver(
    ledger: Ledger, parent: ParentRun, name: str, runs: Mapping[str, CellRun]
) -> dict[str, CellRun]:
    """Show cells as interrupted that are marked as running while no process holds a lease over them.

    That is the lease of the sweep that made their run, or of this one, which may have taken it up since.
    """
    running = {run.sweep for run in runs.values() if run.status is Status.RUNNING}
    if not running or current_holder(parent) is not None:
        return dict(runs)
    held: set[str] = set()
    if running != {name}:
        held = {ledger.sweep_of(run).name for run in ledger.parent_runs() if current_holder(run) is not None}
    return {
        cell_id: replace(run, status=Status.INTERRUPTED)
        if run.status is Status.RUNNING and run.sweep not in held
        else run
        for cell_id, run in runs.items()
    }


def _outcome(cell_id: str, run: CellRun | None, *, gone: bool) -> CellOutcome:
    if run is None:
        return CellOutcome(cell_id=cell_id, status=None if gone else Status.PENDING)
    return CellOutcome(
        cell_id=cell_id,
        run_id=run.run_id,
        status=run.status,
        reason=run.reason,
        metrics={key: restored(value) for key, value in run.metrics.items()},
        params=run.params,
        started_ms=run.started_ms,
        ended_ms=run.ended_ms,
        cost=run.cost,
        sweep=run.sweep,
    )
