"""From a grid to its points: which parts of the cell the axes touch, and a cell for each combination.

A cell is put together from parts (its fields, and each phase and probe by itself). Parts that no axis touches
are built once; a part that some axes touch is built once per combination of those axes, so that the points
of a large grid share almost everything.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from search_spaces.axes import require_distinct
from search_spaces.cell_parts import LISTS, Slot, built
from search_spaces.cell_schema import BaseSpec
from search_spaces.grid_rules import require_rules
from search_spaces.plain_paths import Place, allowed_indices, assign, require_effect, within
from search_spaces.reports import AxisValue
from search_spaces.schema import GridSpec, SpaceSpec
from search_spaces.strict import config_error, plain_data
from trainers.canonical import canonical_form
from trainers.cell import Cell
from trainers.errors import ConfigError

MAX_POINTS = 10_000_000
MAX_REMEMBERED = 65_536
"""Combinations of one part that are kept for the points to come."""

Assignment = tuple[Slot, str | None, Any]
"""A part, the name within it (`None`: the whole part), and the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPoint:
    """One combination of a grid's axes, and the cell that it asks for.

    Args:
        grid: Name of the grid.
        axes: Axis name to value, in the grid's order.
        cell: The cell.
    """

    grid: str
    axes: dict[str, AxisValue]
    cell: Cell


@dataclass(slots=True)
class _Part:
    """A part that axes touch: its plain values, the axes, and what has been built of it."""

    slot: Slot
    values: Any
    axes: tuple[int, ...]
    built: dict[tuple[int, ...], Any] = field(default_factory=dict[tuple[int, ...], Any])


