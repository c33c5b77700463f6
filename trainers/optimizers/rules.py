r"""The recurrences of the base optimisers over lanes, as pure functions of gradients and state.

A rule takes the gradient in two steps: where it is evaluated (`gradient`, of interest to SAM alone), and the
direction that follows from it and from the state (`direction`). State is a mapping of names to tensors with a
leading lane axis.

Shape legend: N lanes, P parameters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from trainers.optimizers.dominant import Dominant
from trainers.options import OptionValue

State = Mapping[str, Tensor]
GradientAt = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps weights (N, P) to losses (N,) and gradients (N, P)."""


class Rule(Protocol):
    """A base optimiser."""

    def initial(self, params_NP: Tensor) -> State:
        """Return the state before the first step."""
        ...

    def gradient(self, gradient_at: GradientAt, params_NP: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss (N,) at `params_NP`, and the gradient (N, P) that the direction starts from."""
        ...

    def direction(self, gradient_NP: Tensor, state: State, dominant: Dominant | None) -> tuple[Tensor, State]:
        """Return d (N, P) and the state after this step."""
        ...


class Plain:
    """d = g."""

    def initial(self, params_NP: Tensor) -> State:
        """Return no state."""
        return {}

    def gradient(self, gradient_at: GradientAt, params_NP: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and gradient at the weights."""
        return gradient_at(params_NP)

    def direction(self, gradient_NP: Tensor, state: State, dominant: Dominant | None) -> tuple[Tensor, State]:
        """Return the gradient."""
        return gradient_NP, state


@dataclass(frozen=True, slots=True)
class SharpnessAware(Plain):
    """d = grad L(theta + rho g / ||g||), g on the same examples (SAY25 section B.2); 0 where g = 0."""

    rho: float

    def gradient(self, gradient_at: GradientAt, params_NP: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss at the weights and the gradient at the perturbed ones."""
        loss, gradient = gradient_at(params_NP)
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        scale = torch.where(norm > 0, self.rho / norm, 0.0)
        return loss, gradient_at(torch.addcmul(params_NP, gradient, scale))[1]


@dataclass(frozen=True, slots=True)
class HeavyBall(Plain):
    """v <- beta v + g, d = v, from v = 0: `torch.optim.SGD` with momentum and without dampening."""

    beta: float

    def initial(self, params_NP: Tensor) -> State:
        """Return a velocity of 0."""
        return {"velocity": torch.zeros_like(params_NP)}

    def direction(self, gradient_NP: Tensor, state: State, dominant: Dominant | None) -> tuple[Tensor, State]:
        """Return the velocity."""
        velocity = gradient_NP.add(state["velocity"], alpha=self.beta)
        return velocity, {"velocity": velocity}


@dataclass(frozen=True, slots=True)
class Adam(Plain):
    r"""m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2, d = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps).

    Kingma & Ba (2015), algorithm 1; `beta1 = 0` is "without momentum".
    """

    beta1: float
    beta2: float
    eps: float

    def initial(self, params_NP: Tensor) -> State:
        """Return moments of 0 after 0 steps."""
        zero = torch.zeros_like(params_NP)
        count = torch.zeros(len(params_NP), 1, dtype=torch.float64, device=params_NP.device)
        return {"first": zero, "second": zero, "count": count}

    def direction(self, gradient_NP: Tensor, state: State, dominant: Dominant | None) -> tuple[Tensor, State]:
        """Return the bias-corrected ratio of the moments."""
        count = state["count"] + 1
        first = torch.lerp(gradient_NP, state["first"], self.beta1)
        second = torch.lerp(gradient_NP.square(), state["second"], self.beta2)
        scale1, scale2 = ((1 - beta**count).to(first.dtype) for beta in (self.beta1, self.beta2))
        direction = (first / scale1) / ((second / scale2).sqrt() + self.eps)
        return direction, {"first": first, "second": second, "count": count}


class LowRankNewton(Plain):
    """d = H_top^{-1} g_top (GRD18 eq. 11); directions with lambda_i <= 0 are left out."""

    def direction(self, gradient_NP: Tensor, state: State, dominant: Dominant | None) -> tuple[Tensor, State]:
        """Return the Newton step in the Dominant subspace."""
        assert dominant is not None, "a Newton stage always projects"
        return dominant.newton(gradient_NP), state


def build_rule(name: str, options: Mapping[str, OptionValue]) -> Rule:
    """Return the rule of a row of `OPTIMIZERS`, given all of its options."""
    numbers = cast("Mapping[str, float]", options)
    match name:
        case "sam":
            return SharpnessAware(numbers["rho"])
        case "momentum":
            return HeavyBall(numbers["beta"])
        case "adam":
            return Adam(numbers["beta1"], numbers["beta2"], numbers["eps"])
        case "newton":
            return LowRankNewton()
        case _:
            return Plain()
