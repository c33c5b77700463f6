r"""The Dominant subspace: the algebraically largest eigenpairs of a symmetric operator, tracked over time.

A block Krylov method with Rayleigh-Ritz and thick restarts. It starts from the previous refresh's block
(warm) or from random vectors (cold), and does as many block products as the residual asks for:

1. Rayleigh-Ritz in the block X itself costs one product H X and gives Ritz pairs (theta_i, x_i) and their
   residuals r_i = H x_i - theta_i x_i.
2. H x_i / theta_i is one step of power iteration that costs nothing further. It is what is returned; its
   residual is smaller by the ratio of a bound on the eigenvalues outside the block to theta_i.
3. Until that residual is at most tolerance |theta_k| for all i <= k, append the orthonormalised residuals of
   the whole block to the search space, multiply them by H, and repeat Rayleigh-Ritz in the larger space.

Residuals of a Rayleigh-Ritz block span the next block of the Krylov space (Saad, Numerical Methods for Large
Eigenvalue Problems, 2011, chapter 6), so one warm block and p products search the Krylov space of order p.
The block carries guard vectors beyond k: convergence depends on the gap behind the block, and inside the
Dominant subspace there is none (lambda_2 / lambda_1 is near 1 on MNIST). The small eigenproblems are solved
in float64.

Most refreshes end with their first block, so that one is done in three passes over memory: all inner products
of [X; H X] at once, small algebra, and one product that forms the result (`_one_block`).

All lanes go through the same operations; a lane that has converged keeps its result (it is masked), so
a lane's numbers do not depend on its neighbours.

Shape legend: N lanes, W block width, M search space, P parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.objective import CurvatureProduct
from trainers.ritz import inner, inverse_factor, rayleigh_ritz, to_host, whitening_of

BLOCKS_IN_SEARCH_SPACE = 4
"""Blocks held before a restart; memory is twice this many blocks (vectors and their products)."""

BLOCKS_AFTER_RESTART = 2

WIDTH_MULTIPLE = 4
"""Blocks are this wide or a multiple: inner products of 14 rows take twice as long as those of 16."""

RANK_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Eigenvalues of a normalised Gram matrix below this (relative) are directions that rounding made up."""

ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-15}
"""What rounding leaves of the square of a residual that comes from inner products, over theta^2."""

LEAST_SCALE = 1e-2
"""A k-th eigenvalue below this share of the first counts as this share: beyond the Hessian's rank it is 0."""

RESTART_COLD_ABOVE = 10.0
"""A warm refresh that ends this many tolerances away from convergence is done again from a cold start."""


@dataclass(slots=True, kw_only=True)
class Warm:
    """What a refresh leaves for the next one.

    Args:
        block_NWP: The basis.
        floor_N: The smallest eigenvalue that a Krylov space has seen, float64, on the host.
    """

    block_NWP: Tensor
    floor_N: Tensor


@dataclass(slots=True, kw_only=True)
class Eigenspace:
    """Ritz pairs of a block, with what is known about their accuracy; all but the basis is on the host.

    Args:
        basis_NWP: Orthonormal vectors, in descending order of Ritz value.
        values_NW: Ritz values, float64.
        residuals_NW: ||H x - theta x|| of each vector of the basis, float64: the residual of the Ritz vector
            times the factor by which the last step reduced it.
        products_N: Columns multiplied by H, int64.
        converged_N: Whether the leading k residuals met the tolerance.
        floor_N: The smallest Ritz value of the largest search space so far, float64.
    """

    basis_NWP: Tensor
    values_NW: Tensor
    residuals_NW: Tensor
    products_N: Tensor
    converged_N: Tensor
    floor_N: Tensor


