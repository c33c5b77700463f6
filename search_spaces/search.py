"""The search section of a space: axes with a range, what is to be optimised, how far, and when to stop cells.

    search:
      sampler: tpe
      axes:
        lr: {low: 0.001, high: 1, log: true}        # continuous, because the field is a real number
        k: {low: 2, high: 20}                       # whole numbers, because the field is one
        alpha_dom: [1, 2, .inf]                     # values in an order
        method: {choices: {dom: {beta_bulk: .inf}}} # labels without one, as in a grid
      seeds: [0, 1, 2]
      objectives: [final/train_loss]
      cells: 60
      exclude: [{alpha_dom: .inf, k: {low: 10}}]  # see `search_spaces.exclusion`

`sampled_grid` turns one asked configuration into a grid of single values, so that it is expanded, addressed
and recorded exactly as a grid's point is. A space without the section is searched over its first grid's axes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, ValidationError, field_validator, model_validator

from search_spaces.axes import AXIS_NAME, AxisSpec, long_axis
from search_spaces.cell_schema import ALIASES, Count, Index, Positive, checked, field_adapter
from search_spaces.exclusion import Rule, is_excluded, long_rules
from search_spaces.reports import AxisValue
from search_spaces.strict import Flag, Number, StrictModel, complain, complain_unknown, config_error, shown
from trainers.errors import ConfigError, unknown_name

SAMPLERS = ("tpe", "cmaes", "qmc", "random", "nsga2")
OBJECTIVES: dict[str, Literal["minimize", "maximize"]] = {
    "final/train_loss": "minimize",
    "final/test_accuracy": "maximize",
    "final/steps": "minimize",
}
"""What can be optimised, and which way is better."""

BUDGET = ("cells", "steps", "seconds")
"""The fields that end a search: none of them changes what it asks for."""

SEED = "seed"
SEARCH_GRID = "search"
"""Grid of the asked configurations in `cells.parquet`."""

DIGITS = 6
"""Significant digits of a sampled value: it is a literal of the cell, and is read by people."""

SamplerName = Literal["tpe", "cmaes", "qmc", "random", "nsga2"]
StopperName = Literal["asha", "median"]


class RangeSpec(StrictModel):
    """An axis with a range: real or whole numbers, as the field is.

    Which of them an option of a choice takes, the space knows (`search_spaces.schema`), unless it is stated.
    """

    path: tuple[str, ...]
    low: int | float
    high: int | float
    log: Flag = False
    integer: Flag = False

    @model_validator(mode="before")
    @classmethod
    def _typed_as_the_fields(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        given = dict(cast("Mapping[str, Any]", given))
        paths = [given["path"]] if isinstance(given.get("path"), str) else given.get("path")
        if not isinstance(paths, (list, tuple)) or not paths:
            complain("path is missing; an axis of this name needs `path`, a dotted path of the cell.")
        for end in ("low", "high"):
            value = given.get(end)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                complain(f"{end}: expected a finite number, found {shown(value)}.")
        typed: list[Any] = []
        for path in cast("Sequence[str]", paths):
            for end in ("low", "high"):
                try:
                    typed.append(checked(path, given[end]))
                except ValueError as error:
                    complain(f"{end}: {error}")
        if any(isinstance(value, str) for value in typed):
            complain(f"found a range for {shown(paths[0])}, which is not a number; list its values instead.")
        if field_adapter(paths[0]) is not None:
            given["integer"] = isinstance(checked(paths[0], 2), int)
        return {**given, "path": tuple(paths)}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            complain(f"found low {self.low:g} and high {self.high:g}; low must be below high.")
        if self.log and self.low <= 0:
            complain(f"found low {self.low:g} on a log axis; it must be positive.")
        return self

    def value(self, sampled: float) -> AxisValue:
        """Return a sampled number as the axis has it: whole, or rounded to `DIGITS` within the range."""
        if self.integer:
            return round(sampled)
        return min(max(float(f"{sampled:.{DIGITS}g}"), self.low), self.high)

    def holds(self, value: AxisValue | None) -> bool:
        """Whether a value is one that the axis can take."""
        if isinstance(value, str) or value is None or not math.isfinite(value):
            return False
        if self.integer and value != round(value):
            return False
        return self.low <= value <= self.high


class StopperSpec(StrictModel):
    """When cells are stopped early; see `sweep.search.stoppers`.

    Attributes:
        kind: "asha" or "median".
        metric: A series of the history.
        grace: No cell is stopped before this step; `None` is a tenth of the longest cell, and no earlier than
            the first evaluation after the start.
        factor: Of successive halving: of so many cells at a rung one goes on, and rungs are so much apart.
        every: Steps between two looks of median stopping; `None` is `grace`.
        least: So many cells must have come as far before median stopping stops one.
    """

    kind: StopperName
    metric: Literal["train/loss", "test/accuracy"] = "train/loss"
    grace: Count | None = None
    factor: Annotated[Number, Field(gt=1, allow_inf_nan=False)] = 3.0
    every: Count | None = None
    least: Count = 3

    @property
    def larger_is_better(self) -> bool:
        """Which way the metric is better."""
        return self.metric == "test/accuracy"


class SearchSpec(StrictModel):
    """What `sweep search` does.

    Attributes:
        sampler: One of `SAMPLERS`.
        axes: By name; a range, or values or choices as a grid has them.
        set: Changes of the base cell, as in a grid.
        exclude: What is never run.
        seeds: Every configuration is trained with each of these.
        objectives: One, or several for NSGA-II and TPE, from `OBJECTIVES`.
        risk: Told to the sampler is the mean over the seeds, made worse by `risk` standard deviations.
        cells: Cells to train at most, in whole configurations; those that were there before do not count.
        steps: No more is asked for once so many steps are.
        seconds: Nor after so much time, all commands together.
        sampler_seed: Seeds the sampler.
        startup: Configurations that TPE draws at random first, and the size of NSGA-II's population.
        reuse: Whether cells that other sweeps have run are told to the sampler beforehand.
    """

    sampler: SamplerName = "tpe"
    axes: dict[Annotated[str, Field(pattern=AXIS_NAME)], RangeSpec | AxisSpec] = Field(default_factory=dict)
    set: dict[str, Any] = Field(default_factory=dict)
    exclude: tuple[Rule, ...] = ()
    seeds: tuple[Index, ...] = ()
    objectives: tuple[str, ...] = Field(default=("final/train_loss",), min_length=1)
    risk: Annotated[Number, Field(ge=0, allow_inf_nan=False)] = 0.0
    cells: Count | None = None
    steps: Count | None = None
    seconds: Positive | None = None
    sampler_seed: Index = 0
    startup: Count = 10
    reuse: Flag = True

    @field_validator("axes", mode="before")
    @classmethod
    def _long_axes(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {name: _axis(name, axis) for name, axis in cast("Mapping[str, Any]", given).items()}

    @field_validator("exclude", mode="before")
    @classmethod
    def _long_rules(cls, given: Any) -> Any:
        return long_rules(given)

    @field_validator("objectives", mode="before")
    @classmethod
    def _known_objectives(cls, given: Any) -> Any:
        listed: Any = [given] if isinstance(given, str) else given
        for name in cast("Sequence[Any]", listed) if isinstance(listed, (list, tuple)) else ():
            if not isinstance(name, str) or name not in OBJECTIVES:
                complain_unknown("objective", name, OBJECTIVES)
        return listed

    @field_validator("sampler", mode="before")
    @classmethod
    def _known_sampler(cls, given: Any) -> Any:
        if given not in SAMPLERS:
            complain_unknown("sampler", given, SAMPLERS)
        return given

    @model_validator(mode="after")
    def _fits_the_sampler(self) -> Self:
        if len(set(self.objectives)) < len(self.objectives) or len(set(self.seeds)) < len(self.seeds):
            complain("objectives and seeds must each be named once.")
        if len(self.objectives) > 1 and self.sampler not in ("nsga2", "tpe", "random", "qmc"):
            complain(f"sampler {self.sampler!r} takes one objective; several: nsga2, tpe, random or qmc.")
        return self

    @model_validator(mode="after")
    def _excludes_what_there_is(self) -> Self:
        for index, rule in enumerate(self.exclude):
            if not rule:
                complain(f"exclude[{index}]: found no axis; it would exclude everything.")
            for name, spec in rule.items():
                # Without axes of its own the search takes those of a grid, and its rules are looked at there.
                if self.axes and name not in (*self.axes, SEED):
                    complain(f"exclude[{index}]: {unknown_name('axis', name, (*self.axes, SEED))}")
                axis = self.axes.get(name)
                if isinstance(axis, AxisSpec) and (
                    missing := [value for value in spec.values if value not in axis.labels]
                ):
                    allowed = ", ".join(map(str, axis.labels))
                    complain(f"exclude[{index}].{name}: found {shown(missing[0])}; allowed: {allowed}.")
        return self

    def seeds_of(self, values: Mapping[str, AxisValue]) -> tuple[int | None, ...]:
        """Return the seeds that a configuration is trained with: none where it is excluded.

        Args:
            values: A value or label for each axis.

        Returns:
            `None` alone stands for the base cell's own seed.
        """
        seeds = self.seeds or (None,)
        return tuple(
            seed
            for seed in seeds
            if not is_excluded(self.exclude, dict(values) if seed is None else {**values, SEED: seed})
        )

    @property
    def cells_a_configuration(self) -> int:
        """Cells that a configuration takes: one a seed, fewer where some are excluded or were run before."""
        return max(1, len(self.seeds))

    @property
    def cells_asked(self) -> int | None:
        """Cells of the whole configurations that the budget has room for, at least one."""
        whole = self.cells_a_configuration
        return None if self.cells is None else max(whole, self.cells // whole * whole)

    def require_budget(self) -> None:
        """Make sure that there is an end to it.

        Raises:
            ConfigError: There is none.
        """
        if (self.cells, self.steps, self.seconds) == (None, None, None):
            raise ConfigError("search: found no budget; set at least one of --cells, --steps, --seconds.")


def _axis(name: str, given: Any) -> RangeSpec | AxisSpec:
    """Read one axis of a search: one with a range, or one as a grid has it."""
    if name == SEED:
        complain("axes.seed: seeds are not searched over; list them as `seeds`.")
    try:
        if not (isinstance(given, Mapping) and ("low" in given or "high" in given)):
            return AxisSpec.model_validate(long_axis(name, given))
        path = {"path": [ALIASES[name]]} if name in ALIASES else {}
        return RangeSpec.model_validate({**path, **cast("Mapping[str, Any]", given)})
    except ValidationError as error:
        complain(str(config_error(error, f"axes.{name}")))


def sampled_grid(
    search: SearchSpec, values: Mapping[str, AxisValue], seeds: Sequence[int | None]
) -> dict[str, Any]:
    """Return one configuration, with its seeds, as a grid: plain data of a `GridSpec`.

    Args:
        search: The search.
        values: A value or label for each of its axes.
        seeds: As `SearchSpec.seeds_of` gives them.
    """
    axes: dict[str, Any] = {}
    for name, axis in search.axes.items():
        value = values[name]
        if isinstance(axis, AxisSpec) and axis.choices is not None:
            axes[name] = {"choices": {value: axis.choices[value]}}
        else:
            axes[name] = {"path": list(axis.path), "values": [value]}
    if search.seeds:
        axes[SEED] = {"path": [SEED], "values": list(seeds)}
    return {"name": SEARCH_GRID, "set": dict(search.set), "axes": axes}


def lowest_grid(search: SearchSpec) -> dict[str, Any]:
    """Return a search as a grid that has its labels and the low ends of its ranges: data of a `GridSpec`."""
    axes: dict[str, Any] = {
        name: axis
        if isinstance(axis, AxisSpec)
        else {"path": list(axis.path), "values": [axis.value(axis.low)]}
        for name, axis in search.axes.items()
    }
    if search.seeds:
        axes[SEED] = {"path": [SEED], "values": list(search.seeds)}
    return {"name": SEARCH_GRID, "set": dict(search.set), "axes": axes}


def corners(search: SearchSpec) -> list[dict[str, AxisValue]]:
    """Return two configurations, of the first and of the last value of every axis."""
    return [{name: _labels(axis)[place] for name, axis in search.axes.items()} for place in (0, -1)]


def varied(search: SearchSpec) -> Iterator[dict[str, AxisValue]]:
    """Yield configurations with every label of an axis, and both ends of a range, but those always excluded.

    Each comes beside the first and beside the last values of the other axes, excluded together or not.
    """
    allowed = {
        name: [label for label in _labels(axis) if search.seeds_of({name: label})] or _labels(axis)
        for name, axis in search.axes.items()
    }
    for place in (0, -1):
        corner = {name: labels[place] for name, labels in allowed.items()}
        yield from ({**corner, name: label} for name, labels in allowed.items() for label in labels)


def _labels(axis: RangeSpec | AxisSpec) -> tuple[AxisValue, ...]:
    """Return the labels of an axis, the ends of a range."""
    return (axis.value(axis.low), axis.value(axis.high)) if isinstance(axis, RangeSpec) else axis.labels
