"""The dense layer y = x W^T + b, and flattening."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.layers import Saved


@dataclass(frozen=True, slots=True)
class Dense:
    """y = x W^T + b with W (outputs, inputs), stored as W then b."""

    num_inputs: int
    num_outputs: int
    bias: bool = True

    @property
    def num_params(self) -> int:
        """Weights and biases."""
        return self.num_outputs * (self.num_inputs + self.bias)

    def _weight(self, params: Tensor) -> Tensor:
        """View (..., outputs, inputs) of the weights in (..., Q)."""
        return params[..., : self.num_outputs * self.num_inputs].unflatten(
            -1, (self.num_outputs, self.num_inputs)
        )

    def _bias(self, params: Tensor) -> Tensor:
        return params[..., self.num_outputs * self.num_inputs :]

    def forward(self, params_NQ: Tensor, inputs_NBF: Tensor) -> tuple[Tensor, Saved]:
        """Return the outputs; the inputs are saved."""
        weight_T = self._weight(params_NQ).mT
        if not self.bias:
            return torch.bmm(inputs_NBF, weight_T), inputs_NBF
        return torch.baddbmm(self._bias(params_NQ).unsqueeze(1), inputs_NBF, weight_T), inputs_NBF

    def backward(
        self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor, *, need_input: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return g^T x beside the sum of g, and g W."""
        grads = [torch.bmm(grad_NBF.mT, saved).flatten(1)]
        if self.bias:
            grads.append(grad_NBF.sum(1))
        grad_inputs = torch.bmm(grad_NBF, self._weight(params_NQ)) if need_input else None
        return torch.cat(grads, 1), grad_inputs

    def tangent(
        self, params_NQ: Tensor, saved: Saved, directions_NRQ: Tensor, tangents: Tensor | None
    ) -> tuple[Tensor, Saved]:
        """Return x W'^T + b' + x' W^T."""
        lanes, num_directions = directions_NRQ.shape[:2]
        batch = saved.shape[1]
        stacked = self._weight(directions_NRQ).reshape(
            lanes, num_directions * self.num_outputs, self.num_inputs
        )
        if self.bias:
            bias = self._bias(directions_NRQ).reshape(lanes, 1, num_directions * self.num_outputs)
            out = torch.baddbmm(bias, saved, stacked.mT)
        else:
            out = torch.bmm(saved, stacked.mT)
        out = out.view(lanes, batch * num_directions, self.num_outputs)
        if tangents is not None:
            flat = tangents.reshape(lanes, batch * num_directions, self.num_inputs)
            out.baddbmm_(flat, self._weight(params_NQ).mT)
        return out.view(lanes, batch, num_directions, self.num_outputs), tangents

    def backward_tangent(
        self,
        params_NQ: Tensor,
        saved: Saved,
        directions_NRQ: Tensor,
        tangent_saved: Saved,
        grad_NBF: Tensor | None,
        grad_tangents: Tensor,
        into_NRQ: Tensor,
        *,
        need_input: bool,
    ) -> Tensor | None:
        """Write g'^T x + g^T x' and the sum of g', and return g' W + g W'."""
        lanes, batch, num_directions, _ = grad_tangents.shape
        out, inp = self.num_outputs, self.num_inputs
        weight_part = torch.bmm(grad_tangents.reshape(lanes, batch, num_directions * out).mT, saved)
        self._weight(into_NRQ).copy_(weight_part.view(lanes, num_directions, out, inp))
        if grad_NBF is not None and tangent_saved is not None:
            mixed = torch.bmm(grad_NBF.mT, tangent_saved.reshape(lanes, batch, num_directions * inp))
            self._weight(into_NRQ).add_(mixed.view(lanes, out, num_directions, inp).transpose(1, 2))
        if self.bias:
            self._bias(into_NRQ).copy_(grad_tangents.sum(1))
        if not need_input:
            return None
        flat = grad_tangents.reshape(lanes, batch * num_directions, out)
        grad_inputs = torch.bmm(flat, self._weight(params_NQ)).view(lanes, batch, num_directions * inp)
        if grad_NBF is not None:
            across = self._weight(directions_NRQ).transpose(1, 2).reshape(lanes, out, num_directions * inp)
            grad_inputs.baddbmm_(grad_NBF, across)
        return grad_inputs.view(lanes, batch, num_directions, inp)


@dataclass(frozen=True, slots=True)
class Flatten:
    """Merge the axes of one example."""

    num_params: int = 0

    def forward(self, params_NQ: Tensor, inputs_NBF: Tensor) -> tuple[Tensor, Saved]:
        """Return (N, B, F)."""
        return inputs_NBF.flatten(2), inputs_NBF.shape[2:]

    def backward(
        self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor, *, need_input: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Restore the shape of one example."""
        return None, grad_NBF.unflatten(-1, saved)

    def tangent(
        self, params_NQ: Tensor, saved: Saved, directions_NRQ: Tensor, tangents: Tensor | None
    ) -> tuple[Tensor, Saved]:
        """Return (N, B, R, F)."""
        assert tangents is not None, "a chain drops a leading Flatten"
        return tangents.flatten(3), None

    def backward_tangent(
        self,
        params_NQ: Tensor,
        saved: Saved,
        directions_NRQ: Tensor,
        tangent_saved: Saved,
        grad_NBF: Tensor | None,
        grad_tangents: Tensor,
        into_NRQ: Tensor,
        *,
        need_input: bool,
    ) -> Tensor | None:
        """Restore the shape of one example."""
        return grad_tangents.unflatten(-1, saved)