class Expansion:
    """The points of one grid.

    Args:
        base: The space's base cell.
        grid: The grid.

    Raises:
        ConfigError: `set` or an axis does not fit the base cell, or the grid has no point.
    """

    def __init__(self, base: BaseSpec, grid: GridSpec) -> None:
        self.name = grid.name
        self._at = f"grids.{grid.name}"
        self._set: dict[str, list[Place]] = {}
        values = plain_data(self._base_of(base, grid))
        self._values = values
        self._choices = {name: axis.choices for name, axis in grid.axes.items() if axis.choices}
        self.axis_names = tuple(grid.axes)
        self._labels = [axis.labels for axis in grid.axes.values()]
        self._steps: list[list[list[Assignment]]] = [
            [
                [
                    assignment
                    for path, value in pairs
                    for assignment in self._resolve(name, path, value, values)
                ]
                for pairs in axis.assignments()
            ]
            for name, axis in grid.axes.items()
        ]
        self._require_independent_axes()
        self._excluded = [
            {self.axis_names.index(axis): frozenset(found) for axis, found in rule.items()}
            for rule in grid.exclude
        ]
        self._parts = self._touched(values)
        touched = {part.slot for part in self._parts}
        self._fixed = {name: built((name, None), item) for name, item in values.items() if name not in LISTS}
        for name in LISTS:
            self._fixed[name] = tuple(
                None if (name, index) in touched else built((name, index), item)
                for index, item in enumerate(values[name])
            )

    @property
    def num_combinations(self) -> int:
        """Number of combinations of the axes, excluded ones among them."""
        product = 1
        for labels in self._labels:
            product *= len(labels)
        return product

    def points(self) -> Iterator[GridPoint]:
        """Yield the points, the last axis running fastest.

        Raises:
            ConfigError: A combination is no valid cell.
        """
        for indices in itertools.product(*(range(len(labels)) for labels in self._labels)):
            if not self._is_excluded(indices):
                yield self._point(indices)

    def at(self, axes: Mapping[str, AxisValue]) -> GridPoint | None:
        """Return the point with these values or labels, excluded or not; `None` where an axis lacks one.

        Text stands for the label that reads the same, too: tables have stored numbers so beside text.

        Raises:
            ConfigError: It is no valid cell.
        """
        indices: list[int] = []
        for name, labels in zip(self.axis_names, self._labels, strict=True):
            value = axes.get(name)
            fitting = [index for index, label in enumerate(labels) if label == value]
            if isinstance(value, str) and not fitting:
                fitting = [index for index, label in enumerate(labels) if str(label) == value]
            if len(fitting) != 1:
                return None
            indices += fitting
        return self._point(tuple(indices))

    def check(self) -> None:
        """Make sure that every axis value makes a valid cell with the first and last values of the others.

        Two corners, since at one of them the rates may be equal, where much of a cell does not matter. The
        plan finds what is left.

        Raises:
            ConfigError: One does not, or every point is excluded.
        """
        corners = (self._corner(last=False), self._corner(last=True))
        for corner in corners:
            self._check_point(corner)
            for axis, labels in enumerate(self._labels):
                for index in range(len(labels)):
                    indices = (*corner[:axis], index, *corner[axis + 1 :])
                    if index != corner[axis] and not self._is_excluded(indices):
                        self._check_point(indices)

    def require_effects(self) -> None:
        """Refuse a path of `set`, or of a label, of which a later one there sets everything again.

        Apart from `check`: a sweep that was begun with one goes on.

        Raises:
            ConfigError: There is one.
        """
        require_effect(self._set, f"{self._at}.set")
        for axis, choices in self._choices.items():
            for label, paths in choices.items():
                places = {path: self._places(axis, path) for path in paths}
                require_effect(places, f"{self._at}.axes.{axis}.choices.{label}")

    def _places(self, axis: str, path: str) -> list[Place]:
        return [_place(slot, name) for slot, name, _ in self._resolve(axis, path, None, self._values)]

    def setters(self, places: Iterable[Place]) -> tuple[dict[str, str], bool]:
        """Return what sets places of the base cell again, and whether no point has the base cell's values.

        Args:
            places: Of the base cell.

        Returns:
            Each setter in words, with its path below the grid; and whether they set all places at all points.
        """
        found: dict[str, str] = {}
        again = True
        for place in places:
            whole = {
                f"set.{path}": f"set.{path}" for path, wholes in self._set.items() if within(place, wholes)
            }
            part: dict[str, str] = {}
            for axis, labels, steps in zip(self.axis_names, self._labels, self._steps, strict=True):
                sets = [within(place, [_place(slot, name) for slot, name, _ in step]) for step in steps]
                path = f"axes.{axis}.choices.LABEL" if axis in self._choices else f"axes.{axis}"
                if all(sets):
                    whole[f"axis {axis!r}"] = path
                elif any(sets):
                    at = ", ".join(str(label) for label, there in zip(labels, sets, strict=True) if there)
                    part[f"axis {axis!r} at {at}"] = path
            again = again and bool(whole)
            found |= whole or part
        return found, again

    def variants(self, *heads: str) -> Iterator[tuple[Any, ...]]:
        """Yield what these fields of a cell are, once for each combination of the axes that touch them.

        Args:
            heads: Names of fields.
        """
        parts = [part for part in self._parts if part.slot[0] in heads]
        touching = {axis for part in parts for axis in part.axes}
        rules = [rule for rule in self._excluded if touching.issuperset(rule)]
        ranges = (range(len(labels) if axis in touching else 1) for axis, labels in enumerate(self._labels))
        for indices in itertools.product(*ranges):
            if any(self._holds(rule, indices) for rule in rules):
                continue
            fields = self._fields(parts, indices)
            yield tuple(fields[head] for head in heads)

    def _corner(self, *, last: bool) -> tuple[int, ...]:
        ranges = (range(len(labels))[::-1] if last else range(len(labels)) for labels in self._labels)
        for indices in itertools.product(*ranges):
            if not self._is_excluded(indices):
                return indices
        raise ConfigError(f"{self._at}: `exclude` leaves no point; a grid needs at least one.")

    def _check_point(self, indices: tuple[int, ...]) -> None:
        point = self._point(indices)
        try:
            canonical_form(point.cell)
        except ConfigError as error:
            raise ConfigError(f"{describe(self.name, point.axes)}: {error}") from error

    def _base_of(self, base: BaseSpec, grid: GridSpec) -> BaseSpec:
        if not grid.set:
            return base
        values = plain_data(base)
        for path, value in grid.set.items():
            self._set[path] = assign(values, path.split("."), value, f"{self._at}.set.{path}")
        try:
            return BaseSpec.model_validate(values)
        except ValidationError as error:
            raise config_error(error, f"{self._at}.set") from error

    def _resolve(self, axis: str, path: str, value: Any, values: Mapping[str, Any]) -> Iterator[Assignment]:
        head, *rest = path.split(".")
        if head not in LISTS:
            yield (head, None), (rest[0] if rest else None), value
            return
        length = len(values[head])
        for index in range(length) if rest[0] == "*" else [int(rest[0])]:
            if not -length <= index < length:
                raise ConfigError(
                    f"{self._at}.axes.{axis}: found path {path!r}; the cell has {length} {head}, "
                    f"allowed: {allowed_indices(length)}."
                )
            yield (head, index % length), rest[1], value

    def _require_independent_axes(self) -> None:
        """Refuse two axes that set the same thing: one of them would be without effect."""
        seen: dict[tuple[Slot, str | None], int] = {}
        for axis, steps in enumerate(self._steps):
            for slot, name in {(slot, name) for step in steps for slot, name, _ in step}:
                other = seen.setdefault((slot, name), axis)
                if name is None:
                    other = next((o for (s, _), o in seen.items() if s == slot and o != axis), other)
                if other != axis:
                    what = ".".join(str(part) for part in (*slot, name) if part is not None)
                    raise ConfigError(
                        f"{self._at}.axes.{self.axis_names[axis]}: sets {what}, which the axis "
                        f"{self.axis_names[other]!r} sets too; of two axes one would have no effect."
                    )

    def _touched(self, values: Mapping[str, Any]) -> list[_Part]:
        axes_of: dict[Slot, list[int]] = {}
        for axis, steps in enumerate(self._steps):
            for slot in dict.fromkeys(slot for step in steps for slot, _, _ in step):
                axes_of.setdefault(slot, []).append(axis)
        return [
            _Part(slot, values[slot[0]] if slot[1] is None else values[slot[0]][slot[1]], tuple(axes))
            for slot, axes in axes_of.items()
        ]

    def _is_excluded(self, indices: tuple[int, ...]) -> bool:
        return any(self._holds(rule, indices) for rule in self._excluded)

    def _holds(self, rule: Mapping[int, frozenset[AxisValue]], indices: tuple[int, ...]) -> bool:
        return all(self._labels[axis][indices[axis]] in values for axis, values in rule.items())

    def _point(self, indices: tuple[int, ...]) -> GridPoint:
        axes = {
            name: labels[index]
            for name, labels, index in zip(self.axis_names, self._labels, indices, strict=True)
        }
        try:
            cell = Cell(**self._fields(self._parts, indices))
        except ConfigError as error:
            raise ConfigError(f"{describe(self.name, axes)}: {error}") from error
        return GridPoint(grid=self.name, axes=axes, cell=cell)

    def _fields(self, parts: Iterable[_Part], indices: tuple[int, ...]) -> dict[str, Any]:
        fields = dict(self._fixed)
        for part in parts:
            head, index = part.slot
            piece = self._piece(part, indices)
            if index is None:
                fields[head] = piece
            else:
                items = fields[head]
                fields[head] = (*items[:index], piece, *items[index + 1 :])
        return fields

    def _piece(self, part: _Part, indices: tuple[int, ...]) -> Any:
        key = tuple(indices[axis] for axis in part.axes)
        if key in part.built:
            return part.built[key]
        values = part.values
        for axis, index in zip(part.axes, key, strict=True):
            for slot, name, value in self._steps[axis][index]:
                if slot == part.slot:
                    values = value if name is None else {**values, name: value}
        if len(part.built) >= MAX_REMEMBERED:
            part.built.clear()
        piece = part.built[key] = built(part.slot, values)
        return piece


def expansions(spec: SpaceSpec) -> tuple[Expansion, ...]:
    """Return the grids of a space, checked.

    Raises:
        ConfigError: A grid does not fit, has an invalid value, no point, or together they have too many.
    """
    for grid in spec.grids:
        require_rules(grid)
        for name, axis in grid.axes.items():
            require_distinct(axis, f"grids.{grid.name}.axes.{name}")
    found = tuple(Expansion(spec.base, grid) for grid in spec.grids)
    total = sum(expansion.num_combinations for expansion in found)
    if total > MAX_POINTS:
        raise ConfigError(
            f"grids: found {total:,} combinations of axis values; allowed: at most {MAX_POINTS:,}."
        )
    for expansion in found:
        expansion.check()
    return found


def describe(grid: str, axes: Mapping[str, AxisValue]) -> str:
    """Name a grid point: "grids.main at lr=0.1, k=10"."""
    values = ", ".join(f"{name}={value}" for name, value in axes.items())
    return f"grids.{grid} at {values}" if values else f"grids.{grid}"


def _place(slot: Slot, name: str | None) -> Place:
    return tuple(part for part in (*slot, name) if part is not None)
