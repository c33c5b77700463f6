"""Lanes with one base optimiser taking steps together, between two events of the loop.

On a GPU a step, some forty small operations, is recorded once and replayed from then on. What differs from
step to step, the examples, and from refresh to refresh, the Dominant subspaces, is put where the recorded
step reads it.

Shape legend: N lanes, P parameters, B batch, S steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.evaluation import Split, loss_and_gradient
from trainers.models.dropout import MaskedLayer, masks_of_step
from trainers.objective import Objective
from trainers.optimizers.rules import State
from trainers.optimizers.update import Update
from trainers.replay import Recording


class Examples:
    """What the gradient of a step is computed on: a minibatch of each lane or the whole set.

    Args:
        objective: Model and loss.
        split: The training set.
        batch: Returns the indices of a step's examples, (N, B); `None` for the whole set.
        masked: The model's layers of dropout.
        seeds: Of the lanes, for their masks.
    """

    def __init__(
        self,
        objective: Objective,
        split: Split,
        *,
        batch: Callable[[int], Tensor] | None,
        masked: Sequence[MaskedLayer],
        seeds: Sequence[int],
    ) -> None:
        self._objective, self._split, self._batch = objective, split, batch
        self._masked, self._seeds = masked, seeds
        self._indices_NB: Tensor | None = None
        self._step = 0

    @property
    def in_place(self) -> bool:
        """Whether `load` puts everything where the last step's was."""
        return self._objective.replayable and not self._masked

    def load(self, step: int) -> None:
        """Make the examples of a step those of `gradient_at`."""
        self._step = step
        if self._batch is None:
            return
        indices = self._batch(step)
        if self._indices_NB is None:
            self._indices_NB = indices.clone()
        else:
            self._indices_NB.copy_(indices)

    def gradient_at(self, params_NP: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses (N,) and gradients (N, P) at these weights."""
        draw_masks = masks_of_step(self._masked, self._seeds, self._step, params_NP)
        if self._batch is None:
            return loss_and_gradient(self._objective, params_NP, self._split, draw_masks)
        assert self._indices_NB is not None, "nothing is loaded"
        inputs, targets = self._split.select(self._indices_NB)
        return self._objective.loss_and_gradient(params_NP, inputs, targets, draw_masks(inputs.shape[1]))


@dataclass(slots=True, kw_only=True)
class Steps:
    """Weights on their way.

    Args:
        params_NP: Weights; moved in place.
        state: The base optimiser's state; replaced at each step, or moved in place by a replay.
        update: What a step does.
        examples: What its gradient is computed on.
    """

    params_NP: Tensor
    state: State
    update: Update
    examples: Examples
    _warm: bool = False
    _replay: Recording[Tensor] | None = None

    def next_update(self, step: int) -> Tensor:
        """Return what update number `step` would add to the weights, (N, P), and change nothing."""
        into = torch.zeros_like(self.params_NP)
        self.examples.load(step)
        self.update.step(self.params_NP, self.examples.gradient_at, self.state, into_NP=into)
        return into

    def advance(self, start: int, stop: int, enough: Callable[[], bool]) -> Tensor:
        """Do updates number `start` to `stop - 1`, or till `enough`; return the losses before, (S, N)."""
        losses_SN = self.params_NP.new_empty(stop - start, len(self.params_NP))
        for step in range(start, stop):
            self.examples.load(step)
            losses_SN[step - start] = self._next()
            if enough():
                return losses_SN[: step + 1 - start]
        return losses_SN

    def _next(self) -> Tensor:
        """Do one update; return the losses before it, (N,)."""
        if self._replay is None and self._warm and self._replayable:
            self._replay = Recording(self._in_place)
        if self._replay is not None:
            return self._replay()
        # The first one is never recorded: libraries set themselves up in it.
        self._warm = True
        loss, self.state = self.update.step(self.params_NP, self.examples.gradient_at, self.state)
        return loss

    @property
    def _replayable(self) -> bool:
        dominant = self.update.dominant
        return (
            self.params_NP.device.type == "cuda"
            and self.examples.in_place
            and (dominant is None or dominant.in_place)
        )

    def _in_place(self) -> Tensor:
        loss, after = self.update.step(self.params_NP, self.examples.gradient_at, self.state)
        for name, values in self.state.items():
            values.copy_(after[name])
        return loss
