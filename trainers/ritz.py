"""Rayleigh-Ritz in a basis that is known by its small matrices, for all lanes at once.

Everything here is of the size of a search space and in float64. Of few lanes it is in the host's memory,
whatever device the vectors are on: a GPU takes longer to start one such operation than the host to do it. Of
many it is where the vectors are (`place_of`). The first block of a refresh is a program's where there is one
(`trainers.kernels.small`). What is of the size of the parameters is in `trainers.first_block` and
`trainers.krylov`, but for the inner products that lead here.
Lanes with entries that are not finite get NaN values and zero vectors, no error.

Shape legend: N lanes, M and W vectors of a basis, P parameters.
"""

import math

import torch
from torch import Tensor

from trainers import kernels

EIGENPROBLEMS_FOR_A_GPU = 16
"""So many take a GPU less time than the host: any number 0.2 ms on an H100, 25 us each on the host."""

LANES_FOR_A_GPU = 64
"""Without a program, of so many lanes all else is done there too: on an H100 it pays for 256, not for 32."""

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


def place_of(vectors_NMP: Tensor) -> torch.device:
    """Return where the small matrices of these vectors are best dealt with."""
    many = len(vectors_NMP) >= LANES_FOR_A_GPU
    return vectors_NMP.device if many else torch.device("cpu")


def to_host(small: Tensor) -> Tensor:
    """Return a small tensor in float64 on the host."""
    return small.double().cpu()


def rayleigh_ritz(
    projected_NMM: Tensor, gram_NMM: Tensor, rank_tolerance: float, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
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
    projected = torch.bmm(torch.bmm(whitening.mT, projected_NMM), whitening)
    if absent.device.type != "cpu" or bool(absent.any()):
        floor = -2 * projected.abs().amax((1, 2)) * projected.shape[1] - 1
        projected = projected + torch.diag_embed(torch.where(absent, floor.unsqueeze(1), 0.0))
    values, vectors = eigenpairs(0.5 * (projected + projected.mT), device)
    return values.flip(1), torch.bmm(whitening, vectors.flip(2)), absent.sum(1)


def inverse_factor(gram_NWW: Tensor) -> Tensor:
    """Return L^-1 with G = L L^T: it makes vectors with these inner products orthonormal, in order.

    Vectors of length 0 stay so.
    """
    identity = torch.eye(gram_NWW.shape[1], dtype=gram_NWW.dtype, device=gram_NWW.device)
    if not _all_finite(gram_NWW):
        sound = gram_NWW.isfinite().all(2, keepdim=True).all(1, keepdim=True)
        gram_NWW = torch.where(sound, gram_NWW, identity)
    nothing = (gram_NWW.diagonal(dim1=1, dim2=2) == 0).unsqueeze(2)
    factor = torch.linalg.cholesky_ex(torch.where(nothing, identity, gram_NWW))[0]
    inverse = torch.linalg.solve_triangular(factor, identity.expand_as(gram_NWW), upper=False)
    return torch.where(nothing, 0.0, inverse)


def whitening_of(gram_NMM: Tensor, rank_tolerance: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return W with W^T G W = I on the numerical range of G, and which of its columns are zero instead."""
    values, vectors = eigenpairs(gram_NMM, device)
    absent = ~(values > rank_tolerance * values.amax(1, keepdim=True))
    scale = torch.where(absent, 0.0, values.abs().clamp_min(torch.finfo(values.dtype).tiny).rsqrt())
    return vectors * scale.unsqueeze(1), absent


def eigenpairs(matrix_NMM: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Eigendecompose in float64; lanes with non-finite entries get NaN values and zero vectors, no error."""
    if _all_finite(matrix_NMM):
        return _eigh_of_all(matrix_NMM, device)
    finite = matrix_NMM.isfinite().all(2, keepdim=True).all(1, keepdim=True)
    values, vectors = _eigh_of_all(torch.where(finite, matrix_NMM, 0.0), device)
    return torch.where(finite.squeeze(2), values, torch.nan), torch.where(finite, vectors, 0.0)


def _all_finite(values: Tensor) -> bool:
    """Whether all entries are certainly finite: where their sum is. Cheaper than to look at each.

    Nobody waits for a GPU to say so: it looks at each in less time.
    """
    return values.device.type == "cpu" and math.isfinite(float(values.sum()))


def _eigh_of_all(matrix_NMM: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    where = device if len(matrix_NMM) >= EIGENPROBLEMS_FOR_A_GPU else matrix_NMM.device
    values, vectors = torch.linalg.eigh(matrix_NMM.to(where))
    return values.to(matrix_NMM.device), vectors.to(matrix_NMM.device)
