"""Packs: which cells are trained together, as the lanes of one trial.

Lanes go in lockstep, so the cells of a pack have one shape and begin at one step: that of the furthest state
that is stored for a cell (`sweep.starting_points`), or of the one that it waits for. On a GPU the last bits
of a lane depend on how many are beside it, so what was one pack is one again when it goes on: its cells begin
at their own commits and wait for nothing. Of the others, whoever leaves a state begins at an earlier step
than those that wait for it. So no pack waits for itself, and waiting never goes in circles.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweep.forks import Fork, Sharing
from trainers.cell import Cell
from trainers.cell_json import cell_to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPlan:
    """One trial to be.

    Args:
        cells: The cells that it trains, by id.
        leaves: For each cell, the steps at which it leaves its state for others.
        pauses: Steps at which it commits at once, because cells are compared there.
    """

    cells: Mapping[str, Cell]
    leaves: tuple[tuple[int, ...], ...]
    pauses: tuple[int, ...] = ()

    def to_config(self) -> dict[str, Any]:
        """Return the trial's own part of its configuration: JSON values."""
        return {
            "cells": [cell_to_json(cell) for cell in self.cells.values()],
            "ids": list(self.cells),
            "leaves": [list(steps) for steps in self.leaves],
            "pauses": list(self.pauses),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Formed:
    """The pack that made a cell's newest commit.

    Args:
        name: Its name, see `pack_name`.
        lanes: How many cells it had.
    """

    name: str
    lanes: int


def pack_name(cell_ids: Sequence[str]) -> str:
    """Return a name for the pack of these cells, whatever their order."""
    return hashlib.sha256(" ".join(sorted(cell_ids)).encode()).hexdigest()[:12]


def pack_of(cell_ids: Sequence[str], cells: Mapping[str, Cell], sharing: Mapping[str, Sharing]) -> PackPlan:
    """Put cells into one pack."""
    return PackPlan(
        cells={cell_id: cells[cell_id] for cell_id in cell_ids},
        leaves=tuple(tuple(fork.step for fork in sharing[cell_id].leaves) for cell_id in cell_ids),
    )


def still_waiting(
    sharing: Mapping[str, Sharing], begins: Mapping[str, int], formed: Mapping[str, Formed] | None = None
) -> dict[str, Sharing]:
    """Drop the starts that need no waiting for, in view of what has been trained before.

    Args:
        sharing: What the cells take from each other.
        begins: The step of the furthest state that is stored for each cell, where there is one.
        formed: The packs that are made again; their cells go on from their own commits, and may be beside
            the very one that would leave a state for them.
    """
    leaders: dict[Fork, int] = {}
    for cell_id, shared in sharing.items():
        for fork in shared.leaves:
            leaders[fork] = begins.get(cell_id, 0)

    def waits(cell_id: str, start: Fork) -> bool:
        goes_on = cell_id in (formed or ())
        return not goes_on and begins.get(cell_id, 0) < start.step and leaders[start] < start.step

    return {
        cell_id: shared
        if shared.start is None or waits(cell_id, shared.start)
        else replace(shared, start=None)
        for cell_id, shared in sharing.items()
    }


def make_packs(
    cells: Mapping[str, Cell],
    sharing: Mapping[str, Sharing],
    *,
    lanes: int,
    begins: Mapping[str, int] | None = None,
    formed: Mapping[str, Formed] | None = None,
) -> list[tuple[str, ...]]:
    """Group cells into packs of at most `lanes`, in the order in which their first cells come.

    Args:
        cells: What is to be trained, by id.
        sharing: What those cells take from others that wait, see `still_waiting`.
        lanes: Most cells of a pack; of those that were in one before, as many as it had.
        begins: The step of the furthest state that is stored for each cell, where there is one.
        formed: The pack that made a cell's newest commit, where cells are to stay with those of theirs.
    """
    groups: dict[tuple[object, ...], list[list[str]]] = {}
    packs: list[list[str]] = []
    for cell_id, cell in cells.items():
        start = sharing[cell_id].start if cell_id in sharing else None
        step = max((begins or {}).get(cell_id, 0), start.step if start is not None else 0)
        pack = (formed or {}).get(cell_id)
        # Lanes commit one after another, so a kill may leave those of one pack at several steps: it goes back
        # to the last that all have.
        key = (*cell.shape, step if pack is None else pack)
        group = groups.setdefault(key, [])
        if not group or len(group[-1]) == (lanes if pack is None else pack.lanes):
            group.append([])
            packs.append(group[-1])
        group[-1].append(cell_id)
    return [tuple(pack) for pack in packs]
