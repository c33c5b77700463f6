"""Batched matrix products on a GPU's tensor cores, with the error of float32.

Tensor cores multiply numbers of 11 bits. Here each float32 is the sum of two of them, and a product takes
three of theirs, small big + big small + big big (Ootomo & Yokota 2022, "Recovering single precision accuracy
from Tensor Cores", eq. 24). They add up with less care than float32 asks for, so they only do for a few dozen
terms, whose sums are then added in float32. The error is that of float32 products, at up to twice their rate.
What a product of the Hessian would otherwise do in passes of their own over its largest tensors, adding a
second product or a bias, and multiplying by a derivative, is done before a result is written.

Shape legend: N lanes, R directions or parts of a sum, M rows, J columns, K what is summed over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from trainers.kernels import programs

_product: Any = programs.product
_split: Any = programs.split
_split_across: Any = programs.split_across
_gram: Any = programs.gram

Pair = tuple[Tensor, Tensor]
"""Left (N, R, M, K), contiguous along one of its last two axes; right (2, N, R, J, K) from `halves`, or
(N, R, J, K) as it is, contiguous along K or, of a pair alone, along J, which takes longer."""

WIDEST = 4
"""Elements of the widest load, of 16 bytes."""

BLOCK, SIDE = 1024, 64
"""Numbers that are split at a time, and sides of a tile where they lie in columns."""

LEAST_PART = 128
"""Sums over fewer are not cut into parts."""

INNER_PART = 512
"""Elements of a part of an inner product."""

GRAM_DEPTH, GRAM_BLOCKS, GRAM_WARPS = 32, 64, 2
"""Entries of rows that a program multiplies at a time, how often, and its groups of 32 threads."""

MOST_ROWS = 128
"""More would not fit into a program that computes all inner products of rows."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """How a product is cut: elements of a tile, groups of 32 threads, and tiles that are loaded ahead.

    With so few registers a thread, a multiprocessor is at two tiles at a time.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    registers: int | None = None


SLIM = Tiles(128, 16, 32, 4, 4)
LARGE, SMALL, NARROW = Tiles(128, 64, 32, 8, 3, 128), Tiles(64, 64, 32, 4, 3), Tiles(32, 32, 32, 2, 4)


