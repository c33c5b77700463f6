# pyright: basic
"""The programs themselves, in the language of Triton: each call of one computes one tile of a result.

Strides and counts come divided by UNIT, which tells the compiler how they, and what they lead to, align. None
of them is compiled for: a program is compiled once for each kind of call and kept on disk.
"""

import triton
import triton.language as tl
from triton import knobs

OPTIONS = {} if knobs.runtime.interpret else {"enable_fp_fusion": True}
"""Of every program: said, because versions of Triton differ in what they take for granted."""

PRODUCT_NUMBERS = [
    *(f"{what}_{axis}" for what, axes in (("into", "nrm"), ("bias", "nr"), ("scale", "nm")) for axis in axes),
    *(f"left{which}_{axis}" for which in ("", "2") for axis in "nrs"),
    *(f"right{which}_{axis}" for which in ("", "2") for axis in "nrjh"),
    *("scale_columns", "num_rows", "num_columns", "num_parts", "depth", "last_depth", "depth2"),
]
"""What `product` is not compiled anew for."""


@triton.jit
def _big_half(numbers):
    """Round to 11 bits, which is what tensor cores read of a float32."""
    return ((numbers.to(tl.int32, bitcast=True) + 4096) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def _add_product(
    total,
    left,
    right,
    left_stride,
    right_stride,
    half,
    depth,
    rows,
    columns,
    in_rows,
    in_columns,
    LEFT_BY_ROWS: tl.constexpr,
    HALVES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Add left (M, K) times the transpose of right (J, K) to a tile."""
    inner = tl.arange(0, DEPTH)
    if LEFT_BY_ROWS:
        left += rows[:, None] * left_stride + inner[None, :]
        left_step = DEPTH
    else:
        left += rows[:, None] + inner[None, :] * left_stride
        left_step = DEPTH * left_stride
    right += inner[:, None] + columns[None, :] * right_stride
    for first in range(0, depth, DEPTH):
        inside = inner < depth - first
        in_left = in_rows[:, None] & inside[None, :]
        in_right = inside[:, None] & in_columns[None, :]
        here = tl.load(left, mask=in_left, other=0.0)
        there = tl.load(right, mask=in_right, other=0.0)
        if HALVES:
            small_there = tl.load(right + half, mask=in_right, other=0.0)
            big = _big_half(here)
            part = tl.dot(here - big, there, input_precision="tf32")
            part = tl.dot(big, small_there, part, input_precision="tf32")
            total += tl.dot(big, there, part, input_precision="tf32")
        else:
            total = tl.dot(here, there, total, input_precision="tf32x3")
        left += left_step
        right += DEPTH
    return total


@triton.jit(do_not_specialize=PRODUCT_NUMBERS)
def product(
    into,
    into_n,
    into_r,
    into_m,
    left,
    left_n,
    left_r,
    left_s,
    right,
    right_n,
    right_r,
    right_j,
    right_h,
    left2,
    left2_n,
    left2_r,
    left2_s,
    right2,
    right2_n,
    right2_r,
    right2_j,
    right2_h,
    bias,
    bias_n,
    bias_r,
    scale,
    scale_n,
    scale_m,
    scale_columns,
    num_rows,
    num_columns,
    num_parts,
    depth,
    last_depth,
    depth2,
    UNIT: tl.constexpr,
    LONG: tl.constexpr,
    LEFT_BY_ROWS: tl.constexpr,
    LEFT2_BY_ROWS: tl.constexpr,
    HALVES: tl.constexpr,
    TWO: tl.constexpr,
    BIAS: tl.constexpr,
    SCALE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Compute one tile. Strides and counts come divided by UNIT, which tells the compiler how they align."""
    # One axis of programs: a GPU has room for few along any other.
    column_tiles = tl.cdiv(num_columns * UNIT, COLUMNS)
    tiles = tl.cdiv(num_rows * UNIT, ROWS) * column_tiles
    tile, batch = tl.program_id(0) % tiles, tl.program_id(0) // tiles
    rows = tile // column_tiles * ROWS + tl.arange(0, ROWS)
    columns = tile % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    if LONG:
        rows = rows.to(tl.int64)
        columns = columns.to(tl.int64)
    in_rows = rows < num_rows * UNIT
    in_columns = columns < num_columns * UNIT
    part = batch % num_parts
    n = (batch // num_parts).to(tl.int64) * UNIT
    r = part.to(tl.int64) * UNIT
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    total = _add_product(
        total,
        left + n * left_n + r * left_r,
        right + n * right_n + r * right_r,
        left_s * UNIT,
        right_j * UNIT,
        right_h.to(tl.int64) * UNIT,
        tl.where(part == num_parts - 1, last_depth, depth) * UNIT,
        rows,
        columns,
        in_rows,
        in_columns,
        LEFT_BY_ROWS,
        HALVES,
        DEPTH,
    )
    if TWO:
        total = _add_product(
            total,
            left2 + n * left2_n + r * left2_r,
            right2 + n * right2_n + r * right2_r,
            left2_s * UNIT,
            right2_j * UNIT,
            right2_h.to(tl.int64) * UNIT,
            depth2 * UNIT,
            rows,
            columns,
            in_rows,
            in_columns,
            LEFT2_BY_ROWS,
            HALVES,
            DEPTH,
        )
    if BIAS:
        total += tl.load(bias + n * bias_n + r * bias_r + columns, mask=in_columns, other=0.0)[None, :]
    here = in_rows[:, None] & in_columns[None, :]
    if SCALE:
        factor = columns[None, :] % (scale_columns * UNIT)
        scale += n * scale_n + rows[:, None] * (scale_m * UNIT)
        total *= tl.load(scale + factor, mask=here, other=0.0)
    into += n * into_n + r * into_r + rows[:, None] * (into_m * UNIT)
    tl.store(into + columns[None, :], total, mask=here)


@triton.jit(do_not_specialize=["size", "outer", "inner"])
def split(
    big, small, numbers, size, outer, inner, INNER: tl.constexpr, UNIT: tl.constexpr, BLOCK: tl.constexpr
):
    """Write the halves of rows of `size` numbers; row (i, j) of the numbers is at i outer + j inner."""
    blocks = tl.cdiv(size * UNIT, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    at = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    here = at < size * UNIT
    start = (row // INNER * outer + row % INNER * inner) * UNIT
    found = tl.load(numbers + start + at, mask=here)
    top = _big_half(found)
    tl.store(big + row * size * UNIT + at, top, mask=here)
    tl.store(small + row * size * UNIT + at, found - top, mask=here)


@triton.jit
def _directions(basis, n, at, size, count, UNIT: tl.constexpr, MOST: tl.constexpr):
    """Load some entries of a lane's directions."""
    direction = tl.arange(0, MOST)
    rows = basis + (n * count + direction).to(tl.int64)[:, None] * (size * UNIT)
    return tl.load(
        rows + at[None, :], mask=(direction < count)[:, None] & (at < size * UNIT)[None, :], other=0.0
    )


@triton.jit(do_not_specialize=["count", "size", "stride", "num_parts"])
def coefficients(
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
        total += _directions(basis, n, at, size, count, UNIT, MOST) * vector[None, :]
    into = parts + (n * num_parts + tl.program_id(0)) * MOST + tl.arange(0, MOST)
    tl.store(into, tl.sum(total, axis=1))


@triton.jit(do_not_specialize=["count", "size", "stride"])
def add_combination(
    into, basis, factors, places, count, size, stride,
    UNIT: tl.constexpr, PLACES: tl.constexpr, MOST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add a combination of the directions to some entries."""
    n = tl.program_id(1)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = at < size * UNIT
    direction = tl.arange(0, MOST)
    by = tl.load(factors + n * count + direction, mask=direction < count, other=0.0)
    spanned = tl.sum(_directions(basis, n, at, size, count, UNIT, MOST) * by[:, None], axis=0)
    entry = tl.load(places + at, mask=here, other=0) if PLACES else at
    target = into + n.to(tl.int64) * stride + entry
    tl.store(target, tl.load(target, mask=here) + spanned, mask=here)