def block_width(k: int, num_outputs: int, guard: int, num_params: int) -> int:
    """Return the block width: a function of the cell alone. It reaches the gap near the number of classes."""
    width = max(k, num_outputs) + guard
    return min(num_params, -(-width // WIDTH_MULTIPLE) * WIDTH_MULTIPLE)


def relative_residual(space: Eigenspace, k: int) -> Tensor:
    """Return the largest residual among the leading k over the magnitude of the k-th Ritz value, (N,)."""
    return space.residuals_NW[:, :k].amax(1) / _scale(space.values_NW, k)


def _scale(values_NW: Tensor, k: int) -> Tensor:
    """What residuals are held against: the k-th value, which is the one that is hardest to get right."""
    least = LEAST_SCALE * values_NW[:, 0].abs()
    return torch.maximum(values_NW[:, k - 1].abs(), least).clamp_min(torch.finfo(values_NW.dtype).tiny)


def solve(
    product: CurvatureProduct,
    start_NWP: Tensor,
    *,
    k: int,
    tolerance: float,
    max_products: int,
    floor_N: Tensor | None = None,
) -> Eigenspace:
    """Find the leading Ritz pairs, starting from a block.

    Args:
        product: The operator, (N, R, P) to (N, R, P).
        start_NWP: Start block, of full rank; need not be orthonormal.
        k: How many leading pairs must meet the tolerance.
        tolerance: On ||r_i|| / |theta_k| of the returned basis.
        max_products: Budget of block products, at least 1.
        floor_N: The smallest eigenvalue as far as it is known, float64 on the host; 0 where it is not.

    Returns:
        The Ritz pairs of the block; a lane whose products are not finite has NaN values and is not converged.
    """
    width = start_NWP.shape[1]
    if floor_N is None:
        floor_N = torch.zeros(start_NWP.shape[0], dtype=torch.float64)
    images = product(start_NWP)
    state, gram = _one_block(start_NWP, images, floor_N, k, tolerance)
    if _ended(state):
        return state
    space = _SearchSpace(start_NWP, images, gram, floor_N)
    del images
    after, residual = space.ritz(width, k, tolerance, products=width)
    state = _select(state.converged_N, state, after)
    blocks = 1
    while blocks < max_products and not _ended(state):
        space.make_room()
        new = orthonormalise(residual, space.search)
        space.append(new, product(new))
        blocks += 1
        after, residual = space.ritz(width, k, tolerance, products=blocks * width)
        state = _select(state.converged_N, state, after)
    return state


def _ended(state: Eigenspace) -> bool:
    """Whether every lane has converged or has lost all sense."""
    return bool((state.converged_N | ~state.values_NW[:, 0].isfinite()).all())


def refresh(
    product: CurvatureProduct,
    warm: "Warm | None",
    random_block: Callable[[], Tensor],
    *,
    k: int,
    tolerance: float,
    max_products: int,
    max_cold_products: int,
) -> Eigenspace:
    """Track the Dominant subspace: warm where possible, cold at the start or when the warm result is bad.

    Args:
        product: The operator.
        warm: What the last refresh left, or `None` for a cold start.
        random_block: Draws the start block (N, W, P) of a cold start; called only for one.
        k: Dimension of the Dominant subspace.
        tolerance: On the relative residual.
        max_products: Budget of block products of a warm refresh.
        max_cold_products: Budget of block products of a cold start.
    """
    if warm is None:
        return solve(product, random_block(), k=k, tolerance=tolerance, max_products=max_cold_products)
    state = solve(
        product, warm.block_NWP, k=k, tolerance=tolerance, max_products=max_products, floor_N=warm.floor_N
    )
    bad = ~state.converged_N & (relative_residual(state, k) > RESTART_COLD_ABOVE * tolerance)
    if not bool(bad.any()):
        return state
    cold = solve(product, random_block(), k=k, tolerance=tolerance, max_products=max_cold_products)
    cold.products_N = cold.products_N + state.products_N
    better = bad & (cold.values_NW[:, :k].sum(1) >= state.values_NW[:, :k].sum(1))
    chosen = _select(better, cold, state)
    chosen.products_N = torch.where(bad, cold.products_N, state.products_N)
    return chosen


def orthonormalise(block_NWP: Tensor, against_NMP: Tensor) -> Tensor:
    """Make the rows of each lane orthonormal, and orthogonal to `against_NMP`, to within a few digits.

    By the eigenvectors of the scaled Gram matrix (Stathopoulos & Wu 2002, SVQB), once: Rayleigh-Ritz divides
    by the Gram matrix of its basis, so what rounding leaves over does no harm. Directions that are dependent
    to rounding become zero rows, so that shapes do not depend on data.
    """
    block = torch.baddbmm(block_NWP, torch.bmm(block_NWP, against_NMP.mT), against_NMP, alpha=-1)
    norms = to_host(torch.linalg.vector_norm(block, dim=2))
    inverse = torch.where(norms > 0, norms.reciprocal(), 0.0)
    gram = inner(block, block) * inverse.unsqueeze(1) * inverse.unsqueeze(2)
    whitening = whitening_of(gram, RANK_TOLERANCE[block.dtype])[0] * inverse.unsqueeze(2)
    return torch.bmm(whitening.mT.to(block), block)


class _SearchSpace:
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
        values, coefficients, _ = rayleigh_ritz(self._projected, self._gram, self._rank_tolerance)
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

    def ritz(self, width: int, k: int, tolerance: float, *, products: int) -> tuple[Eigenspace, Tensor]:
        """Return the leading pairs after a free power step, and the Ritz vectors' residuals (N, W, P)."""
        values, coefficients, num_absent = rayleigh_ritz(self._projected, self._gram, self._rank_tolerance)
        if self._count > width:
            self._note_floor(values, num_absent)
        theta = values[:, :width]
        leading = coefficients[:, :, :width].mT.to(self._vectors)
        vectors = torch.bmm(leading, self.search)
        residual = torch.bmm(leading, self._mapped)
        residual.addcmul_(theta.unsqueeze(2).to(vectors), vectors, value=-1)
        norms = to_host(torch.linalg.vector_norm(residual, dim=2))
        norms, scale = _after_power_step(theta, norms, self._floor_N)
        moved = vectors.addcmul_(residual, scale.unsqueeze(2).to(vectors))
        basis = torch.bmm(inverse_factor(inner(moved, moved)).to(moved), moved)
        return _state(basis, theta, norms, k, tolerance, products, self._floor_N), residual

    def _note_floor(self, values_NM: Tensor, num_absent_N: Tensor) -> None:
        """Take the smallest Ritz value for the smallest eigenvalue; what a restart forgets still counts."""
        last = (values_NM.shape[1] - 1 - num_absent_N).clamp_min(0)
        lowest = values_NM.gather(1, last.unsqueeze(1)).squeeze(1)
        if self._floor_is_seen:
            lowest = torch.minimum(lowest, self._floor_N)
        self._floor_N = torch.where(lowest.isfinite(), lowest, self._floor_N)
        self._floor_is_seen = True


def _one_block(
    block_NWP: Tensor, images_NWP: Tensor, floor_N: Tensor, k: int, tolerance: float
) -> tuple[Eigenspace, Tensor]:
    """Do Rayleigh-Ritz and the power step in one block, knowing its vectors by their inner products alone.

    The norm of a residual that comes from inner products is no smaller than rounding, which counts as part
    of it: a lane that has converged by this has converged, one that has not is to be looked at again.

    Returns:
        The pairs, and the inner products of the block and its images with themselves, (N, 2 W, 2 W).
    """
    width = block_NWP.shape[1]
    stacked = torch.cat([block_NWP, images_NWP], 1)
    gram = inner(stacked, stacked)
    gram = 0.5 * (gram + gram.mT)
    projected = 0.5 * (gram[:, :width, width:] + gram[:, width:, :width])
    gram[:, :width, width:] = gram[:, width:, :width] = projected
    theta, coefficients, _ = rayleigh_ritz(projected, gram[:, :width, :width], RANK_TOLERANCE[stacked.dtype])
    vectors = torch.cat([coefficients.mT, torch.zeros_like(coefficients)], 2)
    residual = torch.cat([-theta.unsqueeze(2) * coefficients.mT, coefficients.mT], 2)
    squares = (torch.bmm(residual, gram) * residual).sum(2).clamp_min(0.0)
    norms = (squares + ROUNDING[stacked.dtype] * theta.square()).sqrt()
    norms, scale = _after_power_step(theta, norms, floor_N)
    moved = torch.addcmul(vectors, scale.unsqueeze(2), residual)
    whole = torch.bmm(inverse_factor(torch.bmm(torch.bmm(moved, gram), moved.mT)), moved)
    basis = torch.bmm(whole.to(stacked), stacked)
    return _state(basis, theta, norms, k, tolerance, width, floor_N), gram


def _after_power_step(theta_NW: Tensor, norms_NW: Tensor, floor_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the residuals' norms after one step of power iteration, and what the step adds of a residual.

    The step goes from x_i to x_i + r_i / theta_i = H x_i / theta_i. The images H x_i are there anyway, so it
    costs no product. It shrinks the part of x_i along an eigenvector outside the block by lambda_j / theta_i,
    and is not taken (0) where that is no less than 1.
    """
    norms = torch.where(theta_NW.isfinite(), norms_NW, torch.nan)
    # A bound on the eigenvalues outside the block; Ritz values are off by at most the residual.
    beyond = torch.maximum(theta_NW[:, -1].clamp_min(0.0) + norms.amax(1), -floor_N).unsqueeze(1)
    helps = theta_NW > beyond
    return norms * torch.where(helps, beyond / theta_NW, 1.0), torch.where(helps, 1 / theta_NW, 0.0)


def _state(
    basis_NWP: Tensor,
    theta_NW: Tensor,
    norms_NW: Tensor,
    k: int,
    tolerance: float,
    products: int,
    floor_N: Tensor,
) -> Eigenspace:
    converged = norms_NW[:, :k].amax(1) <= tolerance * _scale(theta_NW, k)
    return Eigenspace(
        basis_NWP=basis_NWP,
        values_NW=theta_NW,
        residuals_NW=norms_NW,
        products_N=torch.full_like(converged, products, dtype=torch.int64),
        converged_N=converged,
        floor_N=floor_N,
    )


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


def _select(mask_N: Tensor, left: Eigenspace, right: Eigenspace) -> Eigenspace:
    if bool(mask_N.all()):
        return left
    if not bool(mask_N.any()):
        return right
    column = mask_N.unsqueeze(1)
    return Eigenspace(
        basis_NWP=torch.where(column.unsqueeze(2).to(left.basis_NWP.device), left.basis_NWP, right.basis_NWP),
        values_NW=torch.where(column, left.values_NW, right.values_NW),
        residuals_NW=torch.where(column, left.residuals_NW, right.residuals_NW),
        products_N=torch.where(mask_N, left.products_N, right.products_N),
        converged_N=torch.where(mask_N, left.converged_N, right.converged_N),
        floor_N=torch.where(mask_N, left.floor_N, right.floor_N),
    )
