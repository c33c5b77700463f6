"""Packs: which cells are trained together, as the lanes of one trial."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.forks import Sharing
from trainers.cell import Cell
from trainers.cell_json import cell_to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPlan:
    """One trial to be.

    Args:
        cells: The cells that it trains, by id.
        leaves: For each cell, the steps at which it leaves its state for others.
    """

    cells: Mapping[str, Cell]
    leaves: tuple[tuple[int, ...], ...]

    def to_config(self) -> dict[str, Any]:
        """Return the trial's own part of its configuration: JSON values."""
        return {
            "cells": [cell_to_json(cell) for cell in self.cells.values()],
            "leaves": [list(steps) for steps in self.leaves],
        }


def pack_of(cell_ids: Sequence[str], cells: Mapping[str, Cell], sharing: Mapping[str, Sharing]) -> PackPlan:
    """Put cells into one pack."""
    return PackPlan(
        cells={cell_id: cells[cell_id] for cell_id in cell_ids},
        leaves=tuple(tuple(fork.step for fork in sharing[cell_id].leaves) for cell_id in cell_ids),
    )
