"""Every name that a sweep leaves in MLflow: tags, params, metrics, artifacts, statuses. One home.

The record is read by others (dashboards, notebooks, later versions), so these names are a format.
"""

from enum import StrEnum

TAG_ROLE = "sweep.role"
TAG_NAME = "sweep.name"
TAG_SPACE = "sweep.space"
TAG_SPACE_SHA256 = "sweep.space_sha256"
TAG_CELL_ID = "sweep.cell_id"
TAG_STATUS = "sweep.status"
TAG_STATUS_REASON = "sweep.status_reason"
TAG_FORKED_FROM = "sweep.forked_from"
TAG_METHOD = "sweep.method"
TAG_COST = "sweep.cost"
TAG_STOP_REQUESTED = "sweep.stop_requested"
TAG_STOP_CELL_PREFIX = "sweep.stop_cell."
TAG_STOP_CELLS = "sweep.stop_cells"
"""All of them in one value, as earlier versions wrote them; it may be long, and goes on in `….1`, `….2`, …"""

TAG_FIRST = "sweep.first"
"""It may be long, and goes on in `sweep.first.1`, `.2`, …"""

TAG_EPOCH = "sweep.epoch"
TAG_RECORDED_UNTIL = "sweep.recorded_until"
TAG_REUSE = "sweep.reuse"
TAG_NUMERICS = "sweep.numerics_version"
TAG_STORAGE = "sweep.storage"
"""The checkpoint store, without a password; see `sweep.whereabouts`."""

TAG_TRIAL = "sweep.trial"
"""What a trial of its last driver took, JSON; see `sweep.run_options`."""

TAG_SPENT = "sweep.spent"
"""What its commands have taken, JSON; see `sweep.spending`."""

TAG_TICKET = "sweep.ticket"
TAG_DELETING = "sweep.deleting"
TAG_LEASE_BEAT = "sweep.lease_beat"
TAG_LEASE_RELEASED = "sweep.lease_released"
TAG_GIT_DIRTY = "sweep.git_dirty"
TAG_PARENT = "mlflow.parentRunId"
TAG_RUN_NAME = "mlflow.runName"
TAG_NOTE = "mlflow.note.content"
NOTE_LINKS_MARK = "\n\n<!-- figures -->\n\n"
"""In a sweep's description: before it the space's own words, after it links to charts and figures."""

TAG_GIT_COMMIT = "mlflow.source.git.commit"
TAG_SOURCE_NAME = "mlflow.source.name"
TAG_EXPERIMENT_KIND = "mlflow.experimentKind"
EXPERIMENT_KIND = "custom_model_development"
"""Makes MLflow open the experiment with its runs and not with its pages for language models."""

TRAINING_QUERY = "workflowType=machine_learning"
"""Of an address of MLflow's pages: those for training, whatever the reader's browser was last shown."""

ROLE_SWEEP = "sweep"
ROLE_CELL = "cell"

FINAL_TRAIN_LOSS = "final/train_loss"
FINAL_TEST_ACCURACY = "final/test_accuracy"
FINAL_STEPS = "final/steps"
FINAL_SWITCH_STEP = "final/switch_step"
"""Where the last stage of a schedule with conditions began, once it has.

Earlier versions wrote where a condition was met last, and nothing where none was.
"""

FINAL_PEAK_LOSS = "final/peak_loss"
"""The largest training loss that the divergence rule has seen, in initial ones."""
STATUS_DIVERGED = "status/diverged"
EIGENSPACE_UNCONVERGED = "eigenspace/unconverged"
AXIS_METRIC_PREFIX = "hp/"
CELLS_METRIC_PREFIX = "cells/"
BEST_TRAIN_LOSS = "best/train_loss"
BEST_TEST_ACCURACY = "best/test_accuracy"
SYSTEM_METRIC_PREFIX = "system/"
"""MLflow's own names for how busy a node is: `system/NODE/cpu_utilization_percentage`, …"""

TRIALS_RUNNING = "trials_running"
PARAM_LEASE_PREFIX = "lease."

ARTIFACT_SPACE = "space.yaml"
ARTIFACT_CELLS = "cells.parquet"
ARTIFACT_TICKETS = "tickets.json"
"""Whose a cell is that a running sweep asked for after it had begun; see `sweep.claims`."""

ARTIFACT_CELL = "cell.json"
ARTIFACT_ENVIRONMENT = "environment.json"
ARTIFACT_ERROR = "error.txt"
ARTIFACT_HISTORY = "history"
ARTIFACT_FIGURES = "figures"
ARTIFACT_TABLES = "tables"
ARTIFACT_JOURNAL = "journal"
"""Questions, answers and decisions of a search or a stopper, in order; see `sweep.search.journal`."""

AXIS_COLUMN_PREFIX = "axis/"
"""Columns of `cells.parquet` that hold a grid point's axes: `axis/lr`, `axis/k`, …"""


class Status(StrEnum):
    """The fate of a cell, as recorded in the tag `sweep.status`."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RUNNING = "running"
    PENDING = "pending"

    @property
    def ended(self) -> bool:
        """Whether the cell has an outcome and is not run again."""
        return self in (Status.COMPLETED, Status.DIVERGED, Status.STOPPED)

    @property
    def mlflow_status(self) -> str:
        """The MLflow run status that goes with it."""
        return _MLFLOW_STATUS[self]


_MLFLOW_STATUS = {
    Status.COMPLETED: "FINISHED",
    Status.DIVERGED: "FINISHED",
    Status.STOPPED: "FINISHED",
    Status.FAILED: "FAILED",
    Status.INTERRUPTED: "KILLED",
    Status.RUNNING: "RUNNING",
    Status.PENDING: "SCHEDULED",
}
