# pyright: basic, reportArgumentType=false
"""The programs themselves, in the language of Triton: each call of one computes a tile or a part of a result.

Strides and counts that wide loads depend on come divided by UNIT (of a product's result, by INTO_UNIT), which
tells the compiler how they, and what they lead to, align. None of them is compiled for: a program is compiled
once for each kind of call and kept on disk.
"""

import triton
import triton.language as tl
from triton import knobs

OPTIONS = {} if knobs.runtime.interpret else {"enable_fp_fusion": True}
"""Of every program: said, because versions of Triton differ in what they take for granted."""

PRODUCT_NUMBERS = [
    *(f"{what}_{axis}" for what, axes in (("into", "nrgm"), ("apart", "ng")) for axis in axes),
    *(f"{what}_{axis}" for what, axes in (("bias", "nr"), ("scale", "nm")) for axis in axes),
    *(f"left{which}_{axis}" for which in ("", "2") for axis in "nrs"),
    *(f"right{which}_{axis}" for which in ("", "2") for axis in "nrjh"),
    *("scale_columns", "num_rows", "group", "num_columns", "num_kept", "num_parts"),
    *("depth", "last_depth", "depth2"),
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
    RIGHT_BY_ROWS: tl.constexpr,
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
    if RIGHT_BY_ROWS:
        right += inner[:, None] + columns[None, :] * right_stride
        right_step = DEPTH
    else:
        right += inner[:, None] * right_stride + columns[None, :]
        right_step = DEPTH * right_stride
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
            total += tl.dot(here, there, input_precision="tf32x3")
        left += left_step
        right += right_step
    return total


@triton.jit(do_not_specialize=PRODUCT_NUMBERS)
def product(
    into,
    into_n,
    into_r,
    into_g,
    into_m,
    apart,
    apart_n,
    apart_g,
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
    group,
    num_columns,
    num_kept,
    num_parts,
    depth,
    last_depth,
    depth2,
    UNIT: tl.constexpr,
    LONG: tl.constexpr,
    LEFT_BY_ROWS: tl.constexpr,
    LEFT2_BY_ROWS: tl.constexpr,
    RIGHT_BY_ROWS: tl.constexpr,
    HALVES: tl.constexpr,
    TWO: tl.constexpr,
    BIAS: tl.constexpr,
    SCALE: tl.constexpr,
    GROUPS: tl.constexpr,
    APART: tl.constexpr,
    INTO_UNIT: tl.constexpr,
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
        RIGHT_BY_ROWS,
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
            True,
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
    into += (batch // num_parts).to(tl.int64) * into_n * INTO_UNIT
    into += part.to(tl.int64) * into_r * INTO_UNIT
    if GROUPS:
        into += ((rows // group * into_g + rows % group * into_m) * INTO_UNIT)[:, None]
    else:
        into += (rows * (into_m * INTO_UNIT))[:, None]
    tl.store(into + columns[None, :], total, mask=in_rows[:, None] & (columns < num_kept * UNIT)[None, :])
    if APART:
        # The column behind those that are kept, which one tile of each row has.
        behind = num_kept * UNIT - tile % column_tiles * COLUMNS
        if (behind >= 0) & (behind < COLUMNS):
            there = (
                apart + (batch // num_parts).to(tl.int64) * apart_n + rows // group * apart_g + rows % group
            )
            column = tl.where((tl.arange(0, COLUMNS) == behind)[None, :], total, 0.0)
            tl.store(there, tl.sum(column, axis=1), mask=in_rows)


@triton.jit(do_not_specialize=["size", "outer", "inner", "distance"])
def split(
    big, small, numbers, size, outer, inner, distance,
    INNER: tl.constexpr, UNIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the halves of rows of `size` numbers, `distance` apart; row (i, j) is at i outer + j inner."""
    blocks = tl.cdiv(size * UNIT, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    at = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    here = at < size * UNIT
    start = (row // INNER * outer + row % INNER * inner) * UNIT
    found = tl.load(numbers + start + at, mask=here)
    top = _big_half(found)
    tl.store(big + row * distance * UNIT + at, top, mask=here)
    tl.store(small + row * distance * UNIT + at, found - top, mask=here)


@triton.jit(do_not_specialize=["num_rows", "num_columns", "across", "outer", "inner", "distance"])
def split_across(
    big, small, numbers, num_rows, num_columns, across, outer, inner, distance,
    INNER: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write the halves of matrices, `distance` apart, whose columns are rows in memory, `across` apart."""
    column_tiles = tl.cdiv(num_columns, COLUMNS)
    tiles = tl.cdiv(num_rows, ROWS) * column_tiles
    matrix, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    rows = (tile // column_tiles * ROWS + tl.arange(0, ROWS))[:, None]
    columns = (tile % column_tiles * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    here = (rows < num_rows) & (columns < num_columns)
    start = numbers + matrix // INNER * outer + matrix % INNER * inner
    found = tl.load(start + rows + columns.to(tl.int64) * across, mask=here)
    top = _big_half(found)
    into = matrix * distance + rows.to(tl.int64) * num_columns + columns
    tl.store(big + into, top, mask=here)
    tl.store(small + into, found - top, mask=here)


@triton.jit
def in_row(at, size, UNIT: tl.constexpr):
    """Whether entries are loaded: as wide as allowed, so that a row's last load may go beyond its end."""
    return at // UNIT * UNIT < size


@triton.jit(do_not_specialize=["rows_n", "rows_m", "count", "size", "num_parts"])
def gram(
    into, rows, rows_n, rows_m, count, size, num_parts,
    UNIT: tl.constexpr, MOST: tl.constexpr, DEPTH: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Write the inner products of a lane's rows over one part of their entries."""
    n, part = tl.program_id(0) // num_parts, tl.program_id(0) % num_parts
    row = tl.arange(0, MOST)
    start = rows + n.to(tl.int64) * rows_n * UNIT + row.to(tl.int64)[:, None] * rows_m * UNIT
    total = tl.zeros((MOST, MOST), dtype=tl.float32)
    for block in range(BLOCKS):
        at = (part * BLOCKS + block) * DEPTH + tl.arange(0, DEPTH)
        loaded = (row < count)[:, None] & in_row(at, size, UNIT)[None, :]
        found = tl.load(start + at[None, :], mask=loaded, other=0.0)
        found = tl.where((at < size)[None, :], found, 0.0)
        total += tl.dot(found, tl.trans(found), input_precision="tf32x3")
    into += tl.program_id(0).to(tl.int64) * count * count
    here = (row < count)[:, None] & (row < count)[None, :]
    tl.store(into + row[:, None] * count + row[None, :], total, mask=here)


@triton.jit(do_not_specialize=["rows_n", "rows_m", "num_rows", "num_results", "size"])
def combination(
    rows, rows_n, rows_m, factors, num_rows, num_results, size, unless,
    UNLESS: tl.constexpr, UNIT: tl.constexpr, MOST: tl.constexpr, DEPTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Put combinations of a lane's rows in the place of the first of them, for some columns."""
    blocks = tl.cdiv(size, BLOCK)
    n = tl.program_id(0) // blocks
    at = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    # What stands behind the end of a row is combined too, in its place.
    here = in_row(at, size, UNIT)
    if UNLESS:
        here = here & (tl.load(unless) + at * 0 == 0)
    result = tl.arange(0, MOST)
    rows += n.to(tl.int64) * rows_n * UNIT
    factors += n.to(tl.int64) * num_results * num_rows
    total = tl.zeros((MOST, BLOCK), dtype=tl.float32)
    for first in range(0, num_rows, DEPTH):
        row = first + tl.arange(0, DEPTH)
        known = row < num_rows
        by = tl.load(
            factors + result[:, None] * num_rows + row[None, :],
            mask=(result < num_results)[:, None] & known[None, :],
            other=0.0,
        )
        found = rows + row.to(tl.int64)[:, None] * rows_m * UNIT + at[None, :]
        values = tl.load(found, mask=known[:, None] & here[None, :], other=0.0)
        total = tl.dot(by, values, total, input_precision="tf32x3")
    # All has been read before any of it is overwritten.
    tl.debug_barrier()
    into = rows + result.to(tl.int64)[:, None] * rows_m * UNIT + at[None, :]
    tl.store(into, total, mask=(result < num_results)[:, None] & here[None, :])
