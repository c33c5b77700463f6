"""The plan: what running a space would do, as plain data and without doing it.

    points of the space -> canonical form of each -> one entry per distinct cell -> trials

Points that ask for the same experiment share its cell. Pure: no data is loaded, no torch, Ray or MLflow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from search_spaces import Space
from search_spaces.expansion import describe
from search_spaces.reports import AxisValue
from sweep.forks import Sharing, plan_sharing, steps_to_train
from sweep.packs import make_packs
from trainers.canonical import cell_id
from trainers.cell import Cell
from trainers.errors import ConfigError


@dataclass(frozen=True)
class Plan:
    """Everything that a sweep has to make.

    Args:
        name: The space's name.
        grids: The grid of each point.
        axes: The axis values of each point.
        cell_ids: The cell of each point.
        cells: The distinct cells by address, in the order in which the points first ask for them.
        first_points: For each distinct cell, the first point that asks for it.
        steps_naive: Steps if every point were trained by itself.
    """

    name: str
    grids: Sequence[str]
    axes: Sequence[Mapping[str, AxisValue]]
    cell_ids: Sequence[str]
    cells: Mapping[str, Cell]
    first_points: Mapping[str, int]
    steps_naive: int

    def trials(self, lanes: int = 1) -> list[tuple[str, ...]]:
        """Return the packs of cells that are trained together, when all of them are to be trained."""
        return make_packs(self.cells, self.sharing, lanes=lanes)

    @cached_property
    def steps_unique(self) -> int:
        """Steps if every distinct cell is trained by itself."""
        return sum(cell.num_steps for cell in self.cells.values())

    @cached_property
    def sharing(self) -> Mapping[str, Sharing]:
        """What the cells take from each other, when all of them are to be trained."""
        return plan_sharing(self.cells)

    @cached_property
    def steps_planned(self) -> int:
        """Steps that running the plan takes: what several cells have in common is trained once."""
        return steps_to_train(self.cells, self.sharing)

    def axes_of(self, address: str) -> Mapping[str, AxisValue]:
        """Return the axis values of the first point that asks for a cell."""
        return self.axes[self.first_points[address]]

    def to_json(self, lanes: int = 1) -> dict[str, Any]:
        """Return the plan's numbers for packs of at most so many cells, and the addresses of its cells."""
        return {
            "name": self.name,
            "cells": len(self.cell_ids),
            "unique_cells": len(self.cells),
            "trials": len(self.trials(lanes)),
            "steps_naive": self.steps_naive,
            "steps_unique": self.steps_unique,
            "steps_planned": self.steps_planned,
            "cell_ids": list(self.cells),
        }


def make_plan(space: Space) -> Plan:
    """Plan a space.

    Raises:
        ConfigError: A grid point is no valid cell; the message names the point.
    """
    grids: list[str] = []
    axes: list[Mapping[str, AxisValue]] = []
    cell_ids: list[str] = []
    cells: dict[str, Cell] = {}
    first_points: dict[str, int] = {}
    steps = 0
    for index, point in enumerate(space.points()):
        try:
            address = cell_id(point.cell)
        except ConfigError as error:
            raise ConfigError(f"{describe(point.grid, point.axes)}: {error}") from error
        if address not in cells:
            cells[address] = point.cell
            first_points[address] = index
        # The kept address, so that points of one cell share one string.
        cell_ids.append(cell_ids[first_points[address]] if first_points[address] != index else address)
        grids.append(point.grid)
        axes.append(point.axes)
        steps += point.cell.num_steps
    return Plan(
        name=space.name,
        grids=grids,
        axes=axes,
        cell_ids=cell_ids,
        cells=cells,
        first_points=first_points,
        steps_naive=steps,
    )
