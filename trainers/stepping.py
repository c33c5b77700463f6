"""Lanes with one base optimiser taking steps together, between two events of the loop.

Shape legend: N lanes, P parameters, S steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.optimizers.rules import State
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

    def advance(self, start: int, stop: int) -> Tensor:
        """Do updates number `start` to `stop - 1`; return the losses before each, (S, N)."""
        losses: list[Tensor] = []
        for step in range(start, stop):

            def gradient_at(params_NP: Tensor, step: int = step) -> tuple[Tensor, Tensor]:
                return self.gradient_at(step, params_NP)

            loss, self.state = self.update.step(self.params_NP, gradient_at, self.state)
            losses.append(loss)
        return torch.stack(losses)
