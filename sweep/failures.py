"""Cells that failed, in lines that stay short however many they are."""

import re
from collections.abc import Mapping, Sequence

from sweep.ledger import CellRun
from sweep.names import Status

CELLS_SHOWN = 3

_LOST_WORKER = re.compile(r"The actor (died unexpectedly|experienced an error|\S+ is unavailable)")
"""What Ray says of a worker that is gone without having raised anything."""


def shown(cells: Sequence[str]) -> str:
    """Return the first few of some cells, separated by commas."""
    return ", ".join(cells[:CELLS_SHOWN]) + (", …" if len(cells) > CELLS_SHOWN else "")


def failure_lines(reasons: Mapping[str, str]) -> list[str]:
    """Return why cells failed, a reason that several share said once.

    Args:
        reasons: By cell.
    """
    cells_of: dict[str, list[str]] = {}
    for cell, reason in reasons.items():
        cells_of.setdefault(reason, []).append(cell)
    lines: list[str] = []
    for reason, cells in cells_of.items():
        who = f"cell {cells[0]}" if len(cells) == 1 else f"{len(cells)} cells ({shown(cells)})"
        lines.append(f"  {who} failed: {reason}")
    return lines


def failed_since(before: Mapping[str, CellRun], runs: Mapping[str, CellRun]) -> set[str]:
    """Return the cells that have failed since, those among them that a guide has added."""
    return {cell for cell, run in runs.items() if run.status is Status.FAILED and run is not before.get(cell)}


def has_lost_worker(log: str) -> bool:
    """Whether the last failure in Tune's log of a trial is that its worker is gone, which tells no reason."""
    return _LOST_WORKER.search(log.rpartition("Failure # ")[2]) is not None
