"""The projection of each lane's vector onto its directions, added to its weights, in two passes over them.

Libraries take five: the entries of the vector that the directions have are gathered, multiplied by the
directions, the directions by the products, and the result is scattered and added.

Shape legend: N lanes, K directions, C entries of a direction, P entries of a vector.
"""

from typing import Any

import triton
from torch import Tensor

from trainers.kernels import programs

_coefficients: Any = programs.coefficients
_add_combination: Any = programs.add_combination

BLOCK, BLOCKS = 512, 8
"""Entries that a program is at at a time, and how often."""


def add_projection(
    into_NP: Tensor, basis_NKC: Tensor, vectors_NP: Tensor, scales: Tensor, places_C: Tensor | None
) -> None:
    """Add sum_i s_i <u_i, v> u_i to each lane's row, in place.

    Args:
        into_NP: What is added to.
        basis_NKC: The directions u_i, contiguous.
        vectors_NP: v.
        scales: s, (N, 1) or (N, K).
        places_C: The entries of a vector that a direction has, int64; `None` for all.
    """
    lanes, count, size = basis_NKC.shape
    most = triton.next_power_of_2(max(2, count))
    block = BLOCK if most <= 16 else max(64, BLOCK * 16 // most)
    num_parts = -(-size // (block * BLOCKS))
    parts = basis_NKC.new_empty(lanes, num_parts, most)
    unit = next(unit for unit in (4, 2, 1) if size % unit == 0)
    given = dict(UNIT=unit, PLACES=places_C is not None, MOST=most, BLOCK=block, **programs.OPTIONS)
    places = basis_NKC if places_C is None else places_C
    _coefficients[num_parts, lanes](
        parts, basis_NKC, vectors_NP, places, count, size // unit, vectors_NP.stride(0), num_parts,
        BLOCKS=BLOCKS, **given,
    )  # fmt: skip
    coefficients = parts.sum(1)[:, :count] * scales
    _add_combination[-(-size // block), lanes](
        into_NP, basis_NKC, coefficients, places, count, size // unit, into_NP.stride(0), **given
    )
