"""The small algebra of a refresh on a GPU: libraries take a hundred operations for it, and the host waits.

Shape legend: N lanes, W block width.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from trainers.kernels import programs, small_programs

_first_ritz: Any = small_programs.first_ritz

WIDEST_BLOCK = 32
"""Wider blocks have too large matrices for the registers of one program."""

LEAST_TILE = 16
"""Sides of the smallest matrices that tensor cores multiply."""

WARPS = {16: 4, 32: 8}
"""Groups of 32 threads of a program, by the sides of its tiles."""


def first_ritz(
    gram_NMM: Tensor,
    floor_N: Tensor,
    counts_N: Tensor,
    *,
    tolerance: float,
    least_scale: float,
    rank_tolerance: float,
    rounding: float,
    least_turned: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Do Rayleigh-Ritz and the power step in a block that is known by its inner products alone.

    Args:
        gram_NMM: Of the block's W vectors and their images, (N, 2 W, 2 W) float64.
        floor_N: The smallest eigenvalue as far as it is known, float64; 0 where it is not.
        counts_N: How many of the pairs have to meet the tolerance, int32.
        tolerance: On the largest of their residuals, over the last of their values.
        least_scale: A value below this share of the first counts as this share.
        rank_tolerance: Eigenvalues of the block's inner products below this (relative) are rounding.
        rounding: What rounding leaves of a residual's square, over theta^2.
        least_turned: Values below this share of the first are not turned with the others.

    Returns:
        Values, residuals' norms and whether a lane has met the tolerance, (N, 2 W + 1) float64; the new
        basis as combinations of the vectors and their images, (N, W, 2 W) float32; and how many lanes have
        finite values but have not, (1,) int32.
    """
    lanes, width = gram_NMM.shape[0], gram_NMM.shape[1] // 2
    tile = max(LEAST_TILE, triton.next_power_of_2(width))
    found, unfinished = gram_NMM.new_empty(lanes, 2 * width + 1), counts_N.new_zeros(1)
    whole = gram_NMM.new_empty(lanes, width, 2 * width, dtype=torch.float32)
    _first_ritz[lanes,](
        found, whole, unfinished, gram_NMM, floor_N, counts_N, width, tolerance, least_scale,
        RANK=rank_tolerance, ROUNDING=rounding, LEAST_TURNED=least_turned, P=tile, num_warps=WARPS[tile],
        **programs.OPTIONS,
    )  # fmt: skip
    return found, whole, unfinished
