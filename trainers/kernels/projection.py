"""The projection of each lane's vector onto its directions, added to its weights.

Libraries take six passes over memory: the vector is added, its entries that the directions have are
gathered, multiplied by the directions, the directions by the products, and the result is scattered and added.
Here it is one over the directions, which a cache holds until all of a lane's products are there, and two over
the vector.

Shape legend: N lanes, K directions, C entries of a direction, P entries of a vector.
"""

from typing import Any

from torch import Tensor

from trainers.kernels import programs, projection_programs
from trainers.kernels.products import processors, widest_load

_projection: Any = projection_programs.projection

LARGE, SMALL = (8192, 16), (2048, 8)
"""Entries of a program, and its groups of 32 threads: many of few lanes keep more of a GPU busy."""

AT_ONCE = 32
"""Parts of a sum that are loaded at a time."""

CACHED_BYTES = 12 * 2**20
"""Directions of the lanes that are begun with before any of them is ended, of which a GPU is at two such."""


def add_projection(
    into_NP: Tensor,
    basis_NKC: Tensor,
    vectors_NP: Tensor,
    scales: Tensor,
    *,
    counts_N: Tensor,
    rates_N1: Tensor | None = None,
    places_P: Tensor | None = None,
    cut: tuple[int, int] | None = None,
) -> None:
    """Add r v + sum_i s_i <u_i, v> u_i to each lane's row, in place.

    Args:
        into_NP: What is added to; contiguous along its last axis, as all others are.
        basis_NKC: The directions u_i. Where rows are further apart than they are long, and as far as wide
            loads ask for, what lies between them is read too, and ignored.
        vectors_NP: v.
        scales: s, (N, 1) or (N, K).
        counts_N: How many of the directions a lane has, int32; what stands behind them is not read.
        rates_N1: r, contiguous; 0 where it is not given.
        places_P: The entries of a vector, int32: the C that a direction has, in its order, then all others.
            `None` where it has all.
        cut: `LARGE` or `SMALL`; by the number of programs if not given.
    """
    lanes, most, size = basis_NKC.shape
    total = size if rates_N1 is None else into_NP.shape[1]
    if cut is None:
        cut = LARGE if lanes * -(-size // LARGE[0]) >= processors(into_NP.device) else SMALL
    block, warps = cut
    num_parts, num_shares = -(-size // block), -(-total // block)
    abreast = min(lanes, max(1, CACHED_BYTES // (most * size * basis_NKC.element_size())))
    turns = -(-lanes // abreast) + 1
    unit = widest_load(basis_NKC.stride()[:2], [basis_NKC])
    sums, factors = basis_NKC.new_empty(lanes, most, num_parts), basis_NKC.new_empty(lanes, most)
    done = counts_N.new_zeros(lanes + 1)
    _projection[turns * abreast * (num_parts + num_shares),](
        into_NP, into_NP.stride(0), basis_NKC, basis_NKC.stride(0) // unit, basis_NKC.stride(1) // unit,
        vectors_NP, vectors_NP.stride(0), scales, scales.stride(0), scales.stride(1) * (scales.shape[1] > 1),
        into_NP if rates_N1 is None else rates_N1, counts_N, counts_N if places_P is None else places_P,
        sums, factors, done, lanes, abreast, most, size, total, num_parts, num_shares,
        UNIT=unit, PLACES=places_P is not None, RATES=rates_N1 is not None, BLOCK=block, AT_ONCE=AT_ONCE,
        num_warps=warps, **programs.OPTIONS,
    )  # fmt: skip
