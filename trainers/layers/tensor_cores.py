"""Batched matrix products on a GPU's tensor cores, with the error of float32.

Tensor cores multiply numbers of 11 bits. Here each float32 is the sum of two of them, and a product takes three
of theirs: big big + big small + small big, added up in float32 (Ootomo & Yokota 2022, "Recovering single
precision accuracy from Tensor Cores", eq. 24). The error is that of float32 products, at up to twice their rate.
What a product of the Hessian would otherwise do in passes of their own over its largest tensors, adding a
second product or a bias, and multiplying by a derivative, is done before a result is written.

Shape legend: N lanes, R directions or parts of a sum, M rows, K summed over, J columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""Left (N, R, M, K) and right (N, R, K, J), each contiguous along one of its last two axes."""

WIDEST = 4
"""Elements of the widest load, of 16 bytes."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """How a product is cut: elements of a tile, groups of 32 threads, and tiles that are loaded ahead."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


LEAST_DEPTH = 128
"""Sums over fewer are not cut into parts."""

LARGE, SMALL, NARROW = Tiles(128, 64, 32, 4, 3), Tiles(64, 64, 32, 4, 4), Tiles(32, 32, 64, 4, 3)


@triton.jit
def _add_product(
    total,
    left,
    right,
    left_stride,
    right_stride,
    depth,
    rows,
    columns,
    in_rows,
    in_columns,
    LEFT_BY_ROWS: tl.constexpr,
    RIGHT_BY_COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Add left (M, K) right (K, J) to a tile; the strides are those of the axes that are not contiguous."""
    inner = tl.arange(0, DEPTH)
    if LEFT_BY_ROWS:
        left += rows[:, None] * left_stride + inner[None, :]
        left_step = DEPTH
    else:
        left += rows[:, None] + inner[None, :] * left_stride
        left_step = DEPTH * left_stride
    if RIGHT_BY_COLUMNS:
        right += inner[:, None] + columns[None, :] * right_stride
        right_step = DEPTH
    else:
        right += inner[:, None] * right_stride + columns[None, :]
        right_step = DEPTH * right_stride
    for first in range(0, depth, DEPTH):
        inside = inner < depth - first
        here = tl.load(left, mask=in_rows[:, None] & inside[None, :], other=0.0)
        there = tl.load(right, mask=inside[:, None] & in_columns[None, :], other=0.0)
        total = tl.dot(here, there, total, input_precision="tf32x3")
        left += left_step
        right += right_step
    return total


_RUNTIME = (
    "into_n into_r into_m left_n left_r left_s right_n right_r right_s left2_n left2_r left2_s right2_n right2_r "
    "right2_s bias_n bias_r scale_n scale_m scale_columns num_rows num_columns num_parts depth last_depth depth2"
).split()
"""Numbers that the kernel is not compiled anew for."""


@triton.jit(do_not_specialize=_RUNTIME)
def _kernel(
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
    right_s,
    left2,
    left2_n,
    left2_r,
    left2_s,
    right2,
    right2_n,
    right2_r,
    right2_s,
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
    LEFT_BY_ROWS: tl.constexpr,
    RIGHT_BY_COLUMNS: tl.constexpr,
    LEFT2_BY_ROWS: tl.constexpr,
    RIGHT2_BY_COLUMNS: tl.constexpr,
    TWO: tl.constexpr,
    BIAS: tl.constexpr,
    SCALE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Compute one tile. Strides and counts come divided by UNIT, which tells the compiler how they align."""
    column_tiles = tl.cdiv(num_columns * UNIT, COLUMNS)
    tile = tl.program_id(0)
    rows = tile // column_tiles * ROWS + tl.arange(0, ROWS)
    columns = tile % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    in_rows = rows < num_rows * UNIT
    in_columns = columns < num_columns * UNIT
    part = tl.program_id(1) % num_parts
    n = (tl.program_id(1) // num_parts).to(tl.int64) * UNIT
    r = part.to(tl.int64) * UNIT
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    total = _add_product(
        total,
        left + n * left_n + r * left_r,
        right + n * right_n + r * right_r,
        left_s * UNIT,
        right_s * UNIT,
        tl.where(part == num_parts - 1, last_depth, depth) * UNIT,
        rows,
        columns,
        in_rows,
        in_columns,
        LEFT_BY_ROWS,
        RIGHT_BY_COLUMNS,
        DEPTH,
    )
    if TWO:
        total = _add_product(
            total,
            left2 + n * left2_n + r * left2_r,
            right2 + n * right2_n + r * right2_r,
            left2_s * UNIT,
            right2_s * UNIT,
            depth2 * UNIT,
            rows,
            columns,
            in_rows,
            in_columns,
            LEFT2_BY_ROWS,
            RIGHT2_BY_COLUMNS,
            DEPTH,
        )
    if BIAS:
        total += tl.load(bias + n * bias_n + r * bias_r + columns, mask=in_columns, other=0.0)[None, :]
    here = in_rows[:, None] & in_columns[None, :]
    if SCALE:
        factors = scale + n * scale_n + rows[:, None] * (scale_m * UNIT) + columns[None, :] % (scale_columns * UNIT)
        total *= tl.load(factors, mask=here, other=0.0)
    tl.store(into + n * into_n + r * into_r + rows[:, None] * (into_m * UNIT) + columns[None, :], total, mask=here)


def multiply(
    into_NRMJ: Tensor,
    pair: Pair,
    second: Pair | None = None,
    *,
    bias_NRJ: Tensor | None = None,
    scale_NMS: Tensor | None = None,
    part: int | None = None,
    tiles: Tiles | None = None,
) -> Tensor:
    """Write (left right + second left right + bias) * scale and return where.

    Args:
        into_NRMJ: Overwritten; contiguous along its last axis.
        pair: Left and right.
        second: Another pair, with a K of its own.
        bias_NRJ: Of each column; contiguous along its last axis.
        scale_NMS: Factors, the same for all R; column j takes number j modulo S.
        part: With operands of R = 1, the R results are sums over so many of K each, the last over the rest.
        tiles: How to cut; by the number of tiles if not given.
    """
    lanes, results, rows, columns = into_NRMJ.shape
    if tiles is None:
        count = lanes * results * -(-rows // LARGE.rows) * -(-columns // LARGE.columns)
        tiles = LARGE if count >= _processors(into_NRMJ.device) else SMALL
    depth = pair[0].shape[3]
    size = depth if part is None else part
    last_depth = depth if part is None else depth - (results - 1) * part
    depth2 = 0 if second is None else second[0].shape[3]
    both = (*pair, *(pair if second is None else second))
    operands = [_strides(operand, axis, part) for operand, axis in zip(both, (3, 2, 3, 2), strict=True)]
    assert into_NRMJ.stride(3) == 1
    place = into_NRMJ.stride()[:3]
    at_bias, at_scale = (0, 0), (0, 0, 0)
    if bias_NRJ is not None:
        at_bias = (bias_NRJ.stride(0), bias_NRJ.stride(1))
    if scale_NMS is not None:
        assert scale_NMS.stride(2) == 1
        at_scale = (scale_NMS.stride(0), scale_NMS.stride(1), scale_NMS.shape[2])
    counts = (rows, columns, size, last_depth, depth2)
    tensors = [into_NRMJ, *pair, *(second or ()), bias_NRJ, scale_NMS]
    unit = _unit(
        [*place, *(number for operand in operands for number in operand[0]), *at_bias, *at_scale, *counts],
        [tensor.storage_offset() for tensor in tensors if tensor is not None],
    )

    def units(numbers: Sequence[int]) -> list[int]:
        return [number // unit for number in numbers]

    arguments: list[object] = [into_NRMJ, *units(place)]
    for tensor, (strides, _) in zip(both, operands, strict=True):
        arguments += [tensor, *units(strides)]
    arguments += [into_NRMJ if bias_NRJ is None else bias_NRJ, *units(at_bias)]
    arguments += [into_NRMJ if scale_NMS is None else scale_NMS, *units(at_scale)]
    arguments += [rows // unit, columns // unit, results, *units(counts[2:])]
    grid = (-(-rows // tiles.rows) * -(-columns // tiles.columns), lanes * results)
    _kernel[grid](
        *arguments,
        UNIT=unit,
        LEFT_BY_ROWS=operands[0][1],
        RIGHT_BY_COLUMNS=not operands[1][1],
        LEFT2_BY_ROWS=operands[2][1],
        RIGHT2_BY_COLUMNS=not operands[3][1],
        TWO=second is not None,
        BIAS=bias_NRJ is not None,
        SCALE=scale_NMS is not None,
        ROWS=tiles.rows,
        COLUMNS=tiles.columns,
        DEPTH=min(tiles.depth, max(16, triton.next_power_of_2(max(depth, depth2)))),
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return into_NRMJ


def _strides(operand: Tensor, axis: int, part: int | None) -> tuple[tuple[int, int, int], bool]:
    """Return an operand's strides but for its contiguous axis, and whether that is the last one.

    With a part, the second stride is that from part to part along an axis.
    """
    n, r, first, second = operand.stride()
    if part is not None:
        r = part * operand.stride(axis)
    if second == 1:
        return (n, r, first), True
    assert first == 1, "an operand is contiguous along one of its last two axes"
    return (n, r, second), False


def _unit(numbers: Sequence[int], offsets: Sequence[int]) -> int:
    """Return the widest load that all strides, counts and places allow."""
    unit = WIDEST
    while any(number % unit for number in (*numbers, *offsets)):
        unit //= 2
    return unit


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def sums_over(tall_NKM: Tensor, short_NKJ: Tensor) -> Tensor:
    """Return the products tall^T short, (N, M, J), summed in as many parts as keep the device busy."""
    lanes, depth, rows = tall_NKM.shape
    columns = short_NKJ.shape[2]
    tiles = lanes * -(-rows // LARGE.rows) * -(-columns // LARGE.columns)
    parts = max(1, min(depth // LEAST_DEPTH, 4 * _processors(tall_NKM.device) // tiles))
    part = -(-depth // (parts * WIDEST)) * WIDEST
    into = tall_NKM.new_empty(lanes, -(-depth // part), rows, columns)
    # Tensor cores want the second operand along the sum.
    multiply(into, (tall_NKM.mT.unsqueeze(1), _along(short_NKJ).unsqueeze(1)), part=part)
    return into.squeeze(1) if into.shape[1] == 1 else into.sum(1)


def inner(left_NMK: Tensor, right_NWK: Tensor, part: int) -> Tensor:
    """Return the inner products of rows over parts of so many elements each, (N, parts, M, W)."""
    lanes, rows, depth = left_NMK.shape
    into = left_NMK.new_empty(lanes, -(-depth // part), rows, right_NWK.shape[1])
    pair = left_NMK.unsqueeze(1), right_NWK.unsqueeze(1).mT
    return multiply(into, pair, part=part, tiles=NARROW)


def _along(matrix_NKJ: Tensor) -> Tensor:
    """Return the same matrices, contiguous along K; one copy where all lanes share one."""
    shared = matrix_NKJ.stride(0) == 0
    copy = (matrix_NKJ[:1] if shared else matrix_NKJ).mT.contiguous().mT
    return copy.expand_as(matrix_NKJ)
