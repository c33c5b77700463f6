r"""The Dominant subspace: the algebraically largest eigenpairs of a symmetric operator, tracked over time.

A block Krylov method with Rayleigh-Ritz and thick restarts. It starts from the previous refresh's block
(warm) or from random vectors (cold), and does as many block products as the residual asks for:

1. Rayleigh-Ritz in the block X itself costs one product H X and gives Ritz pairs (theta_i, x_i) and their
   residuals r_i = H x_i - theta_i x_i.
2. One step of power iteration leads to H x_i / theta_i and costs nothing further, and the eigenvectors are
   found again in the span of these images (`trainers.power_step`). They are what is returned; their residuals
   are smaller by the ratio of a bound on the eigenvalues outside the block to theta_i.
3. Until that residual is at most tolerance |theta_k| (or tolerance |theta_1| / 100, if that is more) for all
   i <= k, append the orthonormalised residuals of the whole block to the search space, multiply them by H,
   and repeat Rayleigh-Ritz in the larger space. Residuals are first known by inner products, and formed where
   these do not say that they are small enough.

Residuals of a Rayleigh-Ritz block span the next block of the Krylov space (Saad, Numerical Methods for Large
Eigenvalue Problems, 2011, chapter 6), so one warm block and p products search the Krylov space of order p.
The block carries guard vectors beyond k: convergence depends on the gap behind the block, and inside the
Dominant subspace there is none (lambda_2 / lambda_1 is near 1 on MNIST). The small eigenproblems are solved
in float64.

Residuals say how good the pairs are that were found, not that no other has overtaken them. An eigenvector
that is orthogonal to the block up to rounding enters it only as fast as products amplify that rounding, or as
the Hessian's own motion turns it into the block: one whose eigenvalue alone grows from below the block, with
all eigenvectors fast, is found some refreshes late. A cold start, at each phase, looks everywhere.

Most refreshes end with their first block, so that one is done in two passes over memory: all inner products
of [X; H X] at once, and, after small algebra, one product that forms the result (`trainers.first_block`).

A lane that has converged keeps its result and is left out of what follows, so that a lane's numbers do not
depend on its neighbours and cost them nothing.

Shape legend: N lanes, W block width, M search space, P parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from trainers.eigenpairs import Eigenspace, Wanted, Warm
from trainers.first_block import FirstBlock, Operator, combined, small_of
from trainers.krylov import SearchSpace
from trainers.objective import BlockProduct
from trainers.ritz import device_inner
from trainers.rows import room_for_rows

WIDTH_MULTIPLE = 4
"""Blocks are this wide or a multiple: inner products of 14 rows take twice as long as those of 16."""

RESTART_COLD_ABOVE = 10.0
"""A warm refresh that ends this many tolerances away from convergence is done again from a cold start."""


def block_width(k: int, num_outputs: int, guard: int, num_params: int) -> int:
    """Return the block width: a function of the cell alone. It reaches the gap near the number of classes."""
    width = max(k, num_outputs) + guard
    return min(num_params, -(-width // WIDTH_MULTIPLE) * WIDTH_MULTIPLE)


def random_rows(width: int, size: int, draw: torch.Generator) -> Tensor:
    """Draw the rows (width, size) of a start block, of length about 1.

    The rows that a search space is extended by have length 1, and beside much longer ones they would be taken
    for what rounding leaves.
    """
    return torch.randn(width, size, generator=draw).div_(size**0.5)


def solve(
    operator: Operator | BlockProduct,
    start_NWP: Tensor,
    *,
    k: int | Sequence[int],
    tolerance: float,
    max_products: int,
    floor_N: Tensor | None = None,
) -> Eigenspace:
    """Find the leading eigenpairs, starting from a block.

    Args:
        operator: The operator.
        start_NWP: Start block, of full rank; need not be orthonormal. Where the operator has begun with it,
            the basis that is returned may take its place.
        k: How many leading pairs must meet the tolerance; of each lane, where they differ.
        tolerance: On ||r_i|| / |theta_k| of the returned basis; see `Eigenspace.relative_N`.
        max_products: Budget of block products, at least 1.
        floor_N: The smallest eigenvalue as far as it is known, float64 on the host; 0 where it is not.

    Returns:
        The pairs of the block; a lane whose products are not finite has NaN values and is not converged.
    """
    operator = operator if isinstance(operator, Operator) else Operator(product=operator)
    lanes, width = start_NWP.shape[:2]
    wanted = Wanted(k, lanes, width)
    if floor_N is None:
        floor_N = torch.zeros(lanes, dtype=torch.float64)
    if operator.begun is None:
        stacked = room_for_rows(start_NWP, lanes, 2 * width, start_NWP.shape[2])
        torch.cat([start_NWP, operator.product(start_NWP)], 1, out=stacked)
        gram = device_inner(stacked, stacked)
        counts = wanted.counts_N.to(stacked.device, torch.int32)
        first = FirstBlock(stacked, gram, small_of(stacked, gram, floor_N.to(gram.device), counts, tolerance))
    else:
        first = operator.begun
    stacked = first.stacked_NMP
    state, whole = first.ritz(wanted, tolerance, floor_N)
    rows = _going_on(state)
    if len(rows) == 0:
        if not first.combined:
            state.basis_NWP = combined(whole, stacked)
        return state
    product, gram = operator.product, first.gram_NMM.cpu().double()
    everyone = len(rows) == lanes
    if everyone or operator.of_lanes is None:
        rows = torch.arange(lanes)
        space = SearchSpace(stacked if everyone else stacked.clone(), gram, floor_N)
    else:
        product, wanted = operator.of_lanes(rows), wanted.of_lanes(rows)
        space = SearchSpace(stacked[rows], gram[rows], floor_N[rows])
    # The new basis may take the place of the block.
    state.basis_NWP = torch.empty_like(start_NWP) if everyone else combined(whole, stacked)
    del stacked, first, start_NWP
    # By inner products alone they have been looked at.
    blocks, closely = 1, True
    while True:
        found, whole, residual = space.ritz(wanted, tolerance, products=blocks * width, closely=closely)
        going_on = _going_on(state)
        inside = torch.searchsorted(rows, going_on)
        ended = found.converged_N[inside] | ~found.values_NW[inside, 0].isfinite()
        if closely and blocks >= max_products:
            ended.fill_(True)
        if bool(ended.any()):
            _put(state, going_on[ended], found, inside[ended], space.basis(whole, inside[ended]))
        left = going_on[~ended]
        if len(left) == 0:
            return state
        if len(left) < len(rows) and operator.of_lanes is not None:
            inside = torch.searchsorted(rows, left)
            space, wanted = space.of_lanes(inside), wanted.of_lanes(inside)
            residual = None if residual is None else residual[inside]
            rows, product = left, operator.of_lanes(left)
        del found, whole
        if residual is not None:
            space.extend(residual, product)
            blocks += 1
        closely = residual is None


def _going_on(state: Eigenspace) -> Tensor:
    """Return the rows of the lanes that have neither converged nor lost all sense."""
    return (~state.converged_N & state.values_NW[:, 0].isfinite()).nonzero().squeeze(1)


def refresh(
    operator: Operator | BlockProduct,
    warm: "Warm | None",
    random_block: Callable[[], Tensor],
    *,
    k: int | Sequence[int],
    tolerance: float,
    max_products: int,
    max_cold_products: int,
) -> Eigenspace:
    """Track the Dominant subspace: warm where possible, cold at the start or when the warm result is bad.

    Args:
        operator: The operator.
        warm: What the last refresh left, or `None` for a cold start.
        random_block: Draws the start block (N, W, P) of a cold start; called only for one.
        k: Dimension of the Dominant subspace; of each lane, where they differ.
        tolerance: On the relative residual.
        max_products: Budget of block products of a warm refresh.
        max_cold_products: Budget of block products of a cold start.
    """
    if warm is None:
        return solve(operator, random_block(), k=k, tolerance=tolerance, max_products=max_cold_products)
    state = solve(
        operator, warm.block_NWP, k=k, tolerance=tolerance, max_products=max_products, floor_N=warm.floor_N
    )
    if bool(state.converged_N.all()):
        return state
    bad = ~state.converged_N & (state.relative_N > RESTART_COLD_ABOVE * tolerance)
    rows = bad.nonzero().squeeze(1)
    if len(rows) == 0:
        return state
    operator = operator if isinstance(operator, Operator) else Operator(product=operator)
    block, counts = random_block(), [k] * len(bad) if isinstance(k, int) else k
    if len(rows) < len(bad) and operator.of_lanes is not None:
        operator = Operator(product=operator.of_lanes(rows), of_lanes=_of_lanes_in(operator.of_lanes, rows))
        block, counts = block[rows], [counts[row] for row in rows.tolist()]
    else:
        operator, rows = replace(operator, begun=None), torch.arange(len(bad))
    cold = solve(operator, block, k=counts, tolerance=tolerance, max_products=max_cold_products)
    products = state.products_N[rows] + cold.products_N
    wanted = Wanted(counts, *cold.values_NW.shape)
    # Of two subspaces the nearer one has the larger Ritz values, but what a power step says of eigenvalues
    # may be too large, by the residuals at most.
    surely = wanted.sum(state.values_NW[rows]) - wanted.sum(state.residuals_NW[rows])
    better = bad[rows] & (wanted.sum(cold.values_NW) >= surely)
    inside = better.nonzero().squeeze(1)
    basis = cold.basis_NWP if len(inside) == len(rows) else cold.basis_NWP[inside]
    _put(state, rows[inside], cold, inside, basis)
    state.products_N[rows] = torch.where(bad[rows], products, state.products_N[rows])
    return state


def _of_lanes_in(
    of_lanes: Callable[[Tensor], BlockProduct], rows: Tensor
) -> Callable[[Tensor], BlockProduct]:
    return lambda inside: of_lanes(rows[inside])


def _put(state: Eigenspace, rows: Tensor, source: Eigenspace, at: Tensor, basis: Tensor) -> None:
    """Replace what `state` says about some lanes by what stands in rows `at` of another one, and a basis."""
    if len(rows) == len(state.values_NW):
        state.basis_NWP = basis
    else:
        state.basis_NWP[rows] = basis
    state.values_NW[rows] = source.values_NW[at]
    state.residuals_NW[rows] = source.residuals_NW[at]
    state.relative_N[rows] = source.relative_N[at]
    state.products_N[rows] = source.products_N[at]
    state.converged_N[rows] = source.converged_N[at]
    state.floor_N[rows] = source.floor_N[at]
