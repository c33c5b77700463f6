"""What a sweep itself says of its grid points: their cells, from its stored space, whoever ran them.

A run belongs to a cell, and the cell to every sweep that asks for it. The run's params are the literals of
the sweep that made it: it may have divided another rate by another divisor, or have stated two equal phases
as one. So settings and switch points of a grid point are read here, never from its run.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError

from search_spaces import Space
from search_spaces.axes import AxisSpec
from search_spaces.expansion import Expansion
from search_spaces.reports import AxisValue
from search_spaces.schema import GridSpec
from search_spaces.search import SEED, RangeSpec, sampled_grid
from trainers.canonical import dataset_entry
from trainers.cell import Cell, Condition, Phase
from trainers.errors import ConfigError
from trainers.options import Choice


class StatedCells:
    """The cells of a stored space by grid and axes.

    Args:
        space: As `search_spaces.read_stored_space` gives it.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._grids: dict[str, Expansion | None] = {}
        self._labels: dict[tuple[str, str], Mapping[str, AxisValue]] = {}

    def cell(self, grid: str, axes: Mapping[str, AxisValue]) -> Cell | None:
        """Return the cell of a grid point as the space states it.

        Args:
            grid: The grid's name.
            axes: Its axes with their values or labels, as `cells.parquet` has them.

        Returns:
            `None` where the space has no such point, which may be one of an earlier version.
        """
        try:
            grids = self._asked(axes) if self._space.is_search else self._grid(grid)
            point = None if grids is None else grids.at(axes)
        except (ConfigError, ValidationError):
            return None
        return None if point is None else point.cell

    def label(self, grid: str, axis: str, value: AxisValue | None) -> AxisValue | None:
        """Return an axis value of `cells.parquet` as the space has it.

        A column has one type, so numbers beside text, of this grid or another one, are stored as text.
        """
        if not isinstance(value, str):
            return value
        if (grid, axis) not in self._labels:
            given = self._space.search.axes if self._space.is_search else self._axes(grid)
            spec = given.get(axis)
            labels = spec.labels if isinstance(spec, AxisSpec) else ()
            texts = [str(label) for label in labels]
            # Labels that read the same are refused now; of earlier ones nothing tells which is meant.
            self._labels[grid, axis] = {
                text: label for text, label in zip(texts, labels, strict=True) if texts.count(text) == 1
            }
        return self._labels[grid, axis].get(value, value)

    def _axes(self, grid: str) -> Mapping[str, AxisSpec]:
        return next((spec.axes for spec in self._space.spec.grids if spec.name == grid), {})

    def paths(self, axis: str) -> tuple[str, ...]:
        """Return the paths of the cell that an axis sets; none where it is unknown or has labels."""
        spec = self._space.spec
        given: list[Any] = [grid.axes[axis] for grid in spec.grids if axis in grid.axes]
        if self._space.is_search:
            given = [found] if (found := self._space.search.axes.get(axis)) is not None else []
        if any(isinstance(one, AxisSpec) and one.choices is not None for one in given):
            return ()
        return tuple(dict.fromkeys(path for one in given for path in one.path))

    def _grid(self, name: str) -> Expansion | None:
        if name not in self._grids:
            spec = next((grid for grid in self._space.spec.grids if grid.name == name), None)
            self._grids[name] = None if spec is None else Expansion(self._space.spec.base, spec)
        return self._grids[name]

    def _asked(self, axes: Mapping[str, AxisValue]) -> Expansion | None:
        search = self._space.search
        values = {name: _asked_value(axis, axes.get(name)) for name, axis in search.axes.items()}
        if None in values.values() or (search.seeds and SEED not in axes):
            return None
        seeds = [int(axes[SEED])] if search.seeds else []
        grid = sampled_grid(search, cast("Mapping[str, AxisValue]", values), seeds)
        return Expansion(self._space.spec.base, GridSpec.model_validate(grid))


