"""The search space of a block Krylov method: basis vectors and their images, known by their inner products.

Shape legend: N lanes, W block width, M search space, P parameters.
"""

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from trainers.eigenpairs import Eigenspace, Wanted, pairs_of
from trainers.objective import BlockProduct
from trainers.ritz import inner, inverse_factor, whitening_of
from trainers.rows import room_for_rows
from trainers.span import RANK_TOLERANCE, Span, symmetric

BLOCKS_IN_SEARCH_SPACE = 4
"""Blocks held before a restart; memory is twice this many blocks (vectors and their products)."""

BLOCKS_AFTER_RESTART = 2


def orthonormalise(block_NWP: Tensor, against: Sequence[Tensor]) -> Tensor:
    """Make the rows of each lane orthonormal, and orthogonal to rows (N, M, P), to within a few digits.

    By the eigenvectors of the scaled Gram matrix (Stathopoulos & Wu 2002, SVQB), once: Rayleigh-Ritz divides
    by the Gram matrix of its basis, so what rounding leaves over does no harm. Directions that are dependent
    to rounding become zero rows, so that shapes do not depend on data. The block is overwritten.
    """
    for rows in against:
        block_NWP.baddbmm_(torch.bmm(block_NWP, rows.mT), rows, alpha=-1)
    gram = inner(block_NWP, block_NWP)
    squares = gram.diagonal(dim1=1, dim2=2)
    inverse = torch.where(squares > 0, squares.rsqrt(), 0.0)
    gram = gram * inverse.unsqueeze(1) * inverse.unsqueeze(2)
    whitening = whitening_of(gram.numpy(), RANK_TOLERANCE[block_NWP.dtype], block_NWP.device)[0]
    factors = torch.from_numpy(whitening) * inverse.unsqueeze(2)
    return torch.bmm(factors.mT.to(block_NWP), block_NWP)


class SearchSpace:
    """Basis vectors S and their images, and the inner products of all of them.

    The generalised problem T c = theta G c, with T = S H S^T and G = S S^T, needs no exactly orthonormal S.

    Args:
        stacked_NMP: The first block and its images, (N, 2 W, P).
        gram_NMM: Their inner products, float64 on the host.
        floor_N: The smallest eigenvalue as far as it is known.
    """

    def __init__(self, stacked_NMP: Tensor, gram_NMM: Tensor, floor_N: Tensor) -> None:
        self._width = stacked_NMP.shape[1] // 2
        self._floor_N = floor_N
        self._floor_is_seen = False
        # Each is vectors and then their images.
        self._parts = [stacked_NMP]
        self._gram_N2M2M = _by_kind(gram_NMM)

    @property
    def _count(self) -> int:
        return self._gram_N2M2M.shape[2]

    def extend(self, block_NWP: Tensor, product: BlockProduct) -> None:
        """Add the directions of a block, which is overwritten, and their images."""
        if self._count + self._width > BLOCKS_IN_SEARCH_SPACE * self._width:
            self._restart()
        new = orthonormalise(block_NWP, [part[:, : part.shape[1] // 2] for part in self._parts])
        lanes, width, size = new.shape
        stacked = room_for_rows(new, lanes, 2 * width, size)
        torch.cat([new, product(new)], 1, out=stacked)
        columns = torch.cat([_by_kind(inner(part, stacked)) for part in self._parts], 2)
        corner = _by_kind(inner(stacked, stacked))
        above = torch.cat([self._gram_N2M2M, columns], 4)
        below = torch.cat([columns.permute(0, 3, 4, 1, 2), corner], 4)
        self._gram_N2M2M = torch.cat([above, below], 2)
        self._parts.append(stacked)

    def _restart(self) -> None:
        """Keep only the leading Ritz vectors (thick restart)."""
        kept = self.combined(self._span(BLOCKS_AFTER_RESTART * self._width).stacked_NMR)
        self._parts = [kept]
        self._gram_N2M2M = _by_kind(inner(kept, kept))

    def combined(self, factors_NRM: Tensor) -> Tensor:
        """Return factors times all vectors and then all images, (N, R, P)."""
        first, *others = self._parts
        by_part = factors_NRM.unflatten(2, (2, -1)).split([part.shape[1] // 2 for part in self._parts], 3)
        of_first, *of_others = (factors.flatten(2).to(first) for factors in by_part)
        result = torch.bmm(of_first, first)
        for factors, part in zip(of_others, others, strict=True):
            result.baddbmm_(factors, part)
        return result

    def basis(self, factors_NWM: Tensor, rows: Tensor) -> Tensor:
        """Return what is `combined`, of some lanes, orthonormal to rounding, as inner products are not."""
        all_of_them = len(rows) == len(factors_NWM)
        space = self if all_of_them else self.of_lanes(rows)
        block = space.combined(factors_NWM if all_of_them else factors_NWM[rows])
        factor = torch.from_numpy(inverse_factor(inner(block, block).numpy()))
        return torch.bmm(factor.to(block), block)

    def of_lanes(self, rows: Tensor) -> "SearchSpace":
        """Return the search spaces of some lanes."""
        part = copy(self)
        part._parts = [one[rows] for one in self._parts]
        part._gram_N2M2M = self._gram_N2M2M[rows]
        part._floor_N = self._floor_N[rows]
        return part

    def _span(self, width: int) -> Span:
        first = self._parts[0]
        gram = symmetric(self._gram_N2M2M.flatten(3).flatten(1, 2))
        return Span(gram, width, first.dtype, first.device)

    def ritz(
        self, wanted: Wanted, tolerance: float, *, products: int, closely: bool
    ) -> tuple[Eigenspace, Tensor, Tensor | None]:
        """Return the leading pairs after a free power step.

        Args:
            wanted: How many of them.
            tolerance: See `trainers.eigenspace.solve`.
            products: Columns multiplied so far.
            closely: Whether to look at residuals themselves, which tells smaller ones than inner products do.

        Returns:
            The pairs, with any block in the place of their basis; the basis as factors for `combined`; and
            the Ritz vectors' residuals (N, W, P), where they have been looked at.
        """
        span = self._span(self._width)
        if self._count > self._width:
            self._note_floor(torch.from_numpy(span.lowest_N))
        residual = self.combined(span.residuals_NWR) if closely else None
        outside = span.outside_NWW if residual is None else inner(residual, residual).numpy()
        values, norms, whole = span.stepped(self._floor_N, outside)
        block = self._parts[0][:, : self._width]
        return pairs_of(block, values, norms, wanted, tolerance, products, self._floor_N), whole, residual

    def _note_floor(self, lowest_N: Tensor) -> None:
        """Take the smallest Ritz value for the smallest eigenvalue; what a restart forgets still counts."""
        if self._floor_is_seen:
            lowest_N = torch.minimum(lowest_N, self._floor_N)
        self._floor_N = torch.where(lowest_N.isfinite(), lowest_N, self._floor_N)
        self._floor_is_seen = True


def _by_kind(inner_NMM: Tensor) -> Tensor:
    """Return inner products of rows, vectors first, by kind and number: (N, 2, M, 2, M)."""
    return inner_NMM.unflatten(2, (2, -1)).unflatten(1, (2, -1))
