"""The training loop: N cells of one shape in lockstep, from step to step and event to event.

The loop owns the cadence: when to evaluate, to judge divergence, to probe, to refresh the eigenspace. Between
two such events it only takes steps, and looks at their minibatch losses once, at the event. A lane that
has ended leaves the pack.

The updates are those of `trainers.optimizers`; the Dominant subspaces are kept by `trainers.tracking`.

Shape legend: N lanes, P parameters, B batch.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from trainers.batches import Batches
from trainers.canonical import Stage, dataset_entry, model_options
from trainers.cell import SHAPE_FIELDS, Cell
from trainers.checkpoint import LaneState
from trainers.condition import check_condition
from trainers.data import Dataset
from trainers.divergence import Outcome
from trainers.errors import CheckpointError, ConfigError
from trainers.evaluation import Split, accuracy, loss_and_gradient, mean_loss
from trainers.history import (
    BATCH_LOSS,
    GRAD_NORM,
    TEST_ACCURACY,
    TRAIN_LOSS,
    History,
)
from trainers.instruments import Instruments
from trainers.lane import OPTIMIZER, STAGE_START, SWITCH, Lane
from trainers.looks import steps_unwatched
from trainers.losses import LOSSES
from trainers.models import MODELS
from trainers.models.dropout import masked_layers
from trainers.objective import build_objective, in_precision, initial_parameters, unheard
from trainers.probes.measures import measure
from trainers.probes.view import View
from trainers.randomness import global_draws
from trainers.stepper import Losses, Stepper
from trainers.tracking import Tracker, dominant_of


class Trainer:
    """Trains a pack of cells.

    Args:
        cells: At least one; all of one model, data set, loss, batch size and holdout size.
        data_folder: Where data sets are kept; used only by data sets that are not shipped.
        data: The loaded data set, where the caller has it.
        device: Torch device.
        dtype: float32; float64 for references.
        beat: Called whenever the work has gone on: with every network that is built, every step, every pass
            over a chunk of examples, and every probe.

    Raises:
        ConfigError: The cells do not fit together, or the data set.
        DataError: The data set cannot be loaded.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        *,
        data_folder: Path = Path("data"),
        data: Dataset | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        beat: Callable[[], None] = unheard,
    ) -> None:
        self._require_one_shape(cells)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        # Resumed runs are to repeat themselves bitwise, and cuDNN's fastest kernels do not.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        first = cells[0]
        self._device = torch.device(device)
        entry = dataset_entry(first.dataset)
        data = data or entry.load(data_folder, first.dataset.resolve("dataset", entry.options))
        self._train = Split(data.train_inputs, data.train_labels, data.num_outputs, dtype, self._device)
        self._test = Split(data.test_inputs, data.test_labels, data.num_outputs, dtype, self._device)
        model_entry = MODELS[first.model.name]
        options = model_options(first)
        shape = tuple(data.train_inputs.shape[1:])
        self._loss = LOSSES[first.loss.name].build(
            first.loss.resolve("loss", LOSSES[first.loss.name].options)
        )

        def build() -> torch.nn.Module:
            beat()
            return model_entry.build(shape, data.num_outputs, options)

        with global_draws(0, "template"):
            # Of it only the buffers are used: they are the same for all cells, in every process.
            module = in_precision(build(), self._device, dtype)
        self._beat = beat
        self._objective = build_objective(module, self._loss, shape, beat)
        self._instruments = Instruments(
            objective=self._objective,
            train=self._train,
            test=self._test,
            num_outputs=data.num_outputs,
            parameters=tuple((name, item.numel()) for name, item in module.named_parameters()),
        )
        self.lanes = [Lane.of(cell) for cell in cells]
        self._require_room_for_directions()
        self._tracker = Tracker(self._instruments)
        self.step = 0
        self._active = list(self.lanes)
        self._params_NP = torch.stack(
            [initial_parameters(build, init=cell.init, seed=cell.seed) for cell in cells]
        ).to(device=self._device, dtype=dtype)
        self._ended_weights: dict[int, Tensor] = {}
        self._batches = Batches(len(self._train), self._device)
        self._stepper = Stepper(self._instruments, self._batches, masked_layers(module, shape))
        self._unwatched: Losses | None = None

    @staticmethod
    def _require_one_shape(cells: Sequence[Cell]) -> None:
        if not cells:
            raise ConfigError("a pack needs at least one cell.")
        for name in SHAPE_FIELDS:
            values = {getattr(cell, name) for cell in cells}
            if len(values) > 1:
                found = ", ".join(sorted(map(str, values)))
                raise ConfigError(f"the cells of a pack must have one {name}; found {found}.")

    def _require_room_for_directions(self) -> None:
        for lane in self.lanes:
            wanted = [stage.k or 0 for stage in lane.stages]
            wanted += [int(probe.options.get("k", 0)) for probe in lane.probes]
            wanted += [stage.condition.k or 0 for stage in lane.stages if stage.condition is not None]
            if max(wanted) > self.num_params:
                raise ConfigError(f"k: found {max(wanted)}; the model has only {self.num_params} parameters.")

    @property
    def finished(self) -> bool:
        """Whether every lane has an outcome."""
        return not self._active

    @property
    def _begins_ahead(self) -> bool:
        """Whether a refresh is begun before anybody has looked at the steps before it."""
        return self._device.type != "cpu"

    @cached_property
    def _steps_unwatched(self) -> int:
        replays = self._begins_ahead and self._objective.replayable
        return steps_unwatched(self.lanes, len(self._train), self.num_params, replays=replays)

    @property
    def _looks_first(self) -> bool:
        """Whether the losses so far are looked at before anything else is done at the current step.

        A GPU is at the steps for a while after they have been taken; meanwhile a refresh is made ready, of
        lanes too that turn out to have ended in those steps.
        """
        if not self._begins_ahead or self.step % self._steps_unwatched == 0:
            return True
        return any(lane.begins_or_checks_at(self.step) for lane in self._active)

    @property
    def num_params(self) -> int:
        """Parameters of one lane."""
        return self._objective.num_params

    def weights(self, index: int) -> Tensor:
        """Return the weights of lane `index`, (P,)."""
        lane = self.lanes[index]
        if id(lane) in self._ended_weights:
            return self._ended_weights[id(lane)]
        return self._params_NP[self._active.index(lane)]

    def stop(self, index: int, reason: str) -> None:
        """End lane `index` here, because somebody asks for it; one that has ended is left as it is."""
        lane = self.lanes[index]
        if lane.outcome is None:
            self._end({id(lane): Outcome(status="stopped", reason=reason, step=self.step)})

    def dominant_basis(self, index: int) -> Tensor:
        """Return the Dominant directions that the next update of lane `index` uses, (K, P) orthonormal.

        For a lane in a stage that projects, after its first refresh.
        """
        dominant = dominant_of(self._instruments, [self.lanes[index]], self.step)
        assert dominant is not None, "the stage does not project"
        # The next refresh may put its own in their place.
        return dominant.directions(0).clone()

    def state(self, index: int) -> LaneState:
        """Return the state of lane `index`; an ended lane's is that of its last step."""
        lane = self.lanes[index]
        step = self.step if lane.outcome is None else lane.outcome.step
        return lane.state(step, self.weights(index))

    def drain(self, index: int) -> History:
        """Return what lane `index` has recorded since the last call."""
        return self.lanes[index].history.drain()

    def restore(self, states: Sequence[LaneState]) -> None:
        """Take over one state per lane, all of one step except those of ended lanes.

        Raises:
            CheckpointError: A state is of another cell, lacks a part or does not fit the others.
        """
        weights = [lane.restore(state, self._device) for lane, state in zip(self.lanes, states, strict=True)]
        for lane, weight in zip(self.lanes, weights, strict=True):
            if weight.shape != self._params_NP.shape[1:]:
                raise CheckpointError(
                    f"cell {lane.cell_id}: the checkpoint has {tuple(weight.shape)} weights, "
                    f"the model {tuple(self._params_NP.shape[1:])}."
                )
        steps = {state.step for lane, state in zip(self.lanes, states, strict=True) if lane.outcome is None}
        if len(steps) > 1:
            raise CheckpointError(f"the lanes of a pack must be at one step; found {sorted(steps)}.")
        self.step = steps.pop() if steps else max(state.step for state in states)
        rows = torch.stack(weights).to(self._params_NP)
        self._active = [lane for lane in self.lanes if lane.outcome is None]
        self._ended_weights = {
            id(lane): row for lane, row in zip(self.lanes, rows, strict=True) if lane.outcome is not None
        }
        self._params_NP = rows[[lane.outcome is None for lane in self.lanes]]
        self._stepper.forget()

    @torch.no_grad()
    def advance(self, stop: int, *, pause: Callable[[], bool] | None = None) -> None:
        """Train until step `stop`, or until every lane has ended.

        Nothing is measured at the last step itself, except by lanes that are completed there: a state taken
        then and continued gives the same record as an undisturbed run.

        Args:
            stop: The step. In a pack the last bits may depend on it, so it is to be one that the cells say.
            pause: Asked in between, whether to stop there; only where this has no influence on the numbers.
        """
        alone = len(self.lanes) == 1

        def enough() -> bool:
            self._beat()  # Replayed steps run nothing of the objective that a watchdog could hear.
            return alone and pause is not None and pause()

        while self._active and self.step < stop:
            if self._looks_first:
                self._watch()
            self._begin_stages()
            due = self._tracker.begin(self._active, self._rows, self.step)
            self._watch()
            # No later than what the lanes that are left after measuring would say.
            going_on = [lane for lane in self._active if self.step < lane.num_steps]
            look = self.step - self.step % self._steps_unwatched + self._steps_unwatched
            nearest = min([stop, look, *(lane.next_event(self.step) for lane in going_on)])
            measured = [lane for lane in self._active if lane.is_measured_at(self.step)]
            if due:
                # From here until its next steps a GPU has next to nothing to do.
                self._tracker.finish(due, self.step)
                self._stepper.renew_dominant(self._active, self.step)
            self._measure(measured)
            if not self._active:
                self._tracker.note(due, self.step)
                return
            self._unwatched = self._stepper.take(self._active, self._params_NP, self.step, nearest, enough)
            self._tracker.note(due, self.step)
            self.step = self._unwatched.stop
            # Who ends here is measured together with those that go on.
            if pause is not None and (alone or (self._looks_first and not self._ending)) and pause():
                break
        self._watch()
        self._measure(self._ending)

    @property
    def _ending(self) -> list[Lane]:
        """The lanes that are completed at the current step."""
        return [lane for lane in self._active if lane.num_steps == self.step]

    def _rows(self, lanes: Sequence[Lane]) -> Tensor:
        if len(lanes) == len(self._active):
            return self._params_NP
        row_of = {id(lane): row for row, lane in enumerate(self._active)}
        return self._params_NP[[row_of[id(lane)] for lane in lanes]]

    def _end(self, ended: dict[int, Outcome]) -> None:
        """Take the lanes with an outcome (by id) out of the pack."""
        if not ended:
            return
        self._stepper.forget()
        staying: list[int] = []
        for row, lane in enumerate(self._active):
            if id(lane) in ended:
                lane.outcome = ended[id(lane)]
                self._ended_weights[id(lane)] = self._params_NP[row].clone()
                lane.leave_pack()
            else:
                staying.append(row)
        self._params_NP = self._params_NP[staying]
        self._active = [self._active[row] for row in staying]

    def _measure(self, lanes: Sequence[Lane]) -> None:
        """Evaluate, probe and judge at the current step; lanes may end here."""
        step = self.step
        full = [lane for lane in lanes if lane.evaluates_at(step) or lane.probes_at(step)]
        losses: dict[int, float] = {}
        if full:
            params = self._rows(full)
            loss, gradient = loss_and_gradient(self._objective, params, self._train)
            right = self._accuracies([lane for lane in full if lane.evaluates_at(step)])
            norms_N = torch.linalg.vector_norm(gradient.double(), dim=1).tolist()
            losses_N = loss.tolist()
            for row, lane in enumerate(full):
                losses[id(lane)] = losses_N[row]
                values = {TRAIN_LOSS: losses_N[row], GRAD_NORM: norms_N[row]}
                if id(lane) in right:
                    values[TEST_ACCURACY] = right[id(lane)]
                if lane.evaluates_at(step):
                    lane.note_finals(values, step)
                if due := lane.probes_at(step):
                    values |= measure(self._view(lane, params[row], gradient[row]), due)
                lane.history.add(step, values, evaluation=True)
        judged = [lane for lane in lanes if lane.judges_at(step)]
        rest = [lane for lane in judged if id(lane) not in losses]
        if rest:
            values_N = mean_loss(self._objective, self._rows(rest), self._train, self._loss).tolist()
            losses |= {id(lane): value for lane, value in zip(rest, values_N, strict=True)}
        ended: dict[int, Outcome] = {}
        for lane in judged:
            last = step == lane.num_steps
            outcome = lane.detector.judge_loss(losses[id(lane)], step, last=last)
            if outcome is None and last:
                outcome = Outcome(status="completed", reason="", step=step)
            if outcome is not None:
                ended[id(lane)] = outcome
        self._end(ended)

    def _accuracies(self, lanes: Sequence[Lane]) -> dict[int, float]:
        """Return the test accuracy of lanes at an evaluation point, by id; nothing for a regression."""
        if not lanes or not self._test.classifies:
            return {}
        values = accuracy(self._objective, self._rows(lanes), self._test).tolist()
        return {id(lane): value for lane, value in zip(lanes, values, strict=True)}

    def _view(self, lane: Lane, params_P: Tensor, gradient_P: Tensor) -> View:
        def row() -> int:
            return self._active.index(lane)

        return View(
            self._instruments,
            lane,
            step=self.step,
            # In memory of their own: on a CPU the bits of a product depend on where its vectors begin.
            params_P=params_P.clone(),
            gradient_P=gradient_P.clone(),
            next_update=lambda: self._stepper.next_update(self._active, row(), params_P, self.step),
            batch=lambda: self._batches.at(self.step, self._active)[row()],
        )

    def _begin_stages(self) -> None:
        """Begin the stages that are due, and let stages end on their conditions."""
        for row, lane in enumerate(self._active):
            # A condition that is met begins the next stage, which may end on one of its own at once.
            due = lane.num_steps > self.step
            while due:
                stage, params_P = lane.stage_at(self.step), self._params_NP[row]
                if self.step == stage.start:
                    self._begin(stage, lane, params_P)
                due = lane.checks_condition_at(self.step) and check_condition(
                    self._instruments, lane, params_P.clone(), self.step
                )

    @staticmethod
    def _begin(stage: Stage, lane: Lane, params_P: Tensor) -> None:
        lane.remember(SWITCH, {})
        if not stage.carry:
            lane.remember(OPTIMIZER, {})
        if any(probe.name == "distance" for probe in lane.probes):
            lane.remember(STAGE_START, {"weights": params_P.clone()})

    def _watch(self) -> None:
        """Record the minibatch losses of the last steps; end lanes where one is not finite, at its step."""
        if self._unwatched is None:
            return
        start, ended = self._unwatched.start, dict[int, Outcome]()
        for lane, losses in zip(self._active, self._unwatched.wait(), strict=True):
            outcome = lane.detector.judge_batches(losses, start)
            if outcome is not None:
                ended[id(lane)] = outcome
                losses = losses[: outcome.step + 1 - start]
            lane.history.extend(start, BATCH_LOSS, losses)
        self._unwatched = None
        for row, lane in enumerate(self._active):
            if id(lane) in ended:
                # How far such weights ran on before anybody looked depends on when that was.
                self._params_NP[row] = torch.nan
                lane.remember(OPTIMIZER, {})
        self._end(ended)
