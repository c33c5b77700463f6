"""The search space of a block Krylov method: basis vectors, their images, and Rayleigh-Ritz in their span.

Shape legend: N lanes, W block width, M search space, P parameters.
"""

from copy import copy

import torch
from torch import Tensor

from trainers.eigenpairs import Eigenspace, Wanted, pairs_of
from trainers.power_step import power_step
from trainers.ritz import inner, inverse_factor, rayleigh_ritz, whitening_of

BLOCKS_IN_SEARCH_SPACE = 4
"""Blocks held before a restart; memory is twice this many blocks (vectors and their products)."""

BLOCKS_AFTER_RESTART = 2

RANK_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Eigenvalues of a normalised Gram matrix below this (relative) are directions that rounding made up."""


def orthonormalise(block_NWP: Tensor, against_NMP: Tensor) -> Tensor:
    """Make the rows of each lane orthonormal, and orthogonal to `against_NMP`, to within a few digits.

    By the eigenvectors of the scaled Gram matrix (Stathopoulos & Wu 2002, SVQB), once: Rayleigh-Ritz divides
    by the Gram matrix of its basis, so what rounding leaves over does no harm. Directions that are dependent
    to rounding become zero rows, so that shapes do not depend on data.
    """
    block = torch.baddbmm(block_NWP, torch.bmm(block_NWP, against_NMP.mT), against_NMP, alpha=-1)
    norms = torch.linalg.vector_norm(block, dim=2).cpu()
    inverse = torch.where(norms > 0, norms.reciprocal(), 0.0).double()
    gram = inner(block, block) * inverse.unsqueeze(1) * inverse.unsqueeze(2)
    whitening = whitening_of(gram, RANK_TOLERANCE[block.dtype], block.device)[0] * inverse.unsqueeze(2)
    return torch.bmm(whitening.mT.to(block), block)


class SearchSpace:
    """Basis vectors and their images under H, with both small matrices of Rayleigh-Ritz kept up to date.

    The generalised problem T c = theta G c, with T = S H S^T and G = S S^T, needs no exactly orthonormal S.
    """

    def __init__(self, start_NWP: Tensor, images_NWP: Tensor, gram_NMM: Tensor, floor_N: Tensor) -> None:
        width = start_NWP.shape[1]
        self._width = width
        self._floor_N = floor_N
        self._floor_is_seen = False
        # Room for more is made when there is more.
        self._vectors, self._images = start_NWP, images_NWP
        self._count = width
        self._gram, self._projected = gram_NMM[:, :width, :width], gram_NMM[:, :width, width:]

    @property
    def search(self) -> Tensor:
        """The basis, (N, M, P)."""
        return self._vectors[:, : self._count]

    @property
    def _mapped(self) -> Tensor:
        return self._images[:, : self._count]

    def append(self, vectors_NWP: Tensor, images_NWP: Tensor) -> None:
        """Add a block and its images."""
        old = slice(0, self._count)
        new = slice(self._count, self._count + self._width)
        self._vectors[:, new] = vectors_NWP
        self._images[:, new] = images_NWP
        self._count = new.stop
        self._projected = _bordered(self._projected, inner(self.search, images_NWP), old, new)
        self._gram = _bordered(self._gram, inner(self.search, vectors_NWP), old, new)

    def make_room(self) -> None:
        """Before the space overflows, keep only its leading Ritz vectors (thick restart)."""
        room = self._vectors.shape[1]
        if self._count + self._width <= room:
            return
        if room == self._width:
            self._vectors, self._images = self._with_room(self._vectors), self._with_room(self._images)
            return
        kept = BLOCKS_AFTER_RESTART * self._width
        values, coefficients, _ = rayleigh_ritz(
            self._projected, self._gram, self._rank_tolerance, self._vectors.device
        )
        leading = coefficients[:, :, :kept].mT.to(self._vectors)
        vectors, images = torch.bmm(leading, self.search), torch.bmm(leading, self._mapped)
        self._vectors[:, :kept], self._images[:, :kept] = vectors, images
        self._count = kept
        self._projected = torch.diag_embed(torch.where(values.isfinite(), values, 0.0)[:, :kept])
        self._gram = inner(vectors, vectors)

    def _with_room(self, first_NWP: Tensor) -> Tensor:
        """Return a buffer for all blocks that begins with the first."""
        lanes, width, size = first_NWP.shape
        buffer = first_NWP.new_empty(lanes, BLOCKS_IN_SEARCH_SPACE * width, size)
        buffer[:, :width] = first_NWP
        return buffer

    @property
    def _rank_tolerance(self) -> float:
        return RANK_TOLERANCE[self._vectors.dtype]

    def of_lanes(self, rows: Tensor) -> "SearchSpace":
        """Return the search spaces of some lanes."""
        part = copy(self)
        part._vectors, part._images = self._vectors[rows], self._images[rows]
        part._gram, part._projected = self._gram[rows], self._projected[rows]
        part._floor_N = self._floor_N[rows]
        return part

    def ritz(
        self, width: int, wanted: Wanted, tolerance: float, *, products: int
    ) -> tuple[Eigenspace, Tensor]:
        """Return the leading pairs after a free power step, and the Ritz vectors' residuals (N, W, P)."""
        values, coefficients, num_absent = rayleigh_ritz(
            self._projected, self._gram, self._rank_tolerance, self._vectors.device
        )
        if self._count > width:
            self._note_floor(values, num_absent)
        theta = values[:, :width]
        leading = coefficients[:, :, :width].mT.to(self._vectors)
        vectors = torch.bmm(leading, self.search)
        residual = torch.bmm(leading, self._mapped)
        residual.addcmul_(theta.unsqueeze(2).to(vectors), vectors, value=-1)
        step = power_step(
            theta, inner(residual, residual), self._floor_N, rounding=0.0, device=self._vectors.device
        )
        moved = vectors.addcmul_(residual, step.shares_NW.unsqueeze(2).to(vectors))
        turn = step.turn_NWW
        whole = torch.bmm(inverse_factor(torch.bmm(torch.bmm(turn, inner(moved, moved)), turn.mT)), turn)
        basis = torch.bmm(whole.to(moved), moved)
        pairs = pairs_of(basis, step.values_NW, step.norms_NW, wanted, tolerance, products, self._floor_N)
        return pairs, residual

    def _note_floor(self, values_NM: Tensor, num_absent_N: Tensor) -> None:
        """Take the smallest Ritz value for the smallest eigenvalue; what a restart forgets still counts."""
        last = (values_NM.shape[1] - 1 - num_absent_N).clamp_min(0)
        lowest = values_NM.gather(1, last.unsqueeze(1)).squeeze(1)
        if self._floor_is_seen:
            lowest = torch.minimum(lowest, self._floor_N)
        self._floor_N = torch.where(lowest.isfinite(), lowest, self._floor_N)
        self._floor_is_seen = True


def _bordered(matrix_NMM: Tensor, columns_NMW: Tensor, old: slice, new: slice) -> Tensor:
    """Extend a symmetric matrix by the columns that belong to a new block."""
    size = new.stop
    result = columns_NMW.new_empty(columns_NMW.shape[0], size, size)
    result[:, old, old] = matrix_NMM
    result[:, old, new] = columns_NMW[:, old]
    result[:, new, old] = columns_NMW[:, old].mT
    corner = columns_NMW[:, new]
    result[:, new, new] = 0.5 * (corner + corner.mT)
    return result
