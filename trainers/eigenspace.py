r"""The Dominant subspace: the algebraically largest eigenpairs of a symmetric operator, tracked over time.

A block Krylov method with Rayleigh-Ritz and thick restarts. It starts from the previous refresh's block
(warm) or from random vectors (cold), and does as many block products as the residual asks for:

1. Rayleigh-Ritz in the block X itself costs one product H X and gives Ritz pairs (theta_i, x_i) and their
   residuals r_i = H x_i - theta_i x_i.
2. Until ||r_i|| <= tolerance |theta_1| for all i <= k, append the orthonormalised residuals of the whole block
   to the search space, multiply them by H, and repeat Rayleigh-Ritz in the larger space.

Residuals of a Rayleigh-Ritz block span the next block of the Krylov space (Saad, Numerical Methods for Large
Eigenvalue Problems, 2011, chapter 6), so one warm block and p products search the Krylov space of order p.
The block carries guard vectors beyond k: convergence depends on the gap behind the block, and inside the
Dominant subspace there is none (lambda_2 / lambda_1 is near 1 on MNIST).

All lanes go through the same operations; a lane that has converged keeps its result (it is masked), so a lane's
numbers do not depend on its neighbours.

Shape legend: N lanes, W block width, M search space, P parameters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.objective import CurvatureProduct

BLOCKS_IN_SEARCH_SPACE = 4
"""Blocks held before a restart; memory is twice this many blocks (vectors and their products)."""

BLOCKS_AFTER_RESTART = 2

RANK_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}
"""Eigenvalues of a normalised Gram matrix below this (relative) are directions that rounding made up."""

RESTART_COLD_ABOVE = 10.0
"""A warm refresh that ends this many tolerances away from convergence is done again from a cold start."""


@dataclass(slots=True, kw_only=True)
class Eigenspace:
    """Ritz pairs of a block, with what is known about their accuracy.

    Args:
        basis_NWP: Orthonormal Ritz vectors, in descending order of Ritz value.
        values_NW: Ritz values, float64.
        residuals_NW: ||H x - theta x|| of each pair, float64.
        products_N: Columns multiplied by H, int64.
        converged_N: Whether the leading k residuals met the tolerance.
    """

    basis_NWP: Tensor
    values_NW: Tensor
    residuals_NW: Tensor
    products_N: Tensor
    converged_N: Tensor


def block_width(k: int, num_outputs: int, guard: int, num_params: int) -> int:
    """Return the block width: a function of the cell alone. It reaches the gap near the number of classes."""
    return min(num_params, max(k, num_outputs) + guard)


def relative_residual(space: Eigenspace, k: int) -> Tensor:
    """Return the largest residual among the leading k over the largest Ritz value's magnitude, (N,)."""
    return space.residuals_NW[:, :k].amax(1) / space.values_NW[:, 0].abs().clamp_min(torch.finfo().tiny)


def solve(
    product: CurvatureProduct, start_NWP: Tensor, *, k: int, tolerance: float, max_products: int
) -> Eigenspace:
    """Find the leading Ritz pairs, starting from a block.

    Args:
        product: The operator, (N, R, P) to (N, R, P).
        start_NWP: Start block; need not be orthonormal.
        k: How many leading pairs must meet the tolerance.
        tolerance: On ||r_i|| / |theta_1|.
        max_products: Budget of block products, at least 1.

    Returns:
        The Ritz pairs of the block; a lane whose products are not finite has NaN values and is not converged.
    """
    width = start_NWP.shape[1]
    search = orthonormalise(start_NWP, None)
    images = product(search)
    best = _rayleigh_ritz(search, images, width)
    state = _result(best, width, width, k, tolerance)
    blocks = 1
    while blocks < max_products and not bool((state.converged_N | ~state.values_NW[:, 0].isfinite()).all()):
        ritz, ritz_images, values = best
        residual = torch.addcmul(ritz_images[:, :width], values[:, :width, None].to(ritz.dtype), ritz[:, :width], value=-1)
        if ritz.shape[1] + width > BLOCKS_IN_SEARCH_SPACE * width:
            kept = BLOCKS_AFTER_RESTART * width
            ritz, ritz_images = ritz[:, :kept], ritz_images[:, :kept]
        new = orthonormalise(residual, ritz)
        search = torch.cat([ritz, new], 1)
        images = torch.cat([ritz_images, product(new)], 1)
        best = _rayleigh_ritz(search, images, search.shape[1])
        blocks += 1
        state = _merge(state, _result(best, width, blocks * width, k, tolerance))
    return state


