"""The dense layer y = x W^T + b, and flattening."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.layers import Parameterless, Saved, Stacked, Sums
from trainers.layers.dense_products import Matrices, products_for


@dataclass(frozen=True, slots=True)
class _Stacked:
    """A block of directions: W' arranged for products, and b', (N, R, outputs), `None` without one."""

    matrices: Matrices
    bias: Tensor | None


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
        weight, bias = self._both(params_NQ)
        return products_for(weight).outputs(inputs_NBF, weight, bias), inputs_NBF

    def gradient(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor, into_NQ: Tensor) -> None:
        """Write g^T x and the sum of g."""
        weight, bias = self._both(into_NQ)
        products_for(weight).gradient(grad_NBF, saved, weight)
        if bias is not None:
            torch.sum(grad_NBF, 1, out=bias)

    def backward(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor) -> Tensor:
        """Return g W."""
        return torch.bmm(grad_NBF, self._weight(params_NQ))

    def stack(self, directions_NRQ: Tensor, *, need_input: bool) -> Stacked:
        """Arrange the directions."""
        weight = self._weight(directions_NRQ)
        return _Stacked(
            matrices=products_for(weight).stack(weight, need_input=need_input),
            bias=self._bias(directions_NRQ) if self.bias else None,
        )

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
        weight = self._weight(params_NQ)
        products = products_for(weight)
        return products.tangent(saved, stacked.matrices, stacked.bias, tangents, weight, gate), tangents

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
        into_NRQ: Tensor | None = None,
    ) -> tuple[Sums, Tensor | None]:
        """Add g'^T x + g^T x' and the sum of g', and return g' W + g W', times the gate (N, B, inputs).

        Where `into_NRQ` is given, `collect` will be told to write there.
        """
        weight = self._weight(params_NQ)
        products = products_for(weight)
        into = None if into_NRQ is None else self._both(into_NRQ)
        sums = products.add(sums, grad_tangents, saved, grad_NBF, tangent_saved, bias=self.bias, into=into)
        if not need_input:
            return sums, None
        return sums, products.backward(grad_tangents, weight, grad_NBF, stacked.matrices, gate)

    def collect(self, sums: Sums, into_NRQ: Tensor) -> None:
        """Write the weights' rows, the two parts of each added, and the biases'."""
        products_for(into_NRQ).collect(sums, *self._both(into_NRQ))

    def _both(self, params: Tensor) -> tuple[Tensor, Tensor | None]:
        return self._weight(params), self._bias(params) if self.bias else None


@dataclass(frozen=True, slots=True)
class Flatten(Parameterless):
    """Merge the axes of one example."""

    def forward(self, params_NQ: Tensor, inputs_NBF: Tensor) -> tuple[Tensor, Saved]:
        """Return (N, B, F)."""
        return inputs_NBF.flatten(2), inputs_NBF.shape[2:]

    def backward(self, params_NQ: Tensor, saved: Saved, grad_NBF: Tensor) -> Tensor:
        """Restore the shape of one example."""
        return grad_NBF.unflatten(-1, saved)

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
