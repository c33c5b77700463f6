"""One lane: a cell's schedule, its fate so far, and what it carries from step to step besides its weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from trainers.canonical import Stage, canonical_form, cell_id, stages
from trainers.cell import Cell
from trainers.checkpoint import LaneState, number_from_json, number_to_json
from trainers.divergence import DivergenceDetector, Outcome
from trainers.errors import CheckpointError
from trainers.history import TEST_ACCURACY, TRAIN_LOSS, HistoryBuffer

WEIGHTS = "weights"
EIGENSPACE = "eigenspace"
EIGENVALUES = "eigenvalues"
OPTIMIZER = "optimizer/"
SWITCH = "switch/"
STAGE_START = "stage/"
"""Beginnings of names in a lane's memory: of its base optimiser, its condition, its distance probes."""

OWN_FINALS = "own_finals"
"""What a state says about its cell's end alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledProbe:
    """A probe of the canonical form: `key` begins the names of its memory, `options` are complete."""

    key: str
    name: str
    every: int
    options: dict[str, Any]


@dataclass(slots=True, eq=False)
class Lane:
    """The part of a run that is not a tensor operation.

    Args:
        cell: What is trained.
        stages: Its canonical schedule, with the conditions that have been met replaced by their steps.
        block_WC: The tracked eigenspace's block, in the holdout's coordinates where it has some; `None`
            outside projecting stages.
        values_W: Its eigenvalues, float64, on the host.
        num_held: How many of its directions span the Dominant subspace; `None` where nobody has counted.
        floor: The smallest eigenvalue known of the tracked eigenspace's Hessian.
        memory: What the base optimiser, a condition and the probes keep from step to step, by name.
        switches: The steps at which conditions have ended stages.
        point_finals: Last finite value of the final metrics at evaluation points.
        own_finals: Those at its own end where that is none: a longer run is not evaluated there.
        refreshes: Eigenspace refreshes so far.
        unconverged: Those of them that did not converge.
        columns: Hessian products (columns) of those refreshes.
        outcome: How the lane ended, or `None`.
    """

    cell: Cell
    cell_id: str
    stages: tuple[Stage, ...]
    probes: tuple[ScheduledProbe, ...]
    detector: DivergenceDetector
    history: HistoryBuffer = field(default_factory=HistoryBuffer)
    block_WC: Tensor | None = None
    values_W: Tensor | None = None
    num_held: int | None = None
    floor: float = 0.0
    memory: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    switches: list[int] = field(default_factory=list[int])
    point_finals: dict[str, float] = field(default_factory=dict[str, float])
    own_finals: dict[str, float] = field(default_factory=dict[str, float])
    refreshes: int = 0
    unconverged: int = 0
    columns: int = 0
    outcome: Outcome | None = None
    _stage: Stage | None = None

    @classmethod
    def of(cls, cell: Cell) -> "Lane":
        """Start a lane at step 0."""
        record = canonical_form(cell)["record"]
        probes = tuple(
            ScheduledProbe(
                key=f"probe/{index}/",
                name=entry["name"],
                every=entry["every"],
                options={key: value for key, value in entry.items() if key not in ("name", "every")},
            )
            for index, entry in enumerate(record["probes"])
        )
        return cls(
            cell=cell,
            cell_id=cell_id(cell),
            stages=stages(cell),
            probes=probes,
            detector=DivergenceDetector(factor=cell.divergence_factor),
        )

    @property
    def num_steps(self) -> int:
        """The step at which the lane is completed."""
        return self.stages[-1].stop

    @property
    def finals(self) -> dict[str, float]:
        """Last finite values of the final metrics, by name."""
        return self.point_finals | self.own_finals

    def stage_at(self, step: int) -> Stage:
        """Return the stage that does update number `step`."""
        # Asked for a dozen times a refresh of each lane.
        if self._stage is None or not self._stage.start <= step < self._stage.stop:
            self._stage = next(stage for stage in self.stages if step < stage.stop)
        return self._stage

    def end_stage(self, step: int) -> None:
        """Note that the condition of the stage that is under way has been met."""
        index = self.stages.index(self.stage_at(step))
        ended = replace(self.stages[index], stop=step, condition=None)
        following = replace(self.stages[index + 1], start=step)
        self.stages = (*self.stages[:index], ended, following, *self.stages[index + 2 :])
        self._stage = None
        self.switches.append(step)

    def remembered(self, prefix: str) -> dict[str, Tensor]:
        """Return the memory under a prefix, by the rest of its names."""
        return {
            name.removeprefix(prefix): value for name, value in self.memory.items() if name.startswith(prefix)
        }

    def remember(self, prefix: str, values: Mapping[str, Tensor]) -> None:
        """Replace the memory under a prefix."""
        self.memory = {name: value for name, value in self.memory.items() if not name.startswith(prefix)}
        self.memory |= {f"{prefix}{name}": value for name, value in values.items()}

    def leave_pack(self) -> None:
        """Keep what steps and refreshes have left in memory of its own: where it lies, all lanes' is kept."""
        state = self.remembered(OPTIMIZER)
        self.remember(OPTIMIZER, {name: value.clone() for name, value in state.items()})
        if self.block_WC is not None:
            self.block_WC = self.block_WC.clone()

    def evaluates_at(self, step: int) -> bool:
        """Whether `step` is an evaluation point."""
        return step % self.cell.evaluate_every == 0 or step == self.num_steps

    def judges_at(self, step: int) -> bool:
        """Whether the full training loss is held against the divergence rule."""
        return step % self.cell.divergence_every == 0 or step == self.num_steps

    def probes_at(self, step: int) -> list[ScheduledProbe]:
        """Return the probes that are due."""
        return [probe for probe in self.probes if step % probe.every == 0 or step == self.num_steps]

    def is_measured_at(self, step: int) -> bool:
        """Whether anything about the weights at `step` is recorded or judged."""
        return self.evaluates_at(step) or self.judges_at(step) or bool(self.probes_at(step))

    def begins_or_checks_at(self, step: int) -> bool:
        """Whether a stage begins at `step`, or may end on its condition."""
        return step < self.num_steps and (step == self.stage_at(step).start or self.checks_condition_at(step))

    def checks_condition_at(self, step: int) -> bool:
        """Whether the condition of the stage is evaluated before update number `step`."""
        stage = self.stage_at(step)
        return stage.condition is not None and (step - stage.start) % stage.condition.every == 0

    def refreshes_at(self, step: int) -> bool:
        """Whether the Dominant subspace is recomputed before update number `step`."""
        stage = self.stage_at(step)
        return stage.projects and (step - stage.start) % self.cell.refresh_every == 0

    def next_event(self, step: int) -> int:
        """Return the first step after `step` at which something besides an update happens."""
        stage = self.stage_at(step)
        periods = [
            self.cell.evaluate_every,
            self.cell.divergence_every,
            *(probe.every for probe in self.probes),
        ]
        events = [stage.stop, *(step - step % every + every for every in periods)]
        since = step - stage.start
        if stage.projects:
            events.append(step + self.cell.refresh_every - since % self.cell.refresh_every)
        if stage.condition is not None:
            events.append(step + stage.condition.every - since % stage.condition.every)
        return min(events)

    def note_finals(self, values: dict[str, float], step: int) -> None:
        """Remember the finite ones of loss and accuracy at an evaluation point, or at the lane's end."""
        noted = self.point_finals if step % self.cell.evaluate_every == 0 else self.own_finals
        for name in (TRAIN_LOSS, TEST_ACCURACY):
            if name in values and math.isfinite(values[name]):
                noted[name] = values[name]

    def state(self, step: int, weights_P: Tensor) -> LaneState:
        """Return everything that is needed to go on bitwise."""
        tensors = {WEIGHTS: weights_P, **self.memory}
        if self.block_WC is not None and self.values_W is not None:
            tensors |= {EIGENSPACE: self.block_WC, EIGENVALUES: self.values_W}
        scalars: dict[str, Any] = {
            "initial_loss": self.detector.initial_loss,
            "peak": number_to_json(self.detector.peak),
            "finals": {name: number_to_json(value) for name, value in self.point_finals.items()},
            OWN_FINALS: {name: number_to_json(value) for name, value in self.own_finals.items()},
            "floor": self.floor,
            "switches": list(self.switches),
            "refreshes": self.refreshes,
            "unconverged": self.unconverged,
            "columns": self.columns,
            "outcome": None
            if self.outcome is None
            else {"status": self.outcome.status, "reason": self.outcome.reason, "step": self.outcome.step},
        }
        cpu = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        return LaneState(cell_id=self.cell_id, step=step, tensors=cpu, scalars=scalars)

    def restore(self, state: LaneState, device: torch.device) -> Tensor:
        """Take over a state and return its weights (P,).

        Raises:
            CheckpointError: The state is of another cell or lacks a part.
        """
        if state.cell_id != self.cell_id:
            raise CheckpointError(f"the checkpoint is of cell {state.cell_id}, not of {self.cell_id}.")
        try:
            scalars = state.scalars
            self.detector.initial_loss = scalars["initial_loss"]
            # Of a state that was written before peaks were kept, the peak from here on is known.
            self.detector.peak = number_from_json(scalars.get("peak", 1.0))
            self.point_finals = {name: number_from_json(value) for name, value in scalars["finals"].items()}
            own = scalars.get(OWN_FINALS, {})
            self.own_finals = {name: number_from_json(value) for name, value in own.items()}
            self.floor = float(scalars["floor"])
            self.refreshes = int(scalars["refreshes"])
            self.unconverged = int(scalars["unconverged"])
            self.columns = int(scalars["columns"])
            outcome = scalars["outcome"]
            self.outcome = None if outcome is None else Outcome(**outcome)
            # Copies: on a CPU the bits of a product depend on where in memory its operands begin.
            tensors = {name: tensor.to(device, copy=True) for name, tensor in state.tensors.items()}
            weights = tensors.pop(WEIGHTS)
            self.block_WC = tensors.pop(EIGENSPACE, None)
            values = tensors.pop(EIGENVALUES, None)
            self.values_W = None if values is None else values.cpu()
            self.num_held = None
            self.memory = tensors
            self.stages, self.switches, self._stage = stages(self.cell), [], None
            for switch in scalars["switches"]:
                self.end_stage(int(switch))
            return weights
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"the checkpoint of cell {self.cell_id} lacks a part: {error!r}."
            ) from error
