"""Rayleigh-Ritz and a power step in a span that is known by inner products alone.

The rows of a span are M vectors S and their images H S. All that is found in it is a combination of rows, so
what is of the size of the parameters is read for inner products and once more for the result.

Shape legend: N lanes, W leading pairs, M vectors of the span, R = 2 M rows, P parameters.
"""

import numpy as np
import torch
from torch import Tensor

from trainers.power_step import power_step
from trainers.ritz import SILENT, Small, diagonal_of, inverse_factor, rayleigh_ritz, times, with_diagonal

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
        gram_NRR: The rows' inner products, vectors first; made symmetric (see `symmetric`).
        width: W.
        dtype: Of the rows.
        device: Where the rows are; solves many small problems at once.

    Attributes:
        values_NM: All Ritz values, descending.
    """

    @SILENT
    def __init__(self, gram_NRR: Small, width: int, dtype: torch.dtype, device: torch.device) -> None:
        count = gram_NRR.shape[1] // 2
        self._gram, self._dtype, self._device = gram_NRR, dtype, device
        projected = np.ascontiguousarray(gram_NRR[:, :count, count:])
        self.values_NM, coefficients, self._num_absent_N = rayleigh_ritz(
            projected, gram_NRR[:, :count, :count], RANK_TOLERANCE[dtype], device
        )
        self._theta = self.values_NM[:, :width]
        self._leading = coefficients[:, :, :width].mT
        self._residuals = np.concatenate([-self._theta[:, :, None] * self._leading, self._leading], 2)

    @property
    def lowest_N(self) -> Small:
        """The smallest Ritz value, (N,)."""
        last = np.maximum(self.values_NM.shape[1] - 1 - self._num_absent_N, 0)
        return np.take_along_axis(self.values_NM, last[:, None], 1)[:, 0]

    @property
    def stacked_NMR(self) -> Tensor:
        """The leading Ritz vectors, and then their images, as combinations of rows, (N, 2 W, R)."""
        nothing = np.zeros_like(self._leading)
        vectors = np.concatenate([self._leading, nothing], 2)
        images = np.concatenate([nothing, self._leading], 2)
        return torch.from_numpy(np.concatenate([vectors, images], 1))

    @property
    def residuals_NWR(self) -> Tensor:
        """The leading pairs' residuals H x - theta x as combinations of rows."""
        return torch.from_numpy(self._residuals)

    @property
    @SILENT
    def outside_NWW(self) -> Small:
        """Inner products of the residuals, as those of the rows have them.

        What rounding may have left of each is added to its square: it goes by what it is added up from.
        """
        left = (np.square(self._residuals) * diagonal_of(self._gram)[:, None]).sum(2)
        return with_diagonal(self._inner(self._residuals), ROUNDING[self._dtype] * left)

    def _inner(self, combinations_NWR: Small) -> Small:
        """Return the inner products of combinations of rows, (N, W, W)."""
        return times(times(combinations_NWR, self._gram), combinations_NWR.mT)

    @SILENT
    def stepped(self, floor_N: Tensor, outside_NWW: Small | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a power step makes of the leading pairs.

        The norm of a residual that comes from inner products is no smaller than rounding, which counts as
        part of it: a lane that has converged by this has converged, one that has not is to be looked at
        again.

        Args:
            floor_N: The smallest eigenvalue as far as it is known, float64 on the host.
            outside_NWW: Inner products of the residuals themselves; without, they come from the rows'.

        Returns:
            The values and the bounds on residuals, (N, W) float64 on the host, and the new basis as
            combinations of rows, (N, W, R) of their type, on their device.
        """
        rounding = 0.0
        if outside_NWW is None:
            outside_NWW, rounding = self._inner(self._residuals), ROUNDING[self._dtype]
        step = power_step(self._theta, outside_NWW, floor_N.numpy(), rounding=rounding, device=self._device)
        combinations = step.shares_NW[:, :, None] * self._residuals
        combinations[:, :, : self._leading.shape[2]] += self._leading
        moved = times(step.turn_NWW, combinations)
        whole = times(inverse_factor(self._inner(moved)), moved)
        # What float64 leaves of 1 - 1: times entries of a vector it would be subnormal numbers, each of which
        # takes some processors many cycles. Not a number stays one.
        parts = np.abs(whole) * np.sqrt(np.maximum(diagonal_of(self._gram), 0.0))[:, None]
        whole[parts < NEGLIGIBLE * parts.max(2, keepdims=True)] = 0.0
        basis = torch.from_numpy(whole).to(self._device, self._dtype)
        return torch.from_numpy(step.values_NW), torch.from_numpy(step.norms_NW), basis


def symmetric(gram_NRR: Tensor) -> Small:
    """Return inner products of vectors and their images made symmetric, in place; and those of both."""
    gram, count = gram_NRR.numpy(), gram_NRR.shape[1] // 2
    gram += gram.mT.copy()
    gram *= 0.5
    projected = 0.5 * (gram[:, :count, count:] + gram[:, count:, :count])
    gram[:, :count, count:] = gram[:, count:, :count] = projected
    return gram
