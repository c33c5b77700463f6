"""Layers with a lane dimension, and their first- and second-order derivatives written out.

A layer owns five maps. With parameters w, input x, output y = f(w, x) and a loss gradient g in y:

    forward           y
    gradient          g . df/dw
    backward          g . df/dx
    tangent           the directional derivative of forward along (w', x')
    backward_tangent  the directional derivative of gradient and backward along (w', x', g')

A chain of them gives gradients, and products of the Hessian (or its Gauss-Newton part) with a whole block of
directions at the cost of its matrix products and nothing else: no graph is recorded, and the linearised
forward pass is computed once for the block. Over many examples a product goes chunk by chunk; what does not
depend on the chunk is done once (`stack`, `collect`), and products add to what earlier chunks have given.

Shape legend: N lanes, B examples, R directions, F features, Q parameters of one layer. Tangents have the
directions after the examples, (N, B, R, ...): a dense layer then needs no transposition of its inputs.
"""

from typing import Any, Protocol

from torch import Tensor

Saved = Any
"""What a layer keeps from `forward` or `tangent` for the passes that follow; private to the layer."""

Stacked = Any
"""A block of directions as a layer's products read it; private to the layer."""

Sums = Any
"""The tangents of a layer's gradient, added up over the chunks so far, as its products give them."""


class Layer(Protocol):
    """The maps of one layer."""

    @property
    def num_params(self) -> int:
        """Parameters of the layer."""
        ...

    def forward(self, params_NQ: Tensor, inputs_NBF: Tensor) -> tuple[Tensor, Saved]:
        """Return the outputs (N, B, ...) and what the other maps need."""
        ...

    def gradient(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor, into_NQ: Tensor) -> None:
        """Overwrite `into_NQ`, whose rows may lie apart, with the gradient in the parameters."""
        ...

    def backward(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor) -> Tensor:
        """Return the gradient in the inputs."""
        ...

    def stack(self, directions_NRQ: Tensor, *, need_input: bool) -> Stacked:
        """Arrange a block of directions for the products with every chunk."""
        ...

    def tangent(
        self, params_NQ: Tensor, saved: Saved, stacked: Stacked, tangents: Tensor | None
    ) -> tuple[Tensor, Saved]:
        """Return the outputs' tangents (N, B, R, ...); `tangents` is `None` for the input of the network."""
        ...

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
        """Return `sums` with this chunk's tangents of the parameters' gradient; the inputs' (N, B, R, ...).

        `sums` is `None` for the first chunk, and is changed for those that follow. Without `grad_NBF` the
        terms that hold second derivatives of the network are left out, which gives the Gauss-Newton product.
        """
        ...

    def collect(self, sums: Sums, into_NRQ: Tensor) -> None:
        """Write the sums over all chunks as rows of parameters, (N, R, Q)."""
        ...


class Parameterless:
    """What a layer without parameters has to say about them."""

    __slots__ = ()

    @property
    def num_params(self) -> int:
        """None."""
        return 0

    def gradient(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor, into_NQ: Tensor) -> None:
        """No parameters, no gradient."""

    def stack(self, directions_NRQ: Tensor, *, need_input: bool) -> Stacked:
        """No parameters, no directions."""

    def collect(self, sums: Sums, into_NRQ: Tensor) -> None:
        """No parameters, nothing to write."""
