"""The one update rule around every base optimiser, for lanes that share one (ZS25 section 4.1).

    theta <- theta - dom_rate P_k d - bulk_rate (I - P_k) d.

With `project: gradient` the two rates act on the gradient before the base optimiser sees it:

    g' = (dom_rate P_k g + bulk_rate (I - P_k) g) / rate,   theta <- theta - rate d(g'),

with `rate` the larger of the two. Only their ratio reaches the base optimiser, so that cells with the same
effective rates remain one experiment, and so that Bulk- and Dom-Adam step with their own rate.

Shape legend: N lanes, P parameters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.optimizers.dominant import Dominant
from trainers.optimizers.rules import GradientAt, Rule, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A step of lanes with one base optimiser; the rates may differ.

    Args:
        rule: The base optimiser.
        dom_rate_N1: Effective rate in the Dominant subspace.
        bulk_rate_N1: Effective rate in the Bulk.
        dominant: The Dominant subspaces; `None` where no lane projects.
        project_gradient: Whether the gradient is projected instead of the update.
    """

    rule: Rule
    dom_rate_N1: Tensor
    bulk_rate_N1: Tensor
    dominant: Dominant | None
    project_gradient: bool = False

    def step(
        self, params_NP: Tensor, gradient_at: GradientAt, state: State, *, into_NP: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Move `params_NP` in place; return the losses before the step (N,) and the state after it.

        With `into_NP` the weights stay, and the update is added to that tensor instead.
        """
        target = params_NP if into_NP is None else into_NP
        loss, gradient = self.rule.gradient(gradient_at, params_NP)
        if self.project_gradient:
            rate = torch.maximum(self.dom_rate_N1, self.bulk_rate_N1)
            filtered = torch.zeros_like(gradient)
            self._add(filtered, gradient, self.dom_rate_N1 / rate, self.bulk_rate_N1 / rate)
            direction, state = self.rule.direction(filtered, state, self.dominant)
            target.addcmul_(direction, -rate)
        else:
            direction, state = self.rule.direction(gradient, state, self.dominant)
            self._add(target, direction, -self.dom_rate_N1, -self.bulk_rate_N1)
        return loss, state

    def _add(self, target_NP: Tensor, direction_NP: Tensor, dom_N1: Tensor, bulk_N1: Tensor) -> None:
        """Add dom P d + bulk (I - P) d to the target, in place."""
        if self.dominant is None:
            target_NP.addcmul_(direction_NP, bulk_N1)
        else:
            self.dominant.add(target_NP, direction_NP, dom_N1, bulk_N1)
