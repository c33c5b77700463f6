"""Rayleigh-Ritz in a basis that is known by its small matrices, for all lanes at once.

Everything here but inner products is of the size of a search space, in float64, and in the host's memory as
arrays of NumPy, whatever device the vectors are on: of a hundred operations on few numbers each, what counts
is what it takes to call one. Matrix products and decompositions are torch's all the same, which would share
the cores with the threads of another library. The first block of a refresh is a program's where there is one
(`trainers.kernels.small`). What is of the size of the parameters is in `trainers.first_block` and
`trainers.krylov`, but for the inner products that lead here.
Lanes with entries that are not finite get NaN values and zero vectors, no error.

Shape legend: N lanes, M and W vectors of a basis, P parameters.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainers import kernels

Small = npt.NDArray[np.float64]
"""Small matrices or values of all lanes, (N, ...)."""

Flags = npt.NDArray[np.bool_]

SILENT = np.errstate(divide="ignore", over="ignore", invalid="ignore")
"""Lanes that have lost all sense are told by their values, not by warnings."""

EIGENPROBLEMS_FOR_A_GPU = 16
"""So many take a GPU less time than the host: any number 0.2 ms on an H100, 25 us each on the host."""

PIECE = 1024
"""Parameters of a piece of an inner product on a GPU."""


def inner(left_NMP: Tensor, right_NWP: Tensor) -> Tensor:
    """Return the inner products of rows, (N, M, W) float64, on the host."""
    return to_host(device_inner(left_NMP, right_NWP))


def device_inner(left_NMP: Tensor, right_NWP: Tensor) -> Tensor:
    """Return the inner products of rows, (N, M, W), on the device.

    On a GPU in pieces of the parameters, added in float64: a product of few long rows has work for few of its
    processors.
    """
    if left_NMP.device.type == "cpu":
        return torch.bmm(left_NMP, right_NWP.mT)
    if kernels.serve(left_NMP):
        from trainers.kernels.products import inner as on_tensor_cores

        return on_tensor_cores(left_NMP, right_NWP)
    left = _in_pieces(left_NMP)
    right = left if right_NWP is left_NMP else _in_pieces(right_NWP)
    products = torch.bmm(left.flatten(0, 1), right.flatten(0, 1).mT)
    return products.unflatten(0, left.shape[:2]).sum(1, dtype=torch.float64)


def _in_pieces(rows_NMP: Tensor) -> Tensor:
    """Return rows cut into pieces, the last one filled up with 0, (N, S, M, PIECE)."""
    lanes, count, size = rows_NMP.shape
    whole, rest = divmod(size, PIECE)
    pieces = rows_NMP.new_empty(lanes, whole + (rest > 0), count, PIECE)
    pieces[:, :whole] = rows_NMP[:, :, : whole * PIECE].unflatten(2, (whole, PIECE)).transpose(1, 2)
    if rest:
        pieces[:, whole, :, :rest] = rows_NMP[:, :, whole * PIECE :]
        pieces[:, whole, :, rest:] = 0
    return pieces


def to_host(small: Tensor) -> Tensor:
    """Return a small tensor in float64 on the host."""
    return small.double().cpu()


def times(left: Small, right: Small) -> Small:
    """Return the matrix products of the lanes."""
    return torch.bmm(torch.from_numpy(left), torch.from_numpy(right)).numpy()


def diagonal_of(matrix_NMM: Small) -> Small:
    """Return the diagonals, (N, M), for reading."""
    return np.diagonal(matrix_NMM, axis1=1, axis2=2)


def with_diagonal(matrix_NMM: Small, more_NM: Small) -> Small:
    """Return the matrices with something added to their diagonals."""
    result = matrix_NMM.copy()
    every = np.arange(matrix_NMM.shape[1])
    result[:, every, every] += more_NM
    return result


def rayleigh_ritz(
    projected_NMM: Small, gram_NMM: Small, rank_tolerance: float, device: torch.device
) -> tuple[Small, Small, npt.NDArray[np.int64]]:
    """Solve T c = theta G c with T = S H S^T and G = S S^T, for a basis S that need not be orthonormal.

    Args:
        projected_NMM: T.
        gram_NMM: G.
        rank_tolerance: Eigenvalues of G below this (relative) are directions that rounding made up.
        device: Where the vectors of the basis are; solves many problems at once.

    Returns:
        The Ritz values (N, M) descending; their coefficients in the basis, (N, M, M), as columns; and how
        many of the last ones do not exist, (N,), because the vectors of the basis are dependent.
    """
    whitening, absent = whitening_of(gram_NMM, rank_tolerance, device)
    projected = times(times(whitening.mT, projected_NMM), whitening)
    if absent.any():
        floor = -2 * np.abs(projected).max((1, 2), keepdims=True)[:, 0] * projected.shape[1] - 1
        projected = with_diagonal(projected, np.where(absent, floor, 0.0))
    values, vectors = eigenpairs(0.5 * (projected + projected.mT), device)
    return values[:, ::-1], times(whitening, vectors[:, :, ::-1].copy()), absent.sum(1)


def inverse_factor(gram_NWW: Small) -> Small:
    """Return L^-1 with G = L L^T: it makes vectors with these inner products orthonormal, in order.

    Vectors of length 0 stay so.
    """
    identity = np.eye(gram_NWW.shape[1])
    if not _all_finite(gram_NWW):
        gram_NWW = np.where(_finite_lanes(gram_NWW), gram_NWW, identity)
    nothing = (diagonal_of(gram_NWW) == 0)[:, :, None]
    factor = torch.linalg.cholesky_ex(torch.from_numpy(np.where(nothing, identity, gram_NWW)))[0]
    right = torch.from_numpy(identity).expand_as(factor)
    return np.where(nothing, 0.0, torch.linalg.solve_triangular(factor, right, upper=False).numpy())


def whitening_of(gram_NMM: Small, rank_tolerance: float, device: torch.device) -> tuple[Small, Flags]:
    """Return W with W^T G W = I on the numerical range of G, and which of its columns are zero instead."""
    values, vectors = eigenpairs(gram_NMM, device)
    absent = ~(values > rank_tolerance * values[:, -1:])
    scale = np.where(absent, 0.0, 1 / np.sqrt(np.maximum(np.abs(values), np.finfo(values.dtype).tiny)))
    return vectors * scale[:, None], absent


def eigenpairs(matrix_NMM: Small, device: torch.device) -> tuple[Small, Small]:
    """Eigendecompose; lanes with non-finite entries get NaN values and zero vectors, no error.

    The eigenvalues (N, M) ascend.
    """
    if _all_finite(matrix_NMM):
        return _eigh_of_all(matrix_NMM, device)
    finite = _finite_lanes(matrix_NMM)
    values, vectors = _eigh_of_all(np.where(finite, matrix_NMM, 0.0), device)
    return np.where(finite[:, 0], values, np.nan), np.where(finite, vectors, 0.0)


def _finite_lanes(matrix_NMM: Small) -> Flags:
    return np.asarray(np.isfinite(matrix_NMM).all((1, 2), keepdims=True))


def _all_finite(values: Small) -> bool:
    """Whether all entries are certainly finite: where their sum is. Cheaper than to look at each."""
    return math.isfinite(values.sum())


def _eigh_of_all(matrix_NMM: Small, device: torch.device) -> tuple[Small, Small]:
    matrix = torch.from_numpy(matrix_NMM)
    if len(matrix) >= EIGENPROBLEMS_FOR_A_GPU:
        matrix = matrix.to(device)
    values, vectors = torch.linalg.eigh(matrix)
    return values.cpu().numpy(), vectors.cpu().numpy()