def _asked_value(axis: RangeSpec | AxisSpec, value: AxisValue | None) -> AxisValue | None:
    """Return a value as a search's axis has it: a table may hold a whole number as a real one."""
    if isinstance(axis, AxisSpec):
        return next((label for label in axis.labels if value in (label, str(label))), None)
    if value is None or isinstance(value, str) or not axis.holds(value):
        return None
    return int(value) if axis.integer else value


def setting(cell: Cell, path: str) -> AxisValue | None:
    """Return what a cell has at a dotted path, defaults that depend on the data filled in.

    Returns:
        `None` where there is no such place, nothing with one value, or nothing that an axis could be at.
    """
    found = {_plain(cell, path, value) for value in _values(cell, *path.split("."))}
    return found.pop() if len(found) == 1 else None


def _values(cell: Cell, head: str, *rest: str) -> Iterator[Any]:
    match head, rest:
        case ("phases" | "probes", (index, name)):
            items: tuple[Any, ...] = getattr(cell, head)
            at = range(len(items)) if index == "*" else [int(index)]
            for item in (items[i] for i in at if -len(items) <= i < len(items)):
                options = dict(getattr(item, "options", ()))
                yield options[name] if name in options else getattr(item, name, None)
        case ("model" | "dataset" | "loss", (name,)):
            yield dict(getattr(cell, head).options).get(name)
        case _, (name,):
            yield getattr(getattr(cell, head), name, None)
        case _:
            yield getattr(cell, head, None)


def _plain(cell: Cell, path: str, value: Any) -> AxisValue | None:
    if isinstance(value, Choice):
        return str(value)
    if value is None:
        return _default(cell, path)
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None


def _default(cell: Cell, path: str) -> AxisValue | None:
    head, *rest = path.split(".")
    try:
        if head == "holdout_size":
            return dataset_entry(cell.dataset).num_train
        if head == "phases" and rest[-1] == "k":
            return dataset_entry(cell.dataset).num_outputs
    except ConfigError:
        # The data set is a file that this reader lacks.
        return None
    return cell.evaluate_every if head == "probes" and rest[-1] == "every" else None


def switch_steps(cell: Cell) -> tuple[int, ...]:
    """Return the ends of the phases but the last; empty phases and ends on a condition left out."""
    return tuple(phase.until for phase in _phases(cell)[:-1] if isinstance(phase.until, int))


def last_switch(cell: Cell, resolved: float | None) -> int | None:
    """Return the step at which the last phase of a cell begins; `None` where it has but one.

    Args:
        cell: The cell as stated.
        resolved: What its run recorded as `final/switch_step`. It counts where the phase before the last ends
            on a condition; runs of earlier versions have the step at which a condition was met last there,
            and nothing, so no switch, where none was met.
    """
    phases = _phases(cell)
    if len(phases) < 2:
        return None
    before = phases[-2].until
    if isinstance(before, Condition):
        return None if resolved is None else int(resolved)
    return before


def forced_switch(cell: Cell, resolved: float | None) -> int | None:
    """Return the step at which the last phase began because the condition before it was not met till then.

    A condition is met at a step before its `at_most`, so the step tells.

    Args:
        cell: The cell as stated.
        resolved: As for `last_switch`.
    """
    phases = _phases(cell)
    before = phases[-2].until if len(phases) > 1 else None
    if not isinstance(before, Condition) or resolved is None or int(resolved) < before.at_most:
        return None
    return int(resolved)


def forced_note(steps: Sequence[int], num_runs: int) -> str:
    """Say of runs whose switch a condition decides on where it did not.

    Args:
        steps: What `forced_switch` gives for those of which it gives one.
        num_runs: All of them.
    """
    if not steps:
        return ""
    last = " or ".join(f"{step:,}" for step in sorted(set(steps)))
    return f"the condition was not met by step {last} in {len(steps)} of {num_runs} runs"


def _phases(cell: Cell) -> list[Phase]:
    """Return the phases that are not empty: the stages of `trainers.canonical`, equal neighbours apart."""
    kept: list[Phase] = []
    for phase in cell.phases:
        start = kept[-1].last if kept else 0
        if phase.last > start or (kept and isinstance(kept[-1].until, Condition)):
            kept.append(phase)
    return kept
