"""Lanes with one base optimiser taking steps together, between two events of the loop.

Shape legend: N lanes, P parameters, S steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.optimizers.rules import GradientAt, State
from trainers.optimizers.update import Update


@dataclass(slots=True, kw_only=True)
class Steps:
    """Weights on their way.

    Args:
        params_NP: Weights; moved in place.
        state: The base optimiser's state; replaced at each step.
        update: What a step does.
        gradient_at: From a step and weights (N, P), the losses (N,) and gradients (N, P).
    """

    params_NP: Tensor
    state: State
    update: Update
    gradient_at: Callable[[int, Tensor], tuple[Tensor, Tensor]]

    def next_update(self, step: int) -> Tensor:
        """Return what update number `step` would add to the weights, (N, P), and change nothing."""
        into = torch.zeros_like(self.params_NP)
        self.update.step(self.params_NP, self._gradient(step), self.state, into_NP=into)
        return into

    def _gradient(self, step: int) -> GradientAt:
        return lambda params_NP: self.gradient_at(step, params_NP)

    def advance(self, start: int, stop: int) -> Tensor:
        """Do updates number `start` to `stop - 1`; return the losses before each, (S, N)."""
        losses: list[Tensor] = []
        for step in range(start, stop):
            loss, self.state = self.update.step(self.params_NP, self._gradient(step), self.state)
            losses.append(loss)
        return torch.stack(losses)
