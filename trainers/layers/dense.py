"""The dense layer y = x W^T + b, and flattening."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.layers import Saved, Stacked, Sums


@dataclass(frozen=True, slots=True)
class _Directions:
    """A block of directions W', b' as matrices.

    Args:
        forward: (N, R outputs, inputs).
        backward: (N, outputs, R inputs), `None` for a first layer.
        bias: (N, 1, R outputs), `None` without one.
        count: R.
    """

    forward: Tensor
    backward: Tensor | None
    bias: Tensor | None
    count: int


@dataclass(slots=True)
class _Sums:
    """Tangents of the gradient in W and b.

    Args:
        weight: From g', (N, R outputs, inputs).
        mixed: From x', (N, outputs, R inputs); `None` for a first layer and for Gauss-Newton products.
        bias: (N, R, outputs), `None` without one.
    """

    weight: Tensor | None = None
    mixed: Tensor | None = None
    bias: Tensor | None = None


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

    def stack(self, directions_NRQ: Tensor, *, need_input: bool) -> Stacked:
        """Lay the directions out as matrices, once beside the outputs and once beside the inputs."""
        lanes, num_directions = directions_NRQ.shape[:2]
        weight = self._weight(directions_NRQ)
        across = weight.transpose(1, 2)
        return _Directions(
            forward=weight.reshape(lanes, num_directions * self.num_outputs, self.num_inputs),
            backward=across.reshape(lanes, self.num_outputs, -1) if need_input else None,
            bias=self._bias(directions_NRQ).reshape(lanes, 1, -1) if self.bias else None,
            count=num_directions,
        )

    def tangent(
        self, params_NQ: Tensor, saved: Saved, stacked: Stacked, tangents: Tensor | None
    ) -> tuple[Tensor, Saved]:
        """Return x W'^T + b' + x' W^T."""
        lanes, batch = saved.shape[:2]
        if stacked.bias is None:
            out = torch.bmm(saved, stacked.forward.mT)
        else:
            out = torch.baddbmm(stacked.bias, saved, stacked.forward.mT)
        out = out.view(lanes, batch * stacked.count, self.num_outputs)
        if tangents is not None:
            flat = tangents.reshape(lanes, batch * stacked.count, self.num_inputs)
            out.baddbmm_(flat, self._weight(params_NQ).mT)
        return out.view(lanes, batch, stacked.count, self.num_outputs), tangents

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
        """Add g'^T x + g^T x' and the sum of g', and return g' W + g W'."""
        lanes, batch, num_directions, _ = grad_tangents.shape
        out, inp = self.num_outputs, self.num_inputs
        added = _Sums() if sums is None else sums
        beside = grad_tangents.reshape(lanes, batch, num_directions * out)
        added.weight = _plus_product(added.weight, beside.mT, saved)
        if grad_NBF is not None and tangent_saved is not None:
            inputs = tangent_saved.reshape(lanes, batch, num_directions * inp)
            added.mixed = _plus_product(added.mixed, grad_NBF.mT, inputs)
        if self.bias:
            bias = grad_tangents.sum(1)
            added.bias = bias if added.bias is None else added.bias.add_(bias)
        if not need_input:
            return added, None
        flat = grad_tangents.reshape(lanes, batch * num_directions, out)
        grad_inputs = torch.bmm(flat, self._weight(params_NQ)).view(lanes, batch, num_directions * inp)
        if grad_NBF is not None:
            grad_inputs.baddbmm_(grad_NBF, stacked.backward)
        return added, grad_inputs.view(lanes, batch, num_directions, inp)

    def collect(self, sums: Sums, into_NRQ: Tensor) -> None:
        """Write the weights' rows, the two parts of each added, and the biases'."""
        shape = (into_NRQ.shape[1], self.num_outputs, self.num_inputs)
        rows, into = sums.weight.unflatten(1, shape[:2]), self._weight(into_NRQ)
        if sums.mixed is None:
            into.copy_(rows)
        else:
            torch.add(rows, sums.mixed.unflatten(2, shape[::2]).transpose(1, 2), out=into)
        if sums.bias is not None:
            self._bias(into_NRQ).copy_(sums.bias)


def _plus_product(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """Return left right + total, in the place of total."""
    return torch.bmm(left, right) if total is None else total.baddbmm_(left, right)


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

    def stack(self, directions_NRQ: Tensor, *, need_input: bool) -> Stacked:
        """No parameters, no directions."""

    def tangent(
        self, params_NQ: Tensor, saved: Saved, stacked: Stacked, tangents: Tensor | None
    ) -> tuple[Tensor, Saved]:
        """Return (N, B, R, F)."""
        assert tangents is not None, "a chain drops a leading Flatten"
        return tangents.flatten(3), None

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
        """Restore the shape of one example."""
        return None, grad_tangents.unflatten(-1, saved)

    def collect(self, sums: Sums, into_NRQ: Tensor) -> None:
        """No parameters, nothing to write."""
