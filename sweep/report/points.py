"""Which grid points a report shows, and how they are grouped: the arithmetic of axes.

A group is the set of cells that share the values of the axes a report spells out; within it only the seed
may differ. An axis that a report forgot is found here, so that two experiments are never averaged into one.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from search_spaces.reports import AxisValue, ReportSpec
from sweep import names
from sweep.record import SEED_AXIS, Record
from sweep.report.labels import grid_label
from sweep.stated import forced_note, forced_switch, last_switch, switch_steps
from trainers.canonical import cell_id
from trainers.errors import ConfigError

GRID_AXIS = "grid"
"""Pseudo-axis: the name of the grid that a point belongs to."""

Key = tuple[AxisValue | None, ...]


def value_of(record: Record, point: int, axis: str) -> AxisValue | None:
    """Return the value of an axis at a point; `None` where the point's grid lacks it."""
    if axis == GRID_AXIS:
        return record.grids[point]
    values = record.axes.get(axis)
    return None if values is None else values[point]


def select(record: Record, spec: ReportSpec) -> tuple[int, ...]:
    """Return the grid points that a report shows, in the order of the record."""
    return tuple(
        point
        for point in range(len(record.cell_ids))
        if (spec.grids is None or record.grids[point] in spec.grids)
        and all(value_of(record, point, axis) in allowed for axis, allowed in spec.where.items())
    )


def in_order(values: Iterable[AxisValue | None]) -> tuple[AxisValue, ...]:
    """Return the distinct values: numbers ascending, infinity last; text as first met; `None` left out."""
    distinct = [value for value in dict.fromkeys(values) if value is not None]
    numbers = sorted(value for value in distinct if not isinstance(value, str))
    return (*numbers, *(value for value in distinct if isinstance(value, str)))


def axis_values(record: Record, points: Iterable[int], axis: str) -> tuple[AxisValue, ...]:
    """Return the values of an axis among the points, ordered for display."""
    return in_order(value_of(record, point, axis) for point in points)


def seeds(record: Record, points: Iterable[int]) -> tuple[AxisValue, ...]:
    """Return the seeds among the points: the axis, or else the cells' own."""
    points = tuple(points)
    if found := axis_values(record, points, SEED_AXIS):
        return found
    recorded = (record.outcome(point).params.get(SEED_AXIS) for point in points)
    return in_order(int(seed) for seed in recorded if seed is not None)


def group(record: Record, points: Iterable[int], axes: Sequence[str]) -> dict[Key, tuple[str, ...]]:
    """Group points by axes.

    Returns:
        The values of `axes` to the distinct cells there, by seed; in the order of first appearance.
    """
    found: dict[Key, dict[str, AxisValue | None]] = {}
    for point in points:
        key = tuple(value_of(record, point, axis) for axis in axes)
        found.setdefault(key, {}).setdefault(record.cell_ids[point], value_of(record, point, SEED_AXIS))
    return {
        key: tuple(sorted(cells, key=lambda cell: (_rank(cells[cell]), cell))) for key, cells in found.items()
    }


def switch_points(
    record: Record, points: Iterable[int], axes: Sequence[str]
) -> dict[Key, dict[str, tuple[int, ...]]]:
    """Return the steps at which a phase ends and another begins, of each cell of the same groups as `group`.

    Where the phase before the last ends on a condition, it is where the cell's own run has ended it.
    """
    found: dict[Key, dict[str, set[int]]] = {}
    for point in points:
        key = tuple(value_of(record, point, axis) for axis in axes)
        cell = record.cell(point)
        steps = found.setdefault(key, {}).setdefault(record.cell_ids[point], set())
        steps.update(() if cell is None else switch_steps(cell), _by_condition(record, point))
    return {
        key: {cell: tuple(sorted(steps)) for cell, steps in cells.items()} for key, cells in found.items()
    }


def switch_note(record: Record, points: Iterable[int]) -> str:
    """Say for a caption whose switch points are shown, where a condition decides on them."""
    found = [point for point in points if _by_condition(record, point)]
    if not found:
        return ""
    of_cells = {record.cell_ids[point]: point for point in found}.values()
    forced = [step for point in of_cells if (step := _forced(record, point)) is not None]
    if len(forced) == len(of_cells):
        return forced_note(forced, len(of_cells))
    several = len(seeds(record, found)) > 1
    said = "each seed has its own switch point, by a condition" if several else "switched by a condition"
    return "; ".join(filter(None, (said, forced_note(forced, len(of_cells)))))


def _forced(record: Record, point: int) -> int | None:
    cell = record.cell(point)
    resolved = record.outcome(point).metrics.get(names.FINAL_SWITCH_STEP)
    return None if cell is None else forced_switch(cell, resolved)


