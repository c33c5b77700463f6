"""What a solver knows about the leading eigenpairs of each lane, and when that is enough.

All but the vectors is small, in float64 and on the host.

Shape legend: N lanes, W block width, P parameters.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LEAST_SCALE = 1e-2
"""A k-th eigenvalue below this share of the first counts as this share: beyond the Hessian's rank it is 0."""


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
    """Approximate eigenpairs of a block, with what is known about them; all but the basis is on the host.

    Args:
        basis_NWP: Orthonormal vectors, in descending order of value.
        values_NW: What is known of the eigenvalues, float64, see `trainers.power_step`.
        residuals_NW: Bounds on ||H x - theta x|| of each vector of the basis, float64, as far as the smallest
            eigenvalue is known.
        relative_N: The largest of the leading k residuals over the magnitude of the k-th value, or over
            `LEAST_SCALE` times that of the first where that is more, float64.
        products_N: Columns multiplied by H, int64.
        converged_N: Whether the leading k residuals met the tolerance.
        floor_N: The smallest Ritz value of the largest search space so far, float64.
    """

    basis_NWP: Tensor
    values_NW: Tensor
    residuals_NW: Tensor
    relative_N: Tensor
    products_N: Tensor
    converged_N: Tensor
    floor_N: Tensor


class Wanted:
    """How many leading pairs each lane is after.

    Args:
        k: For all lanes, or for each.
        lanes: N.
        width: W.
    """

    def __init__(self, k: int | Sequence[int], lanes: int, width: int) -> None:
        self._counts = np.full(lanes, k) if isinstance(k, int) else np.array(k)
        self._others = np.arange(width) >= self._counts[:, None]

    @property
    def counts_N(self) -> Tensor:
        """Of each lane, int64, on the host."""
        return torch.from_numpy(self._counts)

    def of_lanes(self, rows: Tensor) -> "Wanted":
        """Return the same for some lanes."""
        part = copy(self)
        part._counts, part._others = self._counts[rows.numpy()], self._others[rows.numpy()]
        return part

    def sum(self, values_NW: Tensor) -> Tensor:
        """Return the sum of the leading values, (N,)."""
        return torch.from_numpy(np.where(self._others, 0.0, values_NW.numpy()).sum(1))

    def verdict(self, values_NW: Tensor, residuals_NW: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """Return the relative residual of the leading pairs and whether it met the tolerance, (N,) each.

        Residuals are held against the k-th value, the hardest to get right, or the least that counts.
        """
        values = np.abs(values_NW.numpy())
        last = np.take_along_axis(values, self._counts[:, None] - 1, 1)[:, 0]
        scale = np.maximum(np.maximum(last, LEAST_SCALE * values[:, 0]), np.finfo(values.dtype).tiny)
        largest = np.where(self._others, 0.0, residuals_NW.numpy()).max(1)
        return torch.from_numpy(largest / scale), torch.from_numpy(largest <= tolerance * scale)


def pairs_of(
    basis_NWP: Tensor,
    theta_NW: Tensor,
    norms_NW: Tensor,
    wanted: Wanted,
    tolerance: float,
    products: int,
    floor_N: Tensor,
) -> Eigenspace:
    """Return the pairs of a block, with a verdict on the leading ones."""
    relative, converged = wanted.verdict(theta_NW, norms_NW, tolerance)
    return Eigenspace(
        basis_NWP=basis_NWP,
        values_NW=theta_NW,
        residuals_NW=norms_NW,
        relative_N=relative,
        products_N=torch.full_like(converged, products, dtype=torch.int64),
        converged_N=converged,
        floor_N=floor_N.clone(),
    )
