"""Sweeps in MLflow: one experiment a name, one parent run, the stored space and plan."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow as pa
from mlflow.entities import Experiment, LifecycleStage, Metric, Run
from mlflow.exceptions import MlflowException

from sweep import names
from sweep.environment import source_state
from sweep.errors import LedgerError, SweepExistsError
from sweep.grid_table import decode_table, described_points, encode_table
from sweep.ledger.connection import translated
from sweep.ledger.continuation import SpaceLike, changed_files, has_result, other_version, refusal
from sweep.ledger.description import RUN_NAME_LENGTH, note_with_links
from sweep.ledger.locations import artifact_location, name_of_deleted
from sweep.ledger.runs import TaggedRuns, now_ms
from sweep.names import Status
from trainers.canonical import NUMERICS_VERSION
from trainers.errors import ConfigError, unknown_name

PARENT_PATIENCE_SECONDS = 5.0
"""How long whoever made an experiment is given to make its parent run."""

PARENT_SETTLE_SECONDS = 0.5

MAX_QUOTED_NAME = 255
"""What file systems take as the name of a folder."""

NOT_SHARED = "false"
"""Value of the tag that says that a run is for its own sweep only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep's place in MLflow.

    Args:
        name: Its name, and that of its experiment.
        experiment_id: The experiment.
        run_id: The parent run.
        created_ms: When the parent run was made.
        space_sha256: Digest of the space that it was last run with; empty before the first plan.
        shares: Whether it refers to runs that other sweeps made of its cells, and they to its own.
    """

    name: str
    experiment_id: str
    run_id: str
    created_ms: int
    space_sha256: str = ""
    shares: bool = True


class Sweeps(TaggedRuns):
    """The sweeps of a store."""

    def open_sweep(
        self,
        space: SpaceLike,
        cells: pa.Table,
        *,
        name: str | None = None,
        shares: bool = True,
        accept_version: bool = False,
    ) -> Sweep:
        """Find the sweep of this name, or make it. Changes nothing of an existing one; see `write_plan`.

        Args:
            space: What to run.
            cells: Its plan, from `grid_table`.
            name: The sweep's name; default: the space's.
            shares: Whether a new sweep shares the runs of its cells with others.
            accept_version: Go on with a sweep whose cells are other ones under this version of the trainer;
                these are run.

        Raises:
            ConfigError: The name cannot be one.
            SweepExistsError: The name is taken by results that the new plan lacks, or by something else.
        """
        name = space.name if name is None else name
        is_folder = name.strip() not in ("", ".", "..")
        if not is_folder or not name.isprintable() or len(quote(name)) > MAX_QUOTED_NAME:
            raise ConfigError(
                f"--name: found {name[:40]!r}, {len(name)} characters; expected printable ones, at most "
                f"{MAX_QUOTED_NAME} as a part of a URI: the sweep's files are in a folder of that name."
            )
        with translated(f"opening sweep {name!r}"):
            experiment, made_here = self._experiment(name)
            parent = self._parent(experiment, made_here=made_here, shares=shares)
        sweep = _sweep_of(parent)
        if sweep.shares and not shares:
            raise SweepExistsError(
                f"sweep {name!r} exists and shares its runs; --no-reuse needs a name of its own (--name)."
            )
        self._require_continuation(parent, space, cells, accept_version=accept_version)
        return sweep

    def write_plan(
        self, sweep: Sweep, space: SpaceLike, cells: pa.Table, *, accept_version: bool = False
    ) -> None:
        """Store the space and the plan with the sweep; the caller holds its lease.

        Raises:
            SweepExistsError: Cells with a result are not in the plan.
        """
        parent = self.parent_run(sweep)
        self._require_continuation(parent, space, cells, accept_version=accept_version)
        commit, dirty = source_state()
        # Links to figures stay: they are as old as the figures, which are still there.
        _, mark, links = parent.data.tags.get(names.TAG_NOTE, "").partition(names.NOTE_LINKS_MARK)
        tags = {
            names.TAG_SPACE: space.name,
            names.TAG_SPACE_SHA256: space.sha256,
            names.TAG_NOTE: note_with_links(space.description, mark + links),
            names.TAG_SOURCE_NAME: "sharpflat",
            names.TAG_NUMERICS: str(NUMERICS_VERSION),
        }
        if commit is not None:
            tags |= {names.TAG_GIT_COMMIT: commit, names.TAG_GIT_DIRTY: str(dirty).lower()}
        self.artifacts.put(sweep.run_id, names.ARTIFACT_SPACE, space.text.encode())
        self.write_cells(sweep, cells)
        self._set_tags(sweep.run_id, tags)

    def write_cells(self, sweep: Sweep, cells: pa.Table) -> None:
        """Replace `cells.parquet`."""
        self.artifacts.put(sweep.run_id, names.ARTIFACT_CELLS, encode_table(cells))

    def read_cells(self, sweep: Sweep) -> pa.Table | None:
        """Return `cells.parquet`, or `None` before the first plan.

        Raises:
            LedgerError: It is damaged.
        """
        data = self.artifacts.get(sweep.run_id, names.ARTIFACT_CELLS)
        return None if data is None else decode_table(data)

    def read_space(self, sweep: Sweep) -> str:
        """Return the stored space, YAML.

        Raises:
            LedgerError: There is none: the sweep was given up before its plan was stored.
        """
        data = self.artifacts.get(sweep.run_id, names.ARTIFACT_SPACE)
        if data is None:
            raise LedgerError(f"sweep {sweep.name!r} has no stored space; start it again with `sweep run`.")
        return data.decode()

    def parent_run(self, sweep: Sweep) -> Run:
        """Return a sweep's own run as it is now."""
        with translated(f"reading sweep {sweep.name!r}"):
            return self.client.get_run(sweep.run_id)

    def parent_runs(self) -> list[Run]:
        """Return the own run of every sweep of the store."""
        with translated("listing sweeps"):
            found = self._search(self._experiment_ids(), names.TAG_ROLE, names.ROLE_SWEEP)
        chosen: dict[str, Run] = {}
        for run in sorted(found, key=_preference):
            chosen.setdefault(run.info.experiment_id, run)
        return list(chosen.values())

    def other_parents(self, sweep: Sweep) -> list[Run]:
        """Return further own runs of a sweep, which two processes that made it at once may leave."""
        with translated(f"reading sweep {sweep.name!r}"):
            parents = self._parents(sweep.experiment_id)
        return [run for run in parents if run.info.run_id != sweep.run_id]

    def sweep_of(self, run: Run) -> Sweep:
        """Read a sweep from its own run."""
        return _sweep_of(run)

    def write_ticket(self, sweep: Sweep, ticket: str) -> None:
        """Store a driver's place among those that run (`sweep.claims`)."""
        self._set_tags(sweep.run_id, {names.TAG_TICKET: ticket})

    def write_storage(self, sweep: Sweep, place: str) -> None:
        """Record where a sweep's checkpoints are (`sweep.whereabouts`)."""
        self._set_tags(sweep.run_id, {names.TAG_STORAGE: place})

    def write_trial(self, sweep: Sweep, trial: str) -> None:
        """Record what its trials take from now on (`sweep.run_options`)."""
        self._set_tags(sweep.run_id, {names.TAG_TRIAL: trial})

    def read_trial(self, name: str) -> str:
        """Return what trials of a sweep's last driver took; empty where there was none."""
        found = self._parent_of(name)
        return "" if found is None else found.data.tags.get(names.TAG_TRIAL, "")

    def announce_deletion(self, sweep: Sweep, epoch: int) -> None:
        """Let sweeps that begin now wait until this one is gone; the caller holds its lease of that epoch."""
        self._set_tags(sweep.run_id, {names.TAG_DELETING: str(epoch)})

    def find_sweep(self, name: str) -> Sweep:
        """Return an existing sweep.

        Raises:
            ConfigError: There is none of that name; the message gives the nearest one.
        """
        found = self._parent_of(name)
        if found is None:
            raise unknown_name("sweep", name, [sweep.name for sweep in self.list_sweeps()])
        return _sweep_of(found)

    def _parent_of(self, name: str) -> Run | None:
        with translated(f"looking for sweep {name!r}"):
            experiment = self.client.get_experiment_by_name(name)
            if experiment is None or experiment.lifecycle_stage != LifecycleStage.ACTIVE:
                return None
            return next(iter(self._parents(experiment.experiment_id)), None)

    def list_sweeps(self) -> list[Sweep]:
        """Return all sweeps of the store, the newest first."""
        sweeps = [_sweep_of(run) for run in self.parent_runs()]
        return sorted(sweeps, key=lambda sweep: sweep.created_ms, reverse=True)

    def remove_duplicate_parents(self, sweep: Sweep) -> list[str]:
        """Delete parent runs that a retried request left behind; returns their ids. Under the lease."""
        with translated("removing duplicates"):
            doomed = [run.info.run_id for run in self.other_parents(sweep) if not _leased(run)]
            for run_id in doomed:
                self.client.delete_run(run_id)
        return doomed

    def delete_sweep(self, sweep: Sweep) -> None:
        """Remove a sweep's own run, whose files are gone already; its name is free then.

        MLflow keeps what was deleted until `mlflow gc`. Runs of cells that are still there stay.
        """
        with translated(f"deleting sweep {sweep.name!r}"):
            # First: broken off after this, what is left has no sweep any more, and its name can be used.
            self.client.delete_run(sweep.run_id)
            # MLflow would keep the name of a deleted experiment for itself.
            self.client.rename_experiment(sweep.experiment_id, name_of_deleted(sweep.name, sweep.run_id))
            if not self.client.search_runs([sweep.experiment_id], max_results=1):
                self.client.delete_experiment(sweep.experiment_id)

    def log_progress(self, sweep: Sweep, values: Mapping[str, float], *, step: int) -> None:
        """Record how the whole sweep stands; it is what the charts of its own run show.

        Args:
            sweep: The sweep.
            values: By metric name.
            step: How many cells have ended, see `sweep.progress_record`; for the use of nodes, the age of the
                sweep in seconds.
        """
        metrics = [Metric(name, value, now_ms(), step) for name, value in values.items()]
        with translated(f"recording the progress of sweep {sweep.name!r}"):
            self.client.log_batch(sweep.run_id, metrics=metrics)

    def last_progress_step(self, sweep: Sweep) -> int:
        """Return the highest step at which it was recorded how the cells stand; 0 before the first time."""
        name = f"{names.CELLS_METRIC_PREFIX}{Status.COMPLETED}"
        with translated(f"looking at the progress of sweep {sweep.name!r}"):
            points = self.client.get_metric_history(sweep.run_id, name)
        return max((point.step for point in points), default=0)

    def finish_sweep(self, sweep: Sweep, status: Status) -> None:
        """End the parent run with the MLflow status that goes with `status`."""
        with translated(f"ending sweep {sweep.name!r}"):
            self.client.set_terminated(sweep.run_id, status.mlflow_status)

    def reopen_sweep(self, sweep: Sweep) -> None:
        """Show the parent run as running again."""
        with translated(f"opening sweep {sweep.name!r}"):
            self.client.update_run(sweep.run_id, status=Status.RUNNING.mlflow_status)

    def _experiment(self, name: str) -> tuple[Experiment, bool]:
        """Return the experiment of a name, and whether this call made it."""
        made_here = False
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            location = None
            if self._artifacts_root is not None:
                limited = not self.client.tracking_uri.startswith("sqlite")
                location = artifact_location(self._artifacts_root, name, limited=limited)
            try:
                self.client.create_experiment(
                    name, artifact_location=location, tags={names.TAG_EXPERIMENT_KIND: names.EXPERIMENT_KIND}
                )
                made_here = True
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            experiment = self.client.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            raise SweepExistsError(
                f"sweep {name!r} was deleted in MLflow, which keeps its name. Choose another with --name, "
                "restore it (`mlflow experiments restore`), or remove it for good (`mlflow gc`)."
            )
        return experiment, made_here

    def _parent(self, experiment: Experiment, *, made_here: bool, shares: bool) -> Run:
        """Return the sweep's parent run; of several, that on which all contenders agree."""
        deadline = time.monotonic() + (0 if made_here else PARENT_PATIENCE_SECONDS)
        while not (parents := self._parents(experiment.experiment_id)):
            strangers = self.client.search_runs([experiment.experiment_id], max_results=1)
            foreign = any(names.TAG_ROLE not in run.data.tags for run in strangers)
            if foreign or not _made_for_sweep(experiment):
                raise SweepExistsError(
                    f"MLflow has an experiment {experiment.name!r} that is not a sweep; choose another name "
                    "with --name."
                )
            if time.monotonic() >= deadline:
                break
            time.sleep(0.1)
        if parents:
            return parents[0]
        tags = {names.TAG_ROLE: names.ROLE_SWEEP, names.TAG_NAME: experiment.name}
        if not shares:
            tags[names.TAG_REUSE] = NOT_SHARED
        self.client.create_run(
            experiment.experiment_id,
            start_time=now_ms(),
            tags=tags,
            run_name=experiment.name[:RUN_NAME_LENGTH],
        )
        if not made_here:
            # Others who waited as long have made theirs by then, and all choose the same one.
            time.sleep(PARENT_SETTLE_SECONDS)
        return self._parents(experiment.experiment_id)[0]

    def _parents(self, experiment_id: str) -> list[Run]:
        return sorted(self._search([experiment_id], names.TAG_ROLE, names.ROLE_SWEEP), key=_preference)

    def _results(self, experiments: list[str]) -> dict[str, Run]:
        """Return a run of each cell that has a result, or a history to go on with."""
        with translated("looking for results"):
            runs = self._search(experiments, names.TAG_ROLE, names.ROLE_CELL)
        return {run.data.tags[names.TAG_CELL_ID]: run for run in runs if has_result(run)}

    def _require_continuation(
        self, parent: Run, space: SpaceLike, cells: pa.Table, *, accept_version: bool
    ) -> None:
        """Refuse a plan that does not go on with what a sweep has."""
        sweep = _sweep_of(parent)
        begun = parent.data.tags.get(names.TAG_NUMERICS, str(NUMERICS_VERSION))
        if begun == str(NUMERICS_VERSION):
            # What is read back and written again spells out the defaults of what came since.
            is_same = sweep.space_sha256 in (space.sha256, space.recorded_sha256)
            self._require_all_cells(sweep, cells, is_same=is_same, accepted=accept_version)
        elif not accept_version:
            raise other_version(sweep.name, begun)

    def _require_all_cells(self, sweep: Sweep, cells: pa.Table, *, is_same: bool, accepted: bool) -> None:
        try:
            old = self.read_cells(sweep)
        except LedgerError as error:
            if error.transient:
                raise
            old = None
        planned = set(cells["cell_id"].to_pylist())
        if old is None:
            # Given up before the plan was stored, or the file is damaged: the runs say what must be kept.
            results = self._results([sweep.experiment_id])
            lost = sorted(results.keys() - planned)
        else:
            lost = sorted(set(old["cell_id"].to_pylist()) - planned)
            everywhere = self._experiment_ids() if sweep.shares else [sweep.experiment_id]
            results = self._results(everywhere) if lost else {}
            # What has failed, or never came to anything, may be replaced.
            lost = [cell_id for cell_id in lost if cell_id in results]
        if lost:
            points = [f"cell {cell}" for cell in lost] if old is None else described_points(old, lost)
            changed = changed_files(self.artifacts.get(results[lost[0]].info.run_id, names.ARTIFACT_CELL))
            if not (accepted and is_same and not changed):
                raise refusal(sweep.name, points, changed, self.given, is_same_space=is_same)


def _made_for_sweep(experiment: Experiment) -> bool:
    """Whether an experiment without a sweep was made for one; MLflow's own one may bear the kind, too."""
    kind = experiment.tags.get(names.TAG_EXPERIMENT_KIND)
    return kind == names.EXPERIMENT_KIND and experiment.name != Experiment.DEFAULT_EXPERIMENT_NAME


def _leased(run: Run) -> bool:
    return any(name.startswith(names.PARAM_LEASE_PREFIX) for name in run.data.params)


def _preference(run: Run) -> tuple[bool, int, str]:
    """Order parent runs: one that was ever leased first, then the oldest."""
    return not _leased(run), run.info.start_time, run.info.run_id


def _sweep_of(run: Run) -> Sweep:
    return Sweep(
        name=run.data.tags[names.TAG_NAME],
        experiment_id=run.info.experiment_id,
        run_id=run.info.run_id,
        created_ms=run.info.start_time,
        space_sha256=run.data.tags.get(names.TAG_SPACE_SHA256, ""),
        shares=run.data.tags.get(names.TAG_REUSE) != NOT_SHARED,
    )