def refresh(
    product: CurvatureProduct,
    warm_NWP: Tensor | None,
    random_NWP: Tensor,
    *,
    k: int,
    tolerance: float,
    max_products: int,
    max_cold_products: int,
) -> Eigenspace:
    """Track the Dominant subspace: warm where possible, cold at the start or when the warm result is bad.

    Args:
        product: The operator.
        warm_NWP: The previous block, or `None` for a cold start.
        random_NWP: Start block of a cold start.
        k: Dimension of the Dominant subspace.
        tolerance: On the relative residual.
        max_products: Budget of block products of a warm refresh.
        max_cold_products: Budget of block products of a cold start.
    """
    if warm_NWP is None:
        return solve(product, random_NWP, k=k, tolerance=tolerance, max_products=max_cold_products)
    state = solve(product, warm_NWP, k=k, tolerance=tolerance, max_products=max_products)
    bad = ~state.converged_N & (relative_residual(state, k) > RESTART_COLD_ABOVE * tolerance)
    if not bool(bad.any()):
        return state
    cold = solve(product, random_NWP, k=k, tolerance=tolerance, max_products=max_cold_products)
    cold.products_N = cold.products_N + state.products_N
    better = bad & (cold.values_NW[:, :k].sum(1) >= state.values_NW[:, :k].sum(1))
    chosen = _select(better, cold, state)
    chosen.products_N = torch.where(bad, cold.products_N, state.products_N)
    return chosen


def orthonormalise(block_NWP: Tensor, against_NMP: Tensor | None) -> Tensor:
    """Orthonormalise the rows of each lane, also against an orthonormal set; twice, for working accuracy.

    By the eigenvectors of the scaled Gram matrix (Stathopoulos & Wu 2002, SVQB). Directions that are
    dependent to rounding become zero rows, so that shapes do not depend on data.
    """
    block = block_NWP
    for _ in range(2):
        if against_NMP is not None:
            block = block - torch.bmm(torch.bmm(block, against_NMP.mT), against_NMP)
        norms = torch.linalg.vector_norm(block, dim=2, keepdim=True)
        block = block / norms.clamp_min(torch.finfo(block.dtype).tiny)
        gram = torch.bmm(block, block.mT)
        values, vectors = _eigh(gram)
        keep = values > RANK_TOLERANCE[block.dtype] * values.amax(1, keepdim=True)
        scale = torch.where(keep, values.clamp_min(torch.finfo(values.dtype).tiny).rsqrt(), 0.0)
        block = torch.bmm((vectors * scale.unsqueeze(1)).mT.to(block.dtype), block)
    return block


_Ritz = tuple[Tensor, Tensor, Tensor]


def _rayleigh_ritz(search_NMP: Tensor, images_NMP: Tensor, count: int) -> _Ritz:
    """Return `count` leading Ritz vectors, their images under H, and all Ritz values (N, M) descending."""
    projected = torch.bmm(search_NMP, images_NMP.mT).double()
    projected = 0.5 * (projected + projected.mT)
    absent = torch.linalg.vector_norm(search_NMP, dim=2) < 0.5
    floor = -2 * projected.abs().amax((1, 2)) * projected.shape[1] - 1
    projected = projected + torch.diag_embed(torch.where(absent, floor.unsqueeze(1), 0.0))
    values, vectors = _eigh(projected)
    order = vectors.flip(2)[:, :, :count].mT.to(search_NMP.dtype)
    return torch.bmm(order, search_NMP), torch.bmm(order, images_NMP), values.flip(1)


def _eigh(matrix_NMM: Tensor) -> tuple[Tensor, Tensor]:
    """Eigendecompose in float64; lanes with non-finite entries get NaN values and zero vectors, not an error."""
    matrix = matrix_NMM.double()
    finite = matrix.isfinite().all(2, keepdim=True).all(1, keepdim=True)
    values, vectors = torch.linalg.eigh(torch.where(finite, matrix, 0.0))
    return torch.where(finite.squeeze(2), values, torch.nan), torch.where(finite, vectors, 0.0)


def _result(ritz: _Ritz, width: int, products: int, k: int, tolerance: float) -> Eigenspace:
    vectors, images, values = ritz
    basis, theta = vectors[:, :width], values[:, :width]
    residual = torch.addcmul(images[:, :width], theta[:, :, None].to(basis.dtype), basis, value=-1)
    norms = torch.linalg.vector_norm(residual, dim=2).double()
    norms = torch.where(theta.isfinite(), norms, torch.nan)
    converged = norms[:, :k].amax(1) <= tolerance * theta[:, 0].abs()
    return Eigenspace(
        basis_NWP=basis,
        values_NW=theta,
        residuals_NW=norms,
        products_N=torch.full_like(converged, products, dtype=torch.int64),
        converged_N=converged,
    )


def _merge(before: Eigenspace, after: Eigenspace) -> Eigenspace:
    """Keep the earlier result of the lanes that had converged."""
    return _select(before.converged_N, before, after)


def _select(mask_N: Tensor, left: Eigenspace, right: Eigenspace) -> Eigenspace:
    if bool(mask_N.all()):
        return left
    if not bool(mask_N.any()):
        return right
    column = mask_N.unsqueeze(1)
    return Eigenspace(
        basis_NWP=torch.where(column.unsqueeze(2), left.basis_NWP, right.basis_NWP),
        values_NW=torch.where(column, left.values_NW, right.values_NW),
        residuals_NW=torch.where(column, left.residuals_NW, right.residuals_NW),
        products_N=torch.where(mask_N, left.products_N, right.products_N),
        converged_N=torch.where(mask_N, left.converged_N, right.converged_N),
    )
