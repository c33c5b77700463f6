"""A convolution of the network's inputs, an activation and max pooling, as one layer.

Its tangents are those at the maxima, y' = phi'(x) (p W' + b') with p the patch of inputs that the maximum
sees: no image of tangents is ever made, which would be four times as large for a window of 2 x 2.

Shape legend: N lanes, B examples, R directions, C outputs, K inputs of a patch and 1 for the bias.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.layers import Saved, Stacked, Sums
from trainers.layers.convolution import Convolution
from trainers.layers.pooling import ActivatedPool, Maxima

LARGEST_PATCH = 32
"""Most inputs of a patch: patches are written for each output, and must not be more than what they save."""


@dataclass(frozen=True, slots=True)
class PooledConvolution:
    """y = max pooling of phi(x * W + b), of the network's inputs x; stored as the convolution is."""

    convolution: Convolution
    pool: ActivatedPool

    @property
    def num_params(self) -> int:
        """Weights and biases."""
        return self.convolution.num_params

    def forward(self, params_NQ: Tensor, inputs_NBF: Tensor) -> tuple[Tensor, Saved]:
        """Return the maxima (N, B, C, H, W); what both layers save is saved."""
        images, inputs = self.convolution.forward(params_NQ, inputs_NBF)
        out, kept = self.pool.forward(params_NQ, images)
        return out, (inputs, kept)

    def gradient(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor, into_NQ: Tensor) -> None:
        """Write the gradients in weights and bias."""
        inputs, kept = saved
        grad = self.pool.backward(params_NQ, kept, grad_NBF)
        self.convolution.gradient(params_NQ, inputs, grad, into_NQ)

    def backward(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor) -> Tensor:
        """Return the gradient in the inputs."""
        inputs, kept = saved
        return self.convolution.backward(params_NQ, inputs, self.pool.backward(params_NQ, kept, grad_NBF))

    def stack(self, directions_NRQ: Tensor, *, need_input: bool) -> Stacked:
        """Arrange the directions as (N, C, R, K)."""
        weight, bias = self._split(directions_NRQ)
        rows = weight if bias is None else torch.cat([weight, bias], -1)
        return rows.transpose(1, 2).contiguous()

    def tangent(
        self, params_NQ: Tensor, saved: Saved, stacked: Stacked, tangents: Tensor | None
    ) -> tuple[Tensor, Saved]:
        """Return phi'(x) (p W' + b'), (N, B, R, C, H, W); the patches are saved."""
        assert tangents is None, "the inputs are the network's"
        inputs, (there, maxima) = saved
        patches = self._patches(inputs, maxima)
        lanes, outputs, directions = stacked.shape[:3]
        rows = torch.bmm(stacked.flatten(0, 1), patches)
        rows = rows.view(lanes, outputs, directions, -1, *maxima.indices.shape[3:])
        own = rows.permute(0, 3, 2, 1, 4, 5).contiguous()
        out, kept = self.pool.activation.tangent(params_NQ, there, None, own)
        return out, (patches, kept)

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
        """Add the sums over maxima of (phi'(x) g' + phi''(x) x' g) p, (N C, R, K)."""
        assert not need_input, "the inputs are the network's"
        _, (there, _) = saved
        patches, kept = tangent_saved
        back = self.pool.activation.tangent_of_gradient(there, kept, grad_NBF, grad_tangents)
        rows = back.permute(0, 3, 2, 1, 4, 5).flatten(3).flatten(0, 1)
        return (torch.bmm(rows, patches.mT) if sums is None else sums.baddbmm_(rows, patches.mT)), None

    def collect(self, sums: Sums, into_NRQ: Tensor) -> None:
        """Write the rows."""
        lanes = into_NRQ.shape[0]
        rows = sums.unflatten(0, (lanes, -1)).transpose(1, 2)
        weight, bias = self._split(into_NRQ)
        size = self.convolution.patch_size
        weight.copy_(rows[..., :size])
        if bias is not None:
            bias.copy_(rows[..., size:])

    def _split(self, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return views of the weights (..., C, inputs of a patch) and of the biases (..., C, 1)."""
        layer = self.convolution
        weights = layer.num_outputs * layer.patch_size
        rows = vectors[..., :weights].unflatten(-1, (layer.num_outputs, layer.patch_size))
        return rows, vectors[..., weights:].unsqueeze(-1) if layer.bias else None

    def _patches(self, inputs: Tensor, maxima: Maxima) -> Tensor:
        """Return what each maximum sees, (N C, K, B H W); `inputs` is (B, N channels, height, width)."""
        layer, indices = self.convolution, maxima.indices
        lanes, batch, outputs = indices.shape[:3]
        columns = F.unfold(inputs, layer.size, padding=layer.padding)
        columns = columns.unflatten(1, (lanes, -1)).permute(1, 2, 0, 3).unsqueeze(1)
        places = indices.flatten(3).transpose(1, 2).unsqueeze(2)
        shape = lanes, outputs, layer.patch_size, batch
        seen = columns.expand(*shape, -1).gather(-1, places.expand(*shape, -1))
        if layer.bias:
            seen = torch.cat([seen, seen.new_ones(lanes, outputs, 1, *seen.shape[3:])], 2)
        return seen.flatten(3).flatten(0, 1)
