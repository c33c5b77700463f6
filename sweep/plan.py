"""The plan: what running a space would do, as plain data and without doing it.

    points of the space -> canonical form of each -> one entry per distinct cell -> trials

Points that ask for the same experiment share its cell. Pure: no data is loaded, no torch, Ray or MLflow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from search_spaces import GridPoint, Space
from search_spaces.expansion import describe
from search_spaces.reports import AxisValue
from sweep.forks import Sharing, plan_sharing, steps_to_train
from sweep.packs import make_packs
from trainers.canonical import cell_id
from trainers.cell import Cell
from trainers.errors import ConfigError


@dataclass
class Plan:
    """Everything that a sweep has to make; it only ever grows.

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
    grids: list[str] = field(default_factory=list[str])
    axes: list[Mapping[str, AxisValue]] = field(default_factory=list[Mapping[str, AxisValue]])
    cell_ids: list[str] = field(default_factory=list[str])
    cells: dict[str, Cell] = field(default_factory=dict[str, Cell])
    first_points: dict[str, int] = field(default_factory=dict[str, int])
    steps_naive: int = 0

    def add(self, point: GridPoint) -> str:
        """Add a grid point; returns the address of its cell.

        Raises:
            ConfigError: It is no valid cell; the message names the point.
        """
        try:
            address = cell_id(point.cell)
        except ConfigError as error:
            raise ConfigError(f"{describe(point.grid, point.axes)}: {error}") from error
        if address in self.cells:
            # The kept address, so that points of one cell share one string.
            address = self.cell_ids[self.first_points[address]]
        else:
            self.cells[address] = point.cell
            self.first_points[address] = len(self.cell_ids)
        self.grids.append(point.grid)
        self.axes.append(point.axes)
        self.cell_ids.append(address)
        self.steps_naive += point.cell.num_steps
        # Of the plan as it was.
        for derived in ("steps_unique", "sharing", "steps_planned"):
            self.__dict__.pop(derived, None)
        return address

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
            "lanes": lanes,
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
    plan = Plan(space.name)
    for point in space.points():
        plan.add(point)
    return plan
