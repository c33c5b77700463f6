"""The products of a first dense layer whose inputs are a lower triangle, on a CPU.

Examples are given in the basis of their span that Gram-Schmidt gives (`trainers.coordinates`), so that each
has one component more than the one before. Examples are taken in a few pieces, each with no more components
than its last example has: a third of the arithmetic is left out.

Shape legend: as in `trainers.layers.dense_products`; inputs (N, B, I') of a chunk of examples end with the
component that only the last of them has, so that example b has I' - B + b + 1.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from trainers.layers.dense_products import LibraryProducts, Matrices, Sums, SumsOfExamples, gated

EXAMPLES_IN_A_PIECE = 100
"""At least: products of fewer take as long as they would with zeros."""

MOST_PIECES = 3
"""Of more pieces each product is less efficient by what it has less to do."""


class TriangularProducts(LibraryProducts):
    """See above; of what `LibraryProducts` does, it is only asked for tangents and their sums."""

    def tangent(
        self,
        inputs_NBI: Tensor,
        matrices: Matrices,
        bias_NRO: Tensor | None,
        tangents_NBRI: Tensor | None,
        weight_NOI: Tensor,
        gate_NBO: Tensor | None,
    ) -> Tensor:
        """See `DenseProducts`."""
        assert tangents_NBRI is None, "inputs of the network have none"
        (lanes, batch), columns = inputs_NBI.shape[:2], matrices.forward.shape[1]
        out = inputs_NBI.new_empty(lanes, batch, columns)
        for rows, width in _pieces(inputs_NBI):
            inputs, directions = inputs_NBI[:, rows, :width], matrices.forward[:, :, :width].mT
            if bias_NRO is None:
                torch.bmm(inputs, directions, out=out[:, rows])
            else:
                bias = bias_NRO.reshape(lanes, 1, columns)
                torch.baddbmm(bias, inputs, directions, out=out[:, rows])
        return gated(out.view(lanes, batch, matrices.count, -1), gate_NBO)

    def add(
        self,
        sums: Sums,
        grad_tangents_NBRO: Tensor,
        inputs_NBI: Tensor,
        grad_NBO: Tensor | None,
        tangents_NBRI: Tensor | None,
        *,
        bias: bool,
        into: tuple[Tensor, Tensor | None] | None = None,
    ) -> Sums:
        """See `DenseProducts`. Of several chunks, the one with all components is the first."""
        assert tangents_NBRI is None, "inputs of the network have none"
        added = SumsOfExamples() if sums is None else sums
        grads = grad_tangents_NBRO.flatten(2).mT
        for rows, width in _pieces(inputs_NBI):
            left, right = grads[:, :, rows], inputs_NBI[:, rows, :width]
            if added.weight is None:
                added.weight = torch.bmm(left, right)
            else:
                added.weight[:, :, :width].baddbmm_(left, right)
        added.add_bias(grad_tangents_NBRO, bias)
        return added


def _pieces(inputs_NBI: Tensor) -> Iterator[tuple[slice, int]]:
    """Return the examples of each piece and their components, the most first."""
    batch, width = inputs_NBI.shape[1:]
    count = max(1, min(MOST_PIECES, batch // EXAMPLES_IN_A_PIECE))
    bounds = [batch * piece // count for piece in range(count + 1)]
    for start, stop in reversed([*zip(bounds, bounds[1:], strict=False)]):
        yield slice(start, stop), width - batch + stop


TRIANGULAR = TriangularProducts()
