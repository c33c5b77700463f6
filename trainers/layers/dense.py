"""The dense layer y = x W^T + b, and flattening."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.layers import Saved, Stacked, Sums
from trainers.layers.products import tensor_cores_for


@dataclass(frozen=True, slots=True)
class _Directions:
    """A block of directions W', b' as matrices.

    Args:
        forward: (N, R outputs, inputs), for tensor cores in halves, (2, N, R, outputs, inputs).
        backward: (N, outputs, R inputs), for tensor cores in halves, (2, N, R, inputs, outputs); `None` for a
            first layer.
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
        weight: From g', (N, R outputs, inputs); from tensor cores with the biases' in one more column, if any.
        mixed: From x', (N, outputs, R inputs), from tensor cores (N, R inputs, outputs); `None` for a first
            layer and for Gauss-Newton products.
        bias: (N, R, outputs), `None` without one and from tensor cores.
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

    def gradient(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor) -> tuple[Tensor, ...]:
        """Return g^T x and the sum of g."""
        weight = torch.bmm(grad_NBF.mT, saved).flatten(1)
        return (weight, grad_NBF.sum(1)) if self.bias else (weight,)

    def backward(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor) -> Tensor:
        """Return g W."""
        return torch.bmm(grad_NBF, self._weight(params_NQ))

    def stack(self, directions_NRQ: Tensor, *, need_input: bool) -> Stacked:
        """Lay the directions out as matrices, once beside the outputs and once beside the inputs."""
        lanes, num_directions = directions_NRQ.shape[:2]
        weight = self._weight(directions_NRQ)
        if cores := tensor_cores_for(weight):
            forward = cores.halves(weight)
            backward = cores.halves(weight.mT) if need_input else None
        else:
            forward = weight.reshape(lanes, num_directions * self.num_outputs, self.num_inputs)
            backward = weight.transpose(1, 2).reshape(lanes, self.num_outputs, -1) if need_input else None
        bias = self._bias(directions_NRQ).reshape(lanes, 1, -1) if self.bias else None
        return _Directions(forward=forward, backward=backward, bias=bias, count=num_directions)

    def tangent(
        self,
        params_NQ: Tensor,
        saved: Saved,
        stacked: Stacked,
        tangents: Tensor | None,
        *,
        gate: Tensor | None = None,
    ) -> tuple[Tensor, Saved]:
        """Return x W'^T + b' + x' W^T, times the gate (N, B, outputs)."""
        lanes, batch = saved.shape[:2]
        if cores := tensor_cores_for(saved):
            out = saved.new_empty(lanes, batch, stacked.count, self.num_outputs)
            if tangents is None:
                pair = saved.unsqueeze(1), stacked.forward.flatten(2, 3).unsqueeze(2)
                cores.multiply(out.flatten(2).unsqueeze(1), pair, bias_NRJ=stacked.bias, scale_NMS=gate)
                return out, tangents
            weight = cores.halves(self._weight(params_NQ)).unsqueeze(2)
            cores.multiply(
                out.transpose(1, 2),
                (saved.unsqueeze(1).expand(-1, stacked.count, -1, -1), stacked.forward),
                (tangents.transpose(1, 2), weight.expand_as(stacked.forward)),
                bias_NRJ=None if stacked.bias is None else stacked.bias.view(lanes, stacked.count, -1),
                scale_NMS=gate,
            )
            return out, tangents
        if stacked.bias is None:
            out = torch.bmm(saved, stacked.forward.mT)
        else:
            out = torch.baddbmm(stacked.bias, saved, stacked.forward.mT)
        out = out.view(lanes, batch * stacked.count, self.num_outputs)
        if tangents is not None:
            flat = tangents.reshape(lanes, batch * stacked.count, self.num_inputs)
            out.baddbmm_(flat, self._weight(params_NQ).mT)
        return _gated(out.view(lanes, batch, stacked.count, self.num_outputs), gate), tangents

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
        gate: Tensor | None = None,
    ) -> tuple[Sums, Tensor | None]:
        """Add g'^T x + g^T x' and the sum of g', and return g' W + g W', times the gate (N, B, inputs)."""
        lanes, batch, num_directions, _ = grad_tangents.shape
        out, inp = self.num_outputs, self.num_inputs
        added = _Sums() if sums is None else sums
        cores = tensor_cores_for(saved)
        beside = grad_tangents.reshape(lanes, batch, num_directions * out)
        mixed = grad_NBF is not None and tangent_saved is not None
        inputs = tangent_saved.reshape(lanes, batch, num_directions * inp) if mixed else None
        if cores:
            added.weight = _plus(added.weight, cores.sums_over(beside, saved, plain_too=self.bias))
            if inputs is not None:
                added.mixed = _plus(added.mixed, cores.sums_over(inputs, grad_NBF))
        else:
            added.weight = _plus_product(added.weight, beside.mT, saved)
            if inputs is not None and grad_NBF is not None:
                added.mixed = _plus_product(added.mixed, grad_NBF.mT, inputs)
            if self.bias:
                added.bias = _plus(added.bias, grad_tangents.sum(1))
        if not need_input:
            return added, None
        if cores:
            grad_inputs = saved.new_empty(lanes, batch, num_directions, inp)
            weight = cores.halves(self._weight(params_NQ).mT).unsqueeze(2)
            pair = grad_tangents.transpose(1, 2), weight.expand(-1, -1, num_directions, -1, -1)
            second = None
            if grad_NBF is not None:
                grads = grad_NBF.contiguous().unsqueeze(1).expand(-1, num_directions, -1, -1)
                second = grads, stacked.backward
            cores.multiply(grad_inputs.transpose(1, 2), pair, second, scale_NMS=gate)
            return added, grad_inputs
        flat = grad_tangents.reshape(lanes, batch * num_directions, out)
        grad_inputs = torch.bmm(flat, self._weight(params_NQ)).view(lanes, batch, num_directions * inp)
        if grad_NBF is not None:
            grad_inputs.baddbmm_(grad_NBF, stacked.backward)
        return added, _gated(grad_inputs.view(lanes, batch, num_directions, inp), gate)

    def collect(self, sums: Sums, into_NRQ: Tensor) -> None:
        """Write the weights' rows, the two parts of each added, and the biases'."""
        shape = (into_NRQ.shape[1], self.num_outputs, self.num_inputs)
        both, into = sums.weight.unflatten(1, shape[:2]), self._weight(into_NRQ)
        rows, bias = both[..., : self.num_inputs], sums.bias
        if self.bias and bias is None:
            bias = both[..., self.num_inputs]
        if sums.mixed is None:
            into.copy_(rows)
        elif tensor_cores_for(rows):
            torch.add(rows, sums.mixed.unflatten(1, shape[::2]).mT, out=into)
        else:
            torch.add(rows, sums.mixed.unflatten(2, shape[::2]).transpose(1, 2), out=into)
        if bias is not None:
            self._bias(into_NRQ).copy_(bias)


def _gated(tangents_NBRF: Tensor, gate_NBF: Tensor | None) -> Tensor:
    """Return the tangents times the gate, in their place: new memory costs more."""
    return tangents_NBRF if gate_NBF is None else tangents_NBRF.mul_(gate_NBF.unsqueeze(2))


def _plus(total: Tensor | None, more: Tensor) -> Tensor:
    """Return total + more, in the place of total."""
    return more if total is None else total.add_(more)


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

    def gradient(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor) -> tuple[Tensor, ...]:
        """No parameters, no gradient."""
        return ()

    def backward(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor) -> Tensor:
        """Restore the shape of one example."""
        return grad_NBF.unflatten(-1, saved)

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
