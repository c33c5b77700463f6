"""The curvature probe: leading eigenvalues, their accuracy, and the gradient's alignment chi_k."""

from trainers.history import (
    CHI,
    CURVATURE_CONVERGED,
    CURVATURE_PRODUCTS,
    CURVATURE_RESIDUAL,
    LEADING_EIGENVALUE,
)
from trainers.instruments import alignment
from trainers.lane import ScheduledProbe
from trainers.probes.view import View


def measure_curvature(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return lambda_1 ... lambda_k and chi_k(g) = ||P_k g|| / ||g|| of the full gradient (SAY25 section 2).

    Eigenvalues that did not converge within the budget come with `curvature/converged` 0.
    """
    space = view.leading(probe.options)
    values = {LEADING_EIGENVALUE.format(i + 1): float(value) for i, value in enumerate(space.values_K)}
    return values | {
        CHI: alignment(space.basis_KP, view.gradient_P),
        CURVATURE_RESIDUAL: space.residual,
        CURVATURE_CONVERGED: float(space.converged),
        CURVATURE_PRODUCTS: float(space.products),
    }
