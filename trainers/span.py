"""Rayleigh-Ritz and a power step in a span that is known by inner products alone.

The rows of a span are M vectors S and their images H S. All that is found in it is a combination of rows, so
what is of the size of the parameters is read for inner products and once more for the result.

Shape legend: N lanes, W leading pairs, M vectors of the span, R = 2 M rows, P parameters.
"""

import torch
from torch import Tensor

from trainers.power_step import power_step
from trainers.ritz import inverse_factor, rayleigh_ritz

ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-15}
"""What rounding leaves of the square of a residual that comes from inner products: over theta^2 in a block of
nearly Ritz vectors, over the sum of the squares that it is added up from in any."""

RANK_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Eigenvalues of a normalised Gram matrix below this (relative) are directions that rounding made up."""

NEGLIGIBLE = 1e-13
"""What a row adds to a vector, below this share of what the largest adds, is left out."""


class Span:
    """The Ritz pairs of a span.

    Args:
        gram_NRR: The rows' inner products, float64, vectors first; made symmetric (see `symmetric`).
        width: W.
        dtype: Of the rows.
        device: Where the rows are; solves many small problems at once.

    Attributes:
        values_NM: All Ritz values, descending.
        residuals_NWR: The leading pairs' residuals H x - theta x as combinations of rows.
    """

    def __init__(self, gram_NRR: Tensor, width: int, dtype: torch.dtype, device: torch.device) -> None:
        count = gram_NRR.shape[1] // 2
        self._gram, self._dtype, self._device = gram_NRR, dtype, device
        projected = gram_NRR[:, :count, count:].contiguous()
        self.values_NM, coefficients, self._num_absent_N = rayleigh_ritz(
            projected, gram_NRR[:, :count, :count], RANK_TOLERANCE[dtype], device
        )
        self._theta = self.values_NM[:, :width]
        leading = coefficients[:, :, :width].mT
        self._vectors = torch.cat([leading, torch.zeros_like(leading)], 2)
        self.residuals_NWR = torch.cat([-self._theta.unsqueeze(2) * leading, leading], 2)

    @property
    def lowest_N(self) -> Tensor:
        """The smallest Ritz value, (N,)."""
        last = (self.values_NM.shape[1] - 1 - self._num_absent_N).clamp_min(0)
        return self.values_NM.gather(1, last.unsqueeze(1)).squeeze(1)

    @property
    def stacked_NMR(self) -> Tensor:
        """The leading Ritz vectors, and then their images, as combinations of rows, (N, 2 W, R)."""
        return torch.cat([self._vectors, self._vectors.roll(self._vectors.shape[2] // 2, 2)], 1)

    @property
    def outside_NWW(self) -> Tensor:
        """Inner products of the residuals, as those of the rows have them.

        What rounding may have left of each is added to its square: it goes by what it is added up from.
        """
        # Not a product with one right-hand side, whose bits depend on how many lanes there are.
        left = (self.residuals_NWR.square() * self._gram.diagonal(dim1=1, dim2=2).unsqueeze(1)).sum(2)
        return self._inner(self.residuals_NWR) + torch.diag_embed(ROUNDING[self._dtype] * left)

    def _inner(self, combinations_NWR: Tensor) -> Tensor:
        """Return the inner products of combinations of rows, (N, W, W)."""
        return torch.bmm(torch.bmm(combinations_NWR, self._gram), combinations_NWR.mT)

    def stepped(self, floor_N: Tensor, outside_NWW: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a power step makes of the leading pairs.

        The norm of a residual that comes from inner products is no smaller than rounding, which counts as
        part of it: a lane that has converged by this has converged, one that has not is to be looked at
        again.

        Args:
            floor_N: The smallest eigenvalue as far as it is known, float64.
            outside_NWW: Inner products of the residuals themselves; without, they come from the rows'.

        Returns:
            The values and the bounds on residuals, (N, W) float64 on the host, and the new basis as
            combinations of rows, (N, W, R) of their type, on their device.
        """
        residual, rounding = self.residuals_NWR, 0.0
        if outside_NWW is None:
            outside_NWW, rounding = self._inner(residual), ROUNDING[self._dtype]
        floor_N = floor_N.to(self._theta.device)
        step = power_step(self._theta, outside_NWW, floor_N, rounding=rounding, device=self._device)
        moved = torch.bmm(step.turn_NWW, torch.addcmul(self._vectors, step.shares_NW.unsqueeze(2), residual))
        whole = torch.bmm(inverse_factor(self._inner(moved)), moved)
        # What float64 leaves of 1 - 1: times entries of a vector it would be subnormal numbers, each of which
        # takes some processors many cycles. Not a number stays one.
        parts = whole.abs() * self._gram.diagonal(dim1=1, dim2=2).clamp_min(0.0).sqrt().unsqueeze(1)
        whole = whole.masked_fill(parts < NEGLIGIBLE * parts.amax(2, keepdim=True), 0.0)
        width = whole.shape[1]
        values, norms = torch.cat([step.values_NW, step.norms_NW], 1).cpu().split(width, 1)
        return values, norms, whole.to(self._device, self._dtype)


def symmetric(gram_NRR: Tensor) -> Tensor:
    """Return inner products of vectors and their images made symmetric, in place; and those of both."""
    gram, count = gram_NRR, gram_NRR.shape[1] // 2
    gram.copy_(0.5 * (gram + gram.mT))
    projected = 0.5 * (gram[:, :count, count:] + gram[:, count:, :count])
    gram[:, :count, count:] = gram[:, count:, :count] = projected
    return gram
