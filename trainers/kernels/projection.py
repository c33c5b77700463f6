"""The projection of each lane's vector onto its directions, added to its weights, in two passes over them.

Libraries take five: the entries of the vector that the directions have are gathered, multiplied by the
directions, the directions by the products, and the result is scattered and added.

Shape legend: N lanes, K directions, C entries of a direction, P entries of a vector.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK, BLOCKS = 512, 8
"""Entries that a program is at at a time, and how often."""

_NUMBERS = ["count", "size", "stride", "num_parts"]


@triton.jit
def _tile(basis, n, at, size, count, UNIT: tl.constexpr, MOST: tl.constexpr):
    """Load some entries of a lane's directions."""
    direction = tl.arange(0, MOST)
    rows = basis + (n * count + direction).to(tl.int64)[:, None] * (size * UNIT)
    return tl.load(rows + at[None, :], mask=(direction < count)[:, None] & (at < size * UNIT)[None, :], other=0.0)


@triton.jit(do_not_specialize=_NUMBERS)
def _multiply(
    parts, basis, vectors, places, count, size, stride, num_parts,
    UNIT: tl.constexpr, PLACES: tl.constexpr, MOST: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Write the inner products of directions and vector over one part of the entries."""
    n = tl.program_id(1)
    total = tl.zeros((MOST, BLOCK), dtype=tl.float32)
    for block in range(BLOCKS):
        at = (tl.program_id(0) * BLOCKS + block) * BLOCK + tl.arange(0, BLOCK)
        here = at < size * UNIT
        entry = tl.load(places + at, mask=here, other=0) if PLACES else at
        vector = tl.load(vectors + n.to(tl.int64) * stride + entry, mask=here, other=0.0)
        total += _tile(basis, n, at, size, count, UNIT, MOST) * vector[None, :]
    into = parts + (n * num_parts + tl.program_id(0)) * MOST + tl.arange(0, MOST)
    tl.store(into, tl.sum(total, axis=1))


@triton.jit(do_not_specialize=_NUMBERS[:-1])
def _add(
    into, basis, coefficients, places, count, size, stride,
    UNIT: tl.constexpr, PLACES: tl.constexpr, MOST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add a combination of the directions to some entries."""
    n = tl.program_id(1)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = at < size * UNIT
    direction = tl.arange(0, MOST)
    factors = tl.load(coefficients + n * count + direction, mask=direction < count, other=0.0)
    spanned = tl.sum(_tile(basis, n, at, size, count, UNIT, MOST) * factors[:, None], axis=0)
    entry = tl.load(places + at, mask=here, other=0) if PLACES else at
    target = into + n.to(tl.int64) * stride + entry
    tl.store(target, tl.load(target, mask=here) + spanned, mask=here)


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
    given = dict(UNIT=unit, PLACES=places_C is not None, MOST=most, BLOCK=block)
    places = basis_NKC if places_C is None else places_C
    _multiply[num_parts, lanes](
        parts, basis_NKC, vectors_NP, places, count, size // unit, vectors_NP.stride(0), num_parts,
        BLOCKS=BLOCKS, **given,
    )  # fmt: skip
    coefficients = parts.sum(1)[:, :count] * scales
    _add[-(-size // block), lanes](
        into_NP, basis_NKC, coefficients, places, count, size // unit, into_NP.stride(0), **given
    )
