"""Cells in MLflow: one run a cell in the whole store, found by its address, whichever sweep ran it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlflow.entities import Metric, Param, Run, RunTag

from sweep import names
from sweep.grid_table import AxisValue
from sweep.ledger.connection import translated
from sweep.ledger.description import axis_metrics, cell_document, cell_params, run_name
from sweep.ledger.look import cell_note, method_of
from sweep.ledger.runs import TaggedRuns, now_ms
from sweep.ledger.sweeps import NOT_SHARED, Sweep
from sweep.names import Status
from sweep.plain_text import plain_text
from trainers.cell import Cell

FEW_CELLS = 8
"""Up to so many cells are looked up one by one."""

RUNS_PER_REQUEST = 10
"""So many runs are read in about the time that a request for one cell takes."""

MANY_CELLS = 1000
"""More cells are looked up by reading all runs: what each request takes grows with the store, too."""

REASON_LENGTH = 1000
ENTRIES_PER_CALL = 1000
PARAMS_PER_CALL = 100
"""How much MLflow takes at once."""


@dataclass(slots=True)
class Entries:
    """What is to be written to a run: params and tags by name, points of metrics."""

    params: dict[str, str] = field(default_factory=dict[str, str])
    metrics: list[Metric] = field(default_factory=list[Metric])
    tags: dict[str, str] = field(default_factory=dict[str, str])

    def __bool__(self) -> bool:
        return bool(self.params or self.metrics or self.tags)

    def add_history(self, metrics: Sequence[Metric], *, recorded_until: int) -> None:
        """Add points of a history; every row before `recorded_until` is among these or earlier ones."""
        self.metrics.extend(metrics)
        self.tags[names.TAG_RECORDED_UNTIL] = str(recorded_until)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRun:
    """The run of a cell, as recorded. Satisfies `grid_table.CellFate`.

    Args:
        cell_id: The cell.
        run_id: Its run.
        sweep: Name of the sweep that ran it.
        experiment_id: That sweep's experiment.
        status: From the tag; `RUNNING` without a live lease is an interrupted one.
        reason: Why.
        run_status: MLflow's own status of the run.
        started_ms: When the run was made.
        ended_ms: When it was closed; 0 while it is open.
        cost: What its training took, as `sweep.costs` writes it; empty before its end.
        recorded_until: Rows of the history before this step have been sent.
        metrics: Latest values.
        params: As text.
    """

    cell_id: str
    run_id: str
    sweep: str
    experiment_id: str
    status: Status
    reason: str = ""
    run_status: str = "RUNNING"
    started_ms: int = 0
    ended_ms: int = 0
    cost: str = ""
    recorded_until: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    params: Mapping[str, str] = field(default_factory=dict[str, str])


class CellRuns(TaggedRuns):
    """The runs of cells in a store."""

    def lookup(self, cell_ids: Collection[str], sweep: Sweep | None = None) -> dict[str, CellRun]:
        """Return the run of each of these cells that has one, whichever sweep that shares made it.

        Of several runs of one cell an ended one counts, of such the sweep's own; else the oldest, else one
        that something is in. The sweep's own runs are read first and others only for cells that have not
        ended there: most cells are their sweep's own, and a store may hold many times as many runs.

        Args:
            cell_ids: The cells.
            sweep: Whose they are; one that does not share has only its own runs.
        """
        left, shares = set(cell_ids), sweep is None or sweep.shares
        own = None if sweep is None else sweep.experiment_id
        runs: list[Run] = []
        with translated("looking for the runs of cells"):
            read_first = own is not None and (not shares or len(left) > FEW_CELLS)
            if own is not None and read_first:
                runs = self._runs_of(left, [own])
                left -= {run.data.tags.get(names.TAG_CELL_ID) for run in runs if _ended(run)}
            if shares and left:
                others = [one for one in self._experiment_ids() if not (read_first and one == own)]
                runs += [
                    run
                    for run in self._runs_of(left, others)
                    if run.data.tags.get(names.TAG_REUSE) != NOT_SHARED
                ]
        chosen = _chosen(runs, set(cell_ids), own)
        kept = {run.run_id for run in chosen.values()}
        for run in runs:
            if run.info.run_id in kept:
                self.artifacts.remember(run)
        return chosen

    def _runs_of(self, cell_ids: Collection[str], experiments: list[str]) -> list[Run]:
        """Return the runs of cells, others possibly among them.

        MLflow takes no list of values of a tag. A request for each cell takes as long as reading several
        runs; so all runs are read where there are no more than that many a cell.
        """
        if len(cell_ids) > MANY_CELLS:
            return self._search(experiments, names.TAG_ROLE, names.ROLE_CELL)
        if len(cell_ids) > FEW_CELLS:
            at_most = RUNS_PER_REQUEST * len(cell_ids)
            runs = self._search_few(experiments, names.TAG_ROLE, names.ROLE_CELL, at_most=at_most)
            if runs is not None:
                return runs
        return [
            run
            for cell_id in cell_ids
            for run in self._search(experiments, names.TAG_CELL_ID, cell_id)
            if run.data.tags.get(names.TAG_ROLE) == names.ROLE_CELL
        ]

    def past_costs(self, limit: int) -> list[str]:
        """Return what training took of the cells that ended last, whichever sweep ran them."""
        with translated("looking for what past runs took"):
            runs = self.client.search_runs(
                self._experiment_ids(),
                filter_string=f"tags.`{names.TAG_COST}` LIKE '{{%'",
                max_results=limit,
                order_by=["attributes.end_time DESC"],
            )
        return [run.data.tags[names.TAG_COST] for run in runs]

    def cells_of(self, sweep: Sweep) -> dict[str, CellRun]:
        """Return the cells that this sweep ran itself."""
        with translated(f"listing the cells of sweep {sweep.name!r}"):
            runs = self._search([sweep.experiment_id], names.TAG_ROLE, names.ROLE_CELL)
        return _chosen(runs, None)

    def remove_duplicates(self, sweep: Sweep) -> list[str]:
        """Delete runs of cells that a retried request left behind in this sweep; returns their ids.

        The caller holds the sweep's lease.
        """
        with translated("removing duplicates"):
            runs = self._search([sweep.experiment_id], names.TAG_ROLE, names.ROLE_CELL)
            kept = {run.run_id for run in _chosen(runs, None).values()}
            doomed = [run.info.run_id for run in runs if run.info.run_id not in kept]
            for run_id in doomed:
                self.client.delete_run(run_id)
        return doomed

    def delete_cell(self, run_id: str) -> None:
        """Remove a run, then its files: broken off in between, no cell counts as ended that lacks them."""
        with translated(f"deleting run {run_id}"):
            self.client.delete_run(run_id)
        self.artifacts.clear(run_id)

    def start_cell(
        self,
        sweep: Sweep,
        *,
        cell_id: str,
        cell: Cell,
        axes: Mapping[str, AxisValue],
        epoch: int = 0,
        entries: Entries | None = None,
    ) -> CellRun:
        """Make the run of a cell.

        Args:
            sweep: Whose child it becomes.
            cell_id: The cell's address.
            cell: The cell as stated.
            axes: The axes of the first grid point that asks for it.
            epoch: The writer's lease epoch.
            entries: Takes the description, for the caller to `send`; without it that is sent at once.
        """
        tags = {
            names.TAG_ROLE: names.ROLE_CELL,
            names.TAG_NAME: sweep.name,
            names.TAG_CELL_ID: cell_id,
            names.TAG_STATUS: Status.RUNNING,
            names.TAG_STATUS_REASON: "",
            names.TAG_EPOCH: str(epoch),
            names.TAG_PARENT: sweep.run_id,
            names.TAG_SOURCE_NAME: "sharpflat",
            names.TAG_METHOD: method_of(cell),
            names.TAG_NOTE: cell_note(cell, axes, cell_id),
        }
        if not sweep.shares:
            tags[names.TAG_REUSE] = NOT_SHARED
        with translated(f"starting the run of cell {cell_id}"):
            run = self.client.create_run(
                sweep.experiment_id,
                start_time=now_ms(),
                tags=tags,
                run_name=run_name(axes, cell_id, method_of(cell)),
            )
            self.artifacts.remember(run)
            self._describe(run, cell, axes, cell_params(cell, axes), entries)
        return _cell_run(run)

    def resume_cell(
        self,
        known: CellRun,
        *,
        cell: Cell,
        axes: Mapping[str, AxisValue],
        epoch: int = 0,
        entries: Entries | None = None,
    ) -> CellRun:
        """Take up the run of an interrupted or failed cell; completes what a kill may have left out."""
        with translated(f"resuming the run of cell {known.cell_id}"):
            run = self.client.get_run(known.run_id)
            wanted = cell_params(cell, axes)
            # Params are write-once, and an older space may have named other axes.
            params = {key: value for key, value in wanted.items() if key not in run.data.params}
            self._describe(run, cell, axes, params, entries)
            self._set_tags(
                known.run_id,
                {
                    names.TAG_STATUS: Status.RUNNING,
                    names.TAG_STATUS_REASON: "",
                    names.TAG_EPOCH: str(epoch),
                },
            )
            self.client.update_run(known.run_id, status=Status.RUNNING.mlflow_status)
        return _cell_run(self.client.get_run(known.run_id))

    def _describe(
        self,
        run: Run,
        cell: Cell,
        axes: Mapping[str, AxisValue],
        params: Mapping[str, str],
        entries: Entries | None,
    ) -> None:
        # The run's own start makes a repeated metric an exact repeat, which MLflow drops.
        metrics = [
            Metric(name, value, run.info.start_time, 0) for name, value in axis_metrics(cell, axes).items()
        ]
        description = entries if entries is not None else Entries()
        description.params.update(params)
        description.metrics.extend(metrics)
        self.artifacts.put(run.info.run_id, names.ARTIFACT_CELL, cell_document(cell))
        if entries is None:
            self.send(run.info.run_id, description)

    def send(self, run_id: str, entries: Entries) -> None:
        """Write entries to a run in as few calls as MLflow takes; it drops exact repeats of points.

        The tags are written last, so what they say of the points is true.
        """
        params = [Param(name, value) for name, value in entries.params.items()]
        tags = [RunTag(name, value) for name, value in entries.tags.items()]
        metrics = entries.metrics
        with translated(f"writing to run {run_id}"):
            while len(params) > PARAMS_PER_CALL:
                self.client.log_batch(run_id, params=params[:PARAMS_PER_CALL])
                params = params[PARAMS_PER_CALL:]
            room, sent = ENTRIES_PER_CALL - len(params) - len(tags), 0
            while len(metrics) - sent > room:
                self.client.log_batch(run_id, metrics=metrics[sent : sent + ENTRIES_PER_CALL])
                sent += ENTRIES_PER_CALL
            self.client.log_batch(run_id, metrics=metrics[sent:], params=params, tags=tags)

    def finish_cell(
        self,
        run_id: str,
        status: Status,
        reason: str = "",
        *,
        finals: Mapping[str, float] | None = None,
        step: int = 0,
        timestamp_ms: int = 0,
        forked_from: str = "",
        entries: Entries | None = None,
    ) -> None:
        """Record how a cell ended, failed or was interrupted: finals, then the tag, then the run's status.

        Args:
            run_id: The cell's run.
            status: Not `RUNNING` or `PENDING`.
            reason: Why, in a line.
            finals: Final metrics, for a cell that has ended for good.
            step: The step that the finals belong to.
            timestamp_ms: Time of the finals; the same on every repetition.
            forked_from: The state of another cell that this one began with, if any.
            entries: What else is to be written before.
        """
        last = entries if entries is not None else Entries()
        last.metrics.extend(Metric(name, value, timestamp_ms, step) for name, value in (finals or {}).items())
        why = plain_text(reason)[:REASON_LENGTH]
        last.tags |= {names.TAG_STATUS: str(status), names.TAG_STATUS_REASON: why}
        if forked_from:
            last.tags[names.TAG_FORKED_FROM] = forked_from
        self.send(run_id, last)
        with translated(f"recording how run {run_id} ended"):
            self.client.set_terminated(run_id, status.mlflow_status)


def has_ended(run: CellRun | None) -> bool:
    """Whether a cell with this run, if it has one, has an outcome."""
    return run is not None and run.status.ended


def _cell_run(run: Run) -> CellRun:
    tags = run.data.tags
    return CellRun(
        cell_id=tags[names.TAG_CELL_ID],
        run_id=run.info.run_id,
        sweep=tags.get(names.TAG_NAME, ""),
        experiment_id=run.info.experiment_id,
        status=_status(tags.get(names.TAG_STATUS)),
        reason=tags.get(names.TAG_STATUS_REASON, ""),
        run_status=run.info.status,
        started_ms=run.info.start_time,
        ended_ms=run.info.end_time or 0,
        cost=tags.get(names.TAG_COST, ""),
        recorded_until=_whole(tags.get(names.TAG_RECORDED_UNTIL)),
        metrics=run.data.metrics,
        params=run.data.params,
    )


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _status(text: str | None) -> Status:
    """Read the tag; what this version does not know is taken as running, so that nothing is skipped."""
    return next((status for status in Status if status.value == text), Status.RUNNING)


def _ended(run: Run) -> bool:
    return _status(run.data.tags.get(names.TAG_STATUS)).ended


def _chosen(runs: Iterable[Run], wanted: set[str] | None, own: str | None = None) -> dict[str, CellRun]:
    """Choose one run per cell: the ended one, else the oldest, else one that something is in.

    Of several that have ended it is one in the experiment `own`, else the oldest.
    """
    chosen: dict[str, CellRun] = {}
    for run in runs:
        if (cell_id := run.data.tags.get(names.TAG_CELL_ID)) is None:
            continue
        if wanted is not None and cell_id not in wanted:
            continue
        found = _cell_run(run)
        known = chosen.get(cell_id)
        if known is None or _rank(found, own) < _rank(known, own):
            chosen[cell_id] = found
    return chosen


def _rank(run: CellRun, own: str | None) -> tuple[bool, bool, int, bool, str]:
    is_own = run.status.ended and run.experiment_id == own
    # A request that was repeated on its way makes a twin of the same start, to which nobody ever writes.
    return not run.status.ended, not is_own, run.started_ms, not (run.params or run.metrics), run.run_id
