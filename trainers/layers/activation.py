"""Elementwise activations with their first two derivatives."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.layers import Parameterless, Saved, Stacked, Sums

Derivatives = tuple[Tensor, Callable[[], Tensor] | None]
"""phi'(x), and a function that returns phi''(x), `None` where that is 0 everywhere; or phi''(x) / phi'(x)."""


@dataclass(frozen=True, slots=True)
class Activation(Parameterless):
    """y = phi(x), elementwise.

    Args:
        value: phi.
        derivatives: From x and y, phi'(x) and a way to phi''(x).
        relative: Whether that is a way to phi''(x) / phi'(x), which is bounded: then phi''(x) x' comes from
            y' = phi'(x) x', which is kept anyway, and x' makes room for it.
    """

    value: Callable[[Tensor], Tensor]
    derivatives: Callable[[Tensor, Tensor], Derivatives]
    relative: bool = False

    def forward(self, params_NQ: Tensor, inputs_NBF: Tensor) -> tuple[Tensor, Saved]:
        """Return phi(x)."""
        outputs = self.value(inputs_NBF)
        return outputs, (inputs_NBF, outputs)

    def backward(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor) -> Tensor:
        """Return phi'(x) g."""
        return self.derivatives(*saved)[0] * grad_NBF

    def gate(self, saved: Saved) -> Tensor | None:
        """Return phi'(x) where that is all there is to both tangents, phi'' being 0; `None` elsewhere."""
        first, second = self.derivatives(*saved)
        return first if second is None else None

    def tangent(
        self, params_NQ: Tensor, saved: Saved, stacked: Stacked, tangents: Tensor | None
    ) -> tuple[Tensor, Saved]:
        """Return phi'(x) x', in the place of x' where phi'' does not ask for x': new memory costs more."""
        assert tangents is not None, "a network does not begin with an activation"
        first, second = self.derivatives(*saved)
        if second is None or self.relative:
            outputs = tangents.mul_(first.unsqueeze(2))
            return outputs, None if second is None else outputs
        return first.unsqueeze(2) * tangents, tangents

    def backward_tangent(
        self,
        params_NQ: Tensor,
        saved: Saved,
        stacked: Stacked,
        tangent_saved: Saved,
        grad_NBF: Tensor | None,
        grad_tangents: Tensor,
        sums: Sums,
        *,
        need_input: bool,
    ) -> tuple[Sums, Tensor | None]:
        """Return phi'(x) g' + phi''(x) x' g, in the place of g'."""
        return None, self.tangent_of_gradient(saved, tangent_saved, grad_NBF, grad_tangents)

    def tangent_of_gradient(
        self, saved: Saved, tangent_saved: Saved, grad_NBF: Tensor | None, grad_tangents: Tensor
    ) -> Tensor:
        """See `backward_tangent`."""
        first, second = self.derivatives(*saved)
        result = grad_tangents.mul_(first.unsqueeze(2))
        if grad_NBF is not None and second is not None:
            result.addcmul_((second() * grad_NBF).unsqueeze(2), tangent_saved)
        return result


def _relu(inputs: Tensor, outputs: Tensor) -> Derivatives:
    return (outputs > 0).to(outputs.dtype), None


def _tanh(inputs: Tensor, outputs: Tensor) -> Derivatives:
    first = 1 - outputs.square()
    return first, lambda: -2 * outputs


def _softplus(inputs: Tensor, outputs: Tensor) -> Derivatives:
    first = inputs.sigmoid()
    return first, lambda: 1 - first


def _gelu(inputs: Tensor, outputs: Tensor) -> Derivatives:
    density = (-0.5 * inputs.square()).exp() / math.sqrt(2 * math.pi)
    distribution = 0.5 * (1 + torch.erf(inputs / math.sqrt(2)))
    return distribution + inputs * density, lambda: (2 - inputs.square()) * density


RELU = Activation(torch.relu, _relu)
TANH = Activation(torch.tanh, _tanh, relative=True)
SOFTPLUS = Activation(F.softplus, _softplus, relative=True)
GELU = Activation(F.gelu, _gelu)