def _by_condition(record: Record, point: int) -> tuple[int, ...]:
    """Return where the run of a point began its last phase, if the phase before ends on a condition."""
    cell = record.cell(point)
    if cell is None or (resolved := record.outcome(point).metrics.get(names.FINAL_SWITCH_STEP)) is None:
        return ()
    step = last_switch(cell, resolved)
    return () if step is None or step in switch_steps(cell) else (step,)


def grid_names(record: Record, points: Iterable[int], axes: Sequence[str]) -> dict[Key, str]:
    """Return the grids that the points of each group come from, as text.

    What a grid's name repeats of another one's beside it is left out: "first-200-sgd" beside "first-200" is
    "SGD".
    """
    points = tuple(points)
    shown = {record.grids[point] for point in points}
    own = {
        name: next(
            (
                name.removeprefix(f"{other}-")
                for other in sorted(shown, key=len)
                if name.startswith(f"{other}-")
            ),
            name,
        )
        for name in shown
    }
    found: dict[Key, dict[str, None]] = {}
    for point in points:
        key = tuple(value_of(record, point, axis) for axis in axes)
        found.setdefault(key, {})[grid_label(own[record.grids[point]])] = None
    return {key: ", ".join(grids) for key, grids in found.items()}


def fits(key: Key, panel: Key) -> bool:
    """Whether a group belongs to a panel: equal in every axis that the group has."""
    return all(mine is None or mine == other for mine, other in zip(key, panel, strict=True))


def panel_keys(keys: Sequence[Key]) -> tuple[Key, ...]:
    """Return the panels in display order; a group that lacks an axis makes none if it fits another."""
    order = [in_order(column) for column in zip(*keys, strict=True)]
    complete = [key for key in keys if all(v is not None or not o for v, o in zip(key, order, strict=True))]
    alone = [key for key in keys if not any(fits(key, panel) for panel in complete)]
    return tuple(ordered_keys([*complete, *alone])) or ((),)


def ordered_keys(keys: Iterable[Key]) -> list[Key]:
    """Return the distinct keys, axis by axis in display order; keys that lack an axis first."""
    distinct = list(dict.fromkeys(keys))
    order = [
        {value: rank for rank, value in enumerate(in_order(column))} for column in zip(*distinct, strict=True)
    ]
    return sorted(
        distinct,
        key=lambda key: [
            ranks.get(v, -1) if v is not None else -1 for v, ranks in zip(key, order, strict=True)
        ],
    )


def _rank(value: AxisValue | None) -> tuple[float, str]:
    if value is None:
        return (-math.inf, "")
    return (math.inf, value) if isinstance(value, str) else (value, "")


def unshown_axes(record: Record, points: Sequence[int], shown: Sequence[str]) -> tuple[str, ...]:
    """Return the further axes that must be spelled out so that only the seed differs within a group."""
    added: list[str] = []
    while True:
        used = [axis for axis in (*shown, *added) if axis]
        groups: dict[Key, list[int]] = {}
        for point in points:
            groups.setdefault(tuple(value_of(record, point, axis) for axis in used), []).append(point)
        mixed = [members for members in groups.values() if is_mixed(record, members)]
        candidates = (axis for axis in (*record.axes, GRID_AXIS) if axis not in (*used, SEED_AXIS))
        divides = (
            axis for axis in candidates if any(_tells_apart(record, members, axis) for members in mixed)
        )
        if (axis := next(divides, None)) is None:
            return tuple(added)
        added.append(axis)


def _tells_apart(record: Record, points: Sequence[int], axis: str) -> bool:
    """Whether points differ in an axis that they have: what a grid lacks, its name tells as well."""
    return len({value for point in points if (value := value_of(record, point, axis)) is not None}) > 1


def is_mixed(record: Record, points: Sequence[int]) -> bool:
    """Whether points are of several experiments, and not of one with several seeds."""
    by_seed: dict[AxisValue | None, set[str]] = {}
    settings: dict[Key, list[int]] = {}
    axes = [axis for axis in (GRID_AXIS, *record.axes) if axis != SEED_AXIS]
    for point in points:
        by_seed.setdefault(value_of(record, point, SEED_AXIS), set()).add(record.cell_ids[point])
        settings.setdefault(tuple(value_of(record, point, axis) for axis in axes), []).append(point)
    if any(len(cells) > 1 for cells in by_seed.values()):
        return True
    # Most axes that a report leaves out make no difference there, so few cells have to be looked at.
    return len(settings) > 1 and len({_but_for_seeds(record, some) for some in settings.values()}) > 1


def _but_for_seeds(record: Record, points: Sequence[int]) -> object:
    """Return what tells the experiment of some seeds from others: its address with seed 0."""
    if (cell := record.cell(points[0])) is None:
        return frozenset(record.cell_ids[point] for point in points)
    cell = replace(cell, seed=0)
    try:
        return cell_id(cell)
    except ConfigError:
        # The data set is a file that this reader lacks.
        return cell
