"""Two-dimensional convolution.

Lanes of a convolution are its groups: (N, B, C, H, W) becomes (B, N C, H, W), which costs nothing for N = 1.
Directions are extra output channels (through W'), extra examples (through x') or extra input channels (in the
mixed terms), so every product below is one convolution call.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.layers import Saved, Stacked, Sums

_backward = torch.ops.aten.convolution_backward.default


@dataclass(frozen=True, slots=True)
class _Directions:
    """A block of directions W', b' as kernels.

    Args:
        forward: (N R out, in, size, size).
        backward: (N out, R in, size, size), `None` for a first layer.
        bias: (N R out,), `None` without one.
        count: R.
    """

    forward: Tensor
    backward: Tensor | None
    bias: Tensor | None
    count: int


@dataclass(frozen=True, slots=True)
class Convolution:
    """y = x * W + b, stride 1, square kernel, zero padding; stored as W (out, in, size, size) then b."""

    num_inputs: int
    num_outputs: int
    size: int
    padding: int
    bias: bool = True

    @property
    def _kernel(self) -> tuple[int, int, int, int]:
        return self.num_outputs, self.num_inputs, self.size, self.size

    @property
    def _num_weights(self) -> int:
        return self.num_outputs * self.num_inputs * self.size * self.size

    @property
    def num_params(self) -> int:
        """Weights and biases."""
        return self._num_weights + self.bias * self.num_outputs

    @property
    def patch_size(self) -> int:
        """Inputs that one output sees."""
        return self.num_inputs * self.size * self.size

    def _weight(self, params: Tensor) -> Tensor:
        return params[..., : self._num_weights].unflatten(-1, self._kernel)

    def _convolve(self, inputs: Tensor, weight: Tensor, groups: int) -> Tensor:
        return F.conv2d(inputs, weight, padding=self.padding, groups=groups)

    def _transposed(self, grad: Tensor, weight: Tensor, groups: int) -> Tensor:
        return F.conv_transpose2d(grad, weight, padding=self.padding, groups=groups)

    def _weight_gradient(self, grad: Tensor, inputs: Tensor, weight: Tensor, groups: int) -> Tensor:
        pad = [self.padding, self.padding]
        mask = [False, True, False]
        result = _backward(grad, inputs, weight, None, [1, 1], pad, [1, 1], False, [0, 0], groups, mask)[1]
        assert result is not None
        return result

    def forward(self, params_NQ: Tensor, inputs_NBF: Tensor) -> tuple[Tensor, Saved]:
        """Return the outputs (N, B, C, H, W); the inputs are saved with lanes as channels."""
        lanes = params_NQ.shape[0]
        merged = _lanes_to_channels(inputs_NBF)
        bias = params_NQ[:, self._num_weights :].reshape(-1) if self.bias else None
        weight = self._weight(params_NQ).flatten(0, 1)
        out = F.conv2d(merged, weight, bias, padding=self.padding, groups=lanes)
        return _channels_to_lanes(out, lanes), merged

    def gradient(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor, into_NQ: Tensor) -> None:
        """Write the gradients in weights and bias."""
        lanes = params_NQ.shape[0]
        weight = self._weight(params_NQ).flatten(0, 1)
        own = self._weight_gradient(_lanes_to_channels(grad_NBF), saved, weight, lanes)
        into_NQ[:, : self._num_weights] = own.reshape(lanes, self._num_weights)
        if self.bias:
            into_NQ[:, self._num_weights :] = grad_NBF.sum((1, 3, 4))

    def backward(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor) -> Tensor:
        """Return the gradient in the inputs."""
        lanes = params_NQ.shape[0]
        weight = self._weight(params_NQ).flatten(0, 1)
        return _channels_to_lanes(self._transposed(_lanes_to_channels(grad_NBF), weight, lanes), lanes)

    def stack(self, directions_NRQ: Tensor, *, need_input: bool) -> Stacked:
        """Lay the directions out as kernels, once as output channels and once as input channels."""
        lanes, num_directions = directions_NRQ.shape[:2]
        weight = self._weight(directions_NRQ)
        shape = (lanes * self.num_outputs, num_directions * self.num_inputs, self.size, self.size)
        return _Directions(
            forward=weight.flatten(0, 2),
            backward=weight.transpose(1, 2).reshape(shape) if need_input else None,
            bias=directions_NRQ[..., self._num_weights :].reshape(-1) if self.bias else None,
            count=num_directions,
        )

    def tangent(
        self, params_NQ: Tensor, saved: Saved, stacked: Stacked, tangents: Tensor | None
    ) -> tuple[Tensor, Saved]:
        """Return x * W' + b' + x' * W, (N, B, R, C, H, W)."""
        lanes, num_directions = params_NQ.shape[0], stacked.count
        out = F.conv2d(saved, stacked.forward, stacked.bias, padding=self.padding, groups=lanes)
        out = _channels_to_lanes(out, lanes).unflatten(2, (num_directions, self.num_outputs))
        if tangents is None:
            return out, None
        merged = _lanes_to_channels(tangents.flatten(1, 2))
        extra = self._convolve(merged, self._weight(params_NQ).flatten(0, 1), lanes)
        return out.add_(_channels_to_lanes(extra, lanes).unflatten(1, (-1, num_directions))), tangents

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
        """Add and return the tangents of both gradients; `grad_tangents` is (N, B, R, C, H, W)."""
        lanes, num_directions = params_NQ.shape[0], stacked.count
        grad_stacked = _lanes_to_channels(grad_tangents.flatten(2, 3))
        own = grad_tangents.new_empty(lanes, num_directions, self.num_params)
        weight_part = self._weight_gradient(grad_stacked, saved, stacked.forward, lanes)
        own[..., : self._num_weights] = weight_part.reshape(lanes, num_directions, self._num_weights)
        if self.bias:
            own[..., self._num_weights :] = grad_tangents.sum((1, 4, 5))
        grad = None if grad_NBF is None else _lanes_to_channels(grad_NBF)
        if grad is not None and tangent_saved is not None:
            inputs = _lanes_to_channels(tangent_saved.flatten(2, 3))
            mixed = self._weight_gradient(grad, inputs, stacked.backward, lanes).view(
                lanes, self.num_outputs, num_directions, self.num_inputs, self.size, self.size
            )
            self._weight(own).add_(mixed.transpose(1, 2))
        own = own if sums is None else sums.add_(own)
        if not need_input:
            return own, None
        weight = self._weight(params_NQ).flatten(0, 1)
        through = self._transposed(_lanes_to_channels(grad_tangents.flatten(1, 2)), weight, lanes)
        grad_inputs = _channels_to_lanes(through, lanes).unflatten(1, (-1, num_directions))
        if grad is not None:
            extra = _channels_to_lanes(self._transposed(grad, stacked.backward, lanes), lanes)
            grad_inputs.add_(extra.unflatten(2, (num_directions, self.num_inputs)))
        return own, grad_inputs

    def collect(self, sums: Sums, into_NRQ: Tensor) -> None:
        """Write the rows, which are what has been added up."""
        into_NRQ.copy_(sums)


def _lanes_to_channels(tensor: Tensor) -> Tensor:
    """(N, B, C, H, W) to (B, N C, H, W)."""
    return tensor[0] if tensor.shape[0] == 1 else tensor.transpose(0, 1).flatten(1, 2)


def _channels_to_lanes(tensor: Tensor, lanes: int) -> Tensor:
    """(B, N C, H, W) to (N, B, C, H, W)."""
    return tensor.unsqueeze(0) if lanes == 1 else tensor.unflatten(1, (lanes, -1)).transpose(0, 1)