def halves(matrices: Tensor, *, more: int = 0) -> Tensor:
    """Return numbers of 11 bits, (2, ...), whose sums are these but for 2^-22 of them.

    Args:
        matrices: (N, J, K) or (N, R, J, K), contiguous along one of the last two axes; copied once where the
            numbers of a matrix do not follow each other.
        more: Rows behind those of each matrix that are not written.
    """
    rows, columns = matrices.shape[-2:]
    lanes, inner = matrices.shape[0], 1 if matrices.dim() == 3 else matrices.shape[1]
    both = matrices.new_empty(2, *matrices.shape[:-2], rows + more, columns)
    first = matrices[(0,) * (matrices.dim() - 2)]
    distance = (rows + more) * columns
    if first.stride(0) == 1 and columns > 1:
        strides = matrices.stride(0), 0 if matrices.dim() == 3 else matrices.stride(1)
        _split_across[-(-rows // SIDE) * -(-columns // SIDE) * lanes * inner,](
            both[0], both[1], matrices, rows, columns, first.stride(1), *strides, distance,
            INNER=inner, ROWS=SIDE, COLUMNS=SIDE, **programs.OPTIONS,
        )  # fmt: skip
        return both
    if not first.is_contiguous():
        matrices = matrices.contiguous()
    size = rows * columns
    strides = matrices.stride(0), 0 if matrices.dim() == 3 else matrices.stride(1)
    unit = widest_load([size, *strides, distance], [matrices])
    numbers = [number // unit for number in (size, *strides, distance)]
    _split[-(-size // BLOCK) * lanes * inner,](
        both[0], both[1], matrices, *numbers, INNER=inner, UNIT=unit, BLOCK=BLOCK, **programs.OPTIONS
    )
    return both


def multiply(
    into_NRMJ: Tensor,
    pair: Pair,
    second: Pair | None = None,
    *,
    bias_NRJ: Tensor | None = None,
    scale_NMS: Tensor | None = None,
    part: int | None = None,
    apart_NGM: Tensor | None = None,
    tiles: Tiles | None = None,
) -> Tensor:
    """Write (left right^T + second left right^T + bias) * scale and return where.

    Args:
        into_NRMJ: Overwritten; contiguous along its last axis. Rows may lie in groups, (N, R, G, M, J).
        pair: Left and right.
        second: Another pair, with a K of its own; its right one is of the same kind.
        bias_NRJ: Of each column; contiguous along its last axis.
        scale_NMS: Factors, the same for all R; column j takes number j modulo S.
        apart_NGM: Where the column goes that is computed beyond those of `into_NRMJ`, for R = 1; contiguous
            along its last axis. What stands behind that one in the right operand is ignored.
        part: With operands of R = 1, the R results are sums over so many of K each, the last over the rest.
        tiles: How to cut; by the number of tiles if not given.
    """
    into = into_NRMJ if into_NRMJ.dim() == 5 else into_NRMJ.unsqueeze(2)
    lanes, results, groups, group, kept = into.shape
    rows, columns = groups * group, pair[1].shape[-2]
    assert columns == kept or apart_NGM is not None
    if tiles is None:
        count = lanes * results * -(-rows // LARGE.rows) * -(-columns // LARGE.columns)
        tiles = LARGE if count >= processors(into.device) and rows > SMALL.rows else SMALL
        tiles = SLIM if columns <= SLIM.columns else tiles
    depth = pair[0].shape[3]
    size, last = (depth, depth) if part is None else (part, depth - (results - 1) * part)
    depth2 = 0 if second is None else second[0].shape[3]
    lefts, rights = zip(pair, second or pair, strict=True)
    by_rows = [left.stride(3) == 1 for left in lefts]
    right_by_rows = pair[1].stride(-1) == 1
    assert right_by_rows or (pair[1].dim() == 4 and pair[1].stride(-2) == 1 and second is None)
    numbers, tensors = list[int](), list[Tensor]()
    farthest = groups * into.stride(2) + group * into.stride(3)
    assert into.stride(4) == 1
    for left, right, along in zip(lefts, rights, by_rows, strict=True):
        assert left.stride(3 if along else 2) == 1
        across = left.stride(2 if along else 3)
        n, r = right.stride()[-4:-2]
        j = right.stride(-2) if right_by_rows else right.stride(-1)
        numbers += [left.stride(0), left.stride(1) if part is None else part * left.stride(3), across]
        numbers += [n, r if part is None else part, j, right.stride(0) if right.dim() == 5 else 0]
        tensors += [left, right]
        farthest = max(farthest, rows * across if along else 0, columns * j if right_by_rows else 0)
    bias = pair[0] if bias_NRJ is None else bias_NRJ
    scale = pair[0] if scale_NMS is None else scale_NMS
    apart = into if apart_NGM is None else apart_NGM
    numbers += [0, 0] if bias_NRJ is None else [bias.stride(0), bias.stride(1)]
    numbers += [0, 0, 0] if scale_NMS is None else [scale.stride(0), scale.stride(1), scale.shape[2]]
    counts = [rows, columns, kept, size, last, depth2]
    unit = widest_load([*numbers, *counts], [*tensors, bias, scale])
    units = iter([number // unit for number in numbers])
    into_unit = widest_load(into.stride()[:4], [into])

    def some(count: int) -> list[int]:
        return [next(units) for _ in range(count)]

    arguments: list[object] = [into, *(stride // into_unit for stride in into.stride()[:4])]
    arguments += [apart, apart.stride(0), apart.stride(1)]
    for left, right in zip(lefts, rights, strict=True):
        arguments += [left, *some(3), right, *some(4)]
    arguments += [bias, *some(2), scale, *some(3)]
    arguments += [rows // unit, group, columns // unit, kept // unit, results]
    arguments += [size // unit, last // unit, depth2 // unit]
    grid = (-(-rows // tiles.rows) * -(-columns // tiles.columns) * lanes * results,)
    _product[grid](
        *arguments,
        UNIT=unit,
        LONG=farthest >= 2**31,
        LEFT_BY_ROWS=by_rows[0],
        LEFT2_BY_ROWS=by_rows[1],
        RIGHT_BY_ROWS=right_by_rows,
        HALVES=pair[1].dim() == 5,
        TWO=second is not None,
        BIAS=bias_NRJ is not None,
        SCALE=scale_NMS is not None,
        GROUPS=groups > 1,
        APART=apart_NGM is not None,
        INTO_UNIT=into_unit,
        ROWS=tiles.rows,
        COLUMNS=tiles.columns,
        DEPTH=min(tiles.depth, max(16, triton.next_power_of_2(max(depth, depth2)))),
        num_warps=tiles.warps,
        num_stages=tiles.stages,
        maxnreg=tiles.registers,
        **programs.OPTIONS,
    )
    return into_NRMJ


def sums_over(tall_NKM: Tensor, short_NKJ: Tensor, *, plain_too: bool = False) -> Tensor:
    """Return the products tall^T short, (N, M, J), summed in as many parts as keep the device busy.

    With `plain_too` the sums of `tall` alone stand in column J, with a few columns of 0 behind it.
    """
    (lanes, depth, rows), columns = tall_NKM.shape, short_NKJ.shape[2] + WIDEST * plain_too
    part = _part(tall_NKM, columns)
    into = tall_NKM.new_empty(lanes, -(-depth // part), rows, columns)
    multiply(into, _summed(tall_NKM, short_NKJ, plain_too=plain_too), part=part)
    return into.squeeze(1) if into.shape[1] == 1 else into.sum(1)


def place_sums(
    tall_NKM: Tensor,
    short_NKJ: Tensor,
    products_NGLJ: Tensor,
    sums_NGL: Tensor | None = None,
) -> bool:
    """Write what `sums_over` returns in its place, with M = G L; return whether it was possible.

    It is where the sum has one part.

    Args:
        tall_NKM: See `sums_over`.
        short_NKJ: See `sums_over`.
        products_NGLJ: Where the products go, float32; contiguous along J.
        sums_NGL: Where the sums of `tall` alone go, contiguous along L.
    """
    plain_too = sums_NGL is not None
    if _part(tall_NKM, short_NKJ.shape[2] + WIDEST * plain_too) < tall_NKM.shape[1]:
        return False
    pair = _summed(tall_NKM, short_NKJ, plain_too=plain_too)
    multiply(products_NGLJ.unsqueeze(1), pair, apart_NGM=sums_NGL)
    return True


def fills(lanes: int, rows: int, columns: int, device: torch.device) -> bool:
    """Whether products (lanes, rows, columns) have a tile for each multiprocessor."""
    return lanes * -(-rows // SMALL.rows) * -(-columns // SMALL.columns) >= processors(device)


def _part(tall_NKM: Tensor, columns: int) -> int:
    """Return how many terms are summed by one program."""
    lanes, depth, rows = tall_NKM.shape
    tiles = lanes * -(-rows // LARGE.rows) * -(-columns // LARGE.columns)
    parts = max(1, min(depth // LEAST_PART, 4 * processors(tall_NKM.device) // tiles))
    return -(-depth // (parts * WIDEST)) * WIDEST


def _summed(tall_NKM: Tensor, short_NKJ: Tensor, *, plain_too: bool) -> Pair:
    """Return the operands of `sums_over`."""
    lanes, columns = tall_NKM.shape[0], short_NKJ.shape[2]
    # One copy will do where all lanes share one matrix.
    right = halves((short_NKJ[:1] if short_NKJ.stride(0) == 0 else short_NKJ).mT, more=WIDEST * plain_too)
    if plain_too:
        right[:, :, columns:] = 0
        right[0, :, columns] = 1
    return tall_NKM.mT.unsqueeze(1), right.expand(2, lanes, *right.shape[2:]).unsqueeze(2)


def inner(left_NMK: Tensor, right_NWK: Tensor) -> Tensor:
    """Return the inner products of rows, (N, M, W) float64, of parts that are added in float64."""
    lanes, rows, depth = left_NMK.shape
    if right_NWK is left_NMK and rows <= MOST_ROWS:
        return _inner_of_all(left_NMK)
    into = left_NMK.new_empty(lanes, -(-depth // INNER_PART), rows, right_NWK.shape[1])
    multiply(into, (left_NMK.unsqueeze(1), right_NWK.unsqueeze(1)), part=INNER_PART, tiles=NARROW)
    return into.sum(1, dtype=torch.float64)


def _inner_of_all(rows_NMK: Tensor) -> Tensor:
    """Return the inner products of a lane's rows, (N, M, M) float64, reading each once."""
    lanes, count, size = rows_NMK.shape
    num_parts = -(-size // (GRAM_DEPTH * GRAM_BLOCKS))
    unit = widest_load(rows_NMK.stride()[:2], [rows_NMK])
    into = rows_NMK.new_empty(lanes, num_parts, count, count)
    _gram[lanes * num_parts,](
        into, rows_NMK, rows_NMK.stride(0) // unit, rows_NMK.stride(1) // unit, count, size, num_parts,
        UNIT=unit, MOST=max(16, triton.next_power_of_2(count)), DEPTH=GRAM_DEPTH, BLOCKS=GRAM_BLOCKS,
        num_warps=GRAM_WARPS, **programs.OPTIONS,
    )  # fmt: skip
    return into.sum(1, dtype=torch.float64)


def widest_load(numbers: Sequence[int], tensors: Sequence[Tensor]) -> int:
    """Return the elements of the widest load that all strides, counts and places allow."""
    unit = WIDEST
    while any(number % unit for number in numbers) or any(
        tensor.data_ptr() % (unit * tensor.element_size()) for tensor in tensors
    ):
        unit //= 2
    return unit


@cache
def processors(device: torch.device) -> int:
    """Return how many multiprocessors a GPU has."""
    return torch.cuda.get_device_properties(device).multi_processor_count
