"""The curvature probe: leading eigenvalues, their accuracy, and the gradient's alignment chi_k.

It tracks an eigenspace of its own (on its own subset of the training data), so it changes nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trainers.cell import Solver
from trainers.eigenspace import Warm, refresh, relative_residual
from trainers.history import (
    CHI,
    CURVATURE_CONVERGED,
    CURVATURE_PRODUCTS,
    CURVATURE_RESIDUAL,
    LEADING_EIGENVALUE,
)
from trainers.objective import CurvatureProduct


def measure_curvature(
    product: CurvatureProduct,
    warm: Warm | None,
    random_block: Callable[[], Tensor],
    gradient_P: Tensor,
    *,
    k: int,
    tolerance: float,
    solver: Solver,
) -> tuple[dict[str, float], Tensor, float]:
    """Measure one lane.

    Args:
        product: The Hessian at the lane's weights.
        warm: What the last measurement left, or `None`.
        random_block: Draws the start block (1, W, P) of a cold start.
        gradient_P: Gradient of the full training loss, for chi_k(g) = ||P_k g|| / ||g|| (SAY25 section 2).
        k: Number of eigenvalues.
        tolerance: On their relative residuals.
        solver: Budgets of block products.

    Returns:
        The values by series name, and the block and the floor for the next measurement. Eigenvalues that did
        not converge within the budget come with `curvature/converged` 0.
    """
    space = refresh(
        product,
        warm,
        random_block,
        k=k,
        tolerance=tolerance,
        max_products=solver.max_cold_products,
        max_cold_products=solver.max_cold_products,
    )
    leading = space.basis_NWP[0, :k]
    norm = torch.linalg.vector_norm(gradient_P)
    aligned = torch.linalg.vector_norm(leading @ gradient_P)
    values = {LEADING_EIGENVALUE.format(i + 1): float(space.values_NW[0, i]) for i in range(k)}
    values |= {
        CHI: float(aligned / norm) if float(norm) != 0.0 else 0.0,
        CURVATURE_RESIDUAL: float(relative_residual(space, k)[0]),
        CURVATURE_CONVERGED: float(space.converged_N[0]),
        CURVATURE_PRODUCTS: float(space.products_N[0]),
    }
    return values, space.basis_NWP[0].clone(), float(space.floor_N[0])
