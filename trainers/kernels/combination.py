"""Combinations of each lane's rows in the place of the first of them: one pass over all of them.

Shape legend: N lanes, M rows, W combinations, C entries of a row.
"""

from typing import Any

import triton
from torch import Tensor

from trainers.kernels import programs
from trainers.kernels.products import widest_load

_combination: Any = programs.combination

BLOCK, DEPTH = 256, 16
"""Columns of a program, and rows that it loads at a time."""

MOST_RESULTS = 128
"""More would have too few columns a program; the library does them."""


def combine(rows_NMC: Tensor, factors_NWM: Tensor, *, unless: Tensor | None = None) -> Tensor:
    """Put the products of factors and rows in the place of the first W rows; return those.

    Args:
        rows_NMC: Overwritten up to row W; contiguous along its last axis. Where rows are further apart than
            they are long, what lies between them may be overwritten.
        factors_NWM: Contiguous.
        unless: Where this, (1,) int32, is not 0, nothing is done.
    """
    lanes, count, size = rows_NMC.shape
    results = factors_NWM.shape[1]
    into = rows_NMC[:, :results]
    if results > MOST_RESULTS:
        assert unless is None
        return into.copy_(factors_NWM @ rows_NMC)
    most = max(16, triton.next_power_of_2(results))
    block = min(BLOCK, BLOCK * 64 // most)
    unit = widest_load(rows_NMC.stride()[:2], [rows_NMC])
    _combination[-(-size // block) * lanes,](
        rows_NMC, rows_NMC.stride(0) // unit, rows_NMC.stride(1) // unit, factors_NWM, count, results, size,
        rows_NMC if unless is None else unless, UNLESS=unless is not None, UNIT=unit, MOST=most, DEPTH=DEPTH,
        BLOCK=block, **programs.OPTIONS,
    )  # fmt: skip
    return into
