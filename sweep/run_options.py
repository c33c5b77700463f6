"""How a sweep is run; none of it changes a cell's numbers."""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self

from sweep.lanes import lanes_text

RESTARTED = "SWEEP_RESTARTED"
"""Environment variable that is set where no user has started a driver, but what keeps it going."""

UNATTENDED = "SWEEP_UNATTENDED"
"""Environment variable that is set where a user has started a driver and does not look at it."""

FAILED_IS_DONE = "SWEEP_FAILED_IS_DONE"
"""Environment variable that is set where whatever fails is begun again on another cluster (KubeRay).

Then what would end there in the same way, cells that failed or bad input, ends with 0 once it is recorded or
said.
"""


TRIAL = ("cpus_per_trial", "gpus_per_trial", "lanes")
"""The options that say what a trial takes. They stay with a sweep: where a cell is trained on another kind of
device, or with other lanes beside it, than it was begun with, its last bits are others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Choices of `sweep run` and `sweep resume` besides the space and the places.

    Args:
        name: The sweep's name.
        address: A Ray cluster; `None` starts Ray on this machine.
        cpus: CPUs of a Ray started here; `None` is all.
        cpus_per_trial: CPUs and torch threads of a trial.
        gpus_per_trial: GPUs of a trial, fractions allowed.
        commit_seconds: Training time between two checkpoints; a trial takes longer where they take long.
        lanes: How many cells a trial trains together; `sweep.lanes.AUTO` for what the GPU has room for.
        max_failures: How often in a row a trial that fails is tried again; progress begins a new row.
        hang_seconds: A trial whose work stands still for so long is ended, and tried again like a failed one.
        record_seconds: How long to wait at the end for an MLflow that is away.
        reuse: Whether a new sweep refers to the runs that other sweeps made of its cells.
        accept_version: Go on with a sweep whose cells are other ones under this version of the trainer.
        accept_storage: Go on with a sweep whose checkpoints are in another store.
        only: Cells to run, none other; `None` is all. Those of them that were stopped early go on.
        continue_stopped: Whether all cells that were stopped early go on.
        first: Which cells come first: `axis=value` each, as text.
        unsaid: Those of `TRIAL` that nobody has said: they are as the sweep's last driver had them.
        limit_seconds: Stop cleanly after so long; `None` is never.
        cost_limit: Stop cleanly once this command has cost so much; `None` is never.
        system_metrics: Whether it is recorded how busy the nodes are.
        restarted: Whether an earlier driver is started again by itself; then a request to stop still counts.
        unattended: Whether nobody would start the driver again; then it waits for MLflow at its end, too.
        failed_is_done: Whether cells that failed are an end as good as any; see `FAILED_IS_DONE`.
        price: Of a device-hour: of a GPU, or of a CPU where trials have no GPU.
    """

    name: str
    address: str | None = None
    cpus: int | None = None
    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    commit_seconds: float = 5.0
    lanes: int = 1
    max_failures: int = 2
    hang_seconds: float = 600.0
    record_seconds: float = 60.0
    reuse: bool = True
    accept_version: bool = False
    accept_storage: bool = False
    only: frozenset[str] | None = None
    continue_stopped: bool = False
    first: tuple[str, ...] = ()
    limit_seconds: float | None = None
    cost_limit: float | None = None
    price: float = 1.0
    system_metrics: bool = True
    restarted: bool = False
    unattended: bool = False
    failed_is_done: bool = False
    unsaid: frozenset[str] = frozenset()

    @property
    def trial(self) -> str:
        """What a trial takes, as it is kept with the sweep: JSON."""
        return json.dumps({name: getattr(self, name) for name in TRIAL})

    def as_before(self, trial: str) -> Self:
        """Return them with what nobody has said as it was.

        Args:
            trial: What is kept with the sweep; empty where nothing is.
        """
        before = json.loads(trial) if trial else {}
        return replace(self, **{name: before[name] for name in self.unsaid & before.keys()})

    @property
    def typed(self) -> tuple[str, ...]:
        """What a command that goes on has to be told of it, as it is typed: what a trial takes."""
        return self._typed(TRIAL)

    @property
    def typed_before(self) -> tuple[str, ...]:
        """What of it is as an earlier command had it."""
        return self._typed(self.unsaid)

    def _typed(self, options: Collection[str]) -> tuple[str, ...]:
        chosen = (
            ("cpus_per_trial", str(self.cpus_per_trial), self.cpus_per_trial != 1),
            ("gpus_per_trial", f"{self.gpus_per_trial:g}", self.gpus_per_trial != 0),
            ("lanes", lanes_text(self.lanes), self.lanes != 1),
        )
        return tuple(
            word
            for name, value, is_chosen in chosen
            if is_chosen and name in options
            for word in (f"--{name.replace('_', '-')}", value)
        )
