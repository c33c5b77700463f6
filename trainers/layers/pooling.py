"""Max pooling, and an activation followed by it.

What pooling drops has no tangents: of an activation and a pooling together only the places of the maxima are
ever looked at, for a window of 2 x 2 a quarter of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.layers import Parameterless, Saved, Stacked, Sums
from trainers.layers.activation import Activation


@dataclass(frozen=True, slots=True)
class Maxima:
    """Where the first maximum of each window stands.

    Args:
        indices: In the flat image, (N, B, C, H, W) of the pooled image, int64.
        image: Height and width before pooling.
    """

    indices: Tensor
    image: torch.Size

    def pick(self, values: Tensor) -> Tensor:
        """Return (..., H, W) of what stands there; there may be directions R before the channels."""
        places = self._places(values)
        return values.flatten(-2).gather(-1, places.flatten(-2)).unflatten(-1, places.shape[-2:])

    def put(self, values: Tensor) -> Tensor:
        """Return images with the values there and 0 elsewhere."""
        out = values.new_zeros(*values.shape[:-2], self.image[0] * self.image[1])
        places = self._places(values).flatten(-2)
        return out.scatter_(-1, places, values.flatten(-2)).unflatten(-1, self.image)

    def _places(self, values: Tensor) -> Tensor:
        if values.dim() == self.indices.dim():
            return self.indices
        return self.indices.unsqueeze(2).expand(*values.shape[:4], *self.indices.shape[-2:])


@dataclass(frozen=True, slots=True)
class MaxPool(Parameterless):
    """Non-overlapping max pooling with a square window; rows and columns that do not fill one are dropped."""

    size: int

    def forward(self, params_NQ: Tensor, inputs_NBF: Tensor) -> tuple[Tensor, Saved]:
        """Return the maxima; their places are saved."""
        out, indices = F.max_pool2d(inputs_NBF.flatten(0, 2), self.size, return_indices=True)
        lead = inputs_NBF.shape[:3]
        return out.unflatten(0, lead), Maxima(indices.unflatten(0, lead), inputs_NBF.shape[-2:])

    def backward(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor) -> Tensor:
        """Put each gradient where its maximum stood."""
        return saved.put(grad_NBF)

    def tangent(
        self, params_NQ: Tensor, saved: Saved, stacked: Stacked, tangents: Tensor | None
    ) -> tuple[Tensor, Saved]:
        """Pick each tangent where the maximum stands."""
        assert tangents is not None, "a network does not begin with pooling"
        return saved.pick(tangents), None

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
        """Put each gradient's tangent where the maximum stood."""
        return None, saved.put(grad_tangents)


@dataclass(frozen=True, slots=True)
class ActivatedPool(Parameterless):
    """Max pooling of an activation's outputs: y = phi(x) at the places of the maxima of phi(x)."""

    activation: Activation
    pool: MaxPool

    def forward(self, params_NQ: Tensor, inputs_NBF: Tensor) -> tuple[Tensor, Saved]:
        """Return the maxima; their places are saved, and x and y there."""
        out, maxima = self.pool.forward(params_NQ, self.activation.value(inputs_NBF))
        return out, ((maxima.pick(inputs_NBF), out), maxima)

    def backward(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor) -> Tensor:
        """Put phi'(x) g where the maximum stood."""
        there, maxima = saved
        return maxima.put(self.activation.backward(params_NQ, there, grad_NBF))

    def tangent(
        self, params_NQ: Tensor, saved: Saved, stacked: Stacked, tangents: Tensor | None
    ) -> tuple[Tensor, Saved]:
        """Return phi'(x) x' there."""
        assert tangents is not None, "a network does not begin with pooling"
        there, maxima = saved
        return self.activation.tangent(params_NQ, there, stacked, maxima.pick(tangents))

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
        """Put phi'(x) g' + phi''(x) x' g where the maximum stood."""
        there, maxima = saved
        back = self.activation.tangent_of_gradient(there, tangent_saved, grad_NBF, grad_tangents)
        return None, maxima.put(back)
