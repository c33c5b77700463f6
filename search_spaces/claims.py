"""What a paper says, as a space states it: a statistic of recorded runs, the paper's value, and a band.

A space's `claims` are written before its runs. `STATISTICS` lists what can be computed, name -> options;
`sweep.verdicts` has the functions, one of the same name for every row, and the verdicts.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from search_spaces.reports import AxisValue, FilterValue
from search_spaces.strict import Flag, Number, StrictModel, Whole, complain, complain_unknown, shown
from trainers.errors import ConfigError
from trainers.options import Choice, Option

REDUCTIONS = ("mean", "std", "min", "max", "median", "first", "last")
UNITS = ("run", "steps", "after_switch")

_SERIES = Option(default="train/loss")
_METRIC = Option(default="final/test_accuracy")
_WINDOW: dict[str, Option] = {
    "start": Option(default=0.0),
    "stop": Option(default=None, kind=float),
    "unit": Option(default="run", allowed=UNITS),
}
"""Which steps count: fractions of the run; steps, negative ones from the end; or steps after the switch."""

STATISTICS: dict[str, Mapping[str, Option]] = {
    "level": {
        "series": _SERIES,
        "over": Option(default=None, kind=str),
        "minus": Option(default=None, kind=str),
        "reduce": Option(default="mean", allowed=REDUCTIONS),
        **_WINDOW,
    },
    "total": {
        "series": Option(default=("train/loss",)),
        "reduce": Option(default="mean", allowed=REDUCTIONS),
        **_WINDOW,
    },
    "growth": {
        "series": _SERIES,
        "early_start": Option(default=0.4),
        "early_stop": Option(default=0.6),
        "late_start": Option(default=0.9),
        "late_stop": Option(default=None, kind=float),
        "unit": Option(default="run", allowed=UNITS),
    },
    "drop": {
        "series": _SERIES,
        "skip": Option(default=50, minimum=0),
        "average": Option(default=400, minimum=0),
    },
    "roughness": {"series": _SERIES, "points": Option(default=5, minimum=3), **_WINDOW},
    "spike": {"series": _SERIES, **_WINDOW},
    "final": {"metric": _METRIC},
    "first_step_above": {"series": _SERIES, "threshold": Option(default=0.0), **_WINDOW},
    "sketch_distance": {},
    "share_below": {"metric": Option(default="final/train_loss")},
    "share_diverged": {},
    "diverged_rise": {"axis": Option(default="lr")},
    "rank_correlation": {"axis": Option(default="lr"), "metric": _METRIC, "inverse": Option(default=False)},
    "at_best": {"metric": _METRIC, "axis": Option(default="lr"), "over": Option(default=None, kind=str)},
    "range_over_seeds": {"axis": Option(default="lr"), "metric": _METRIC},
}
"""Statistics and their options; the docstrings of `sweep.verdicts.statistics` say what each is."""

COMPARISONS = ("share_below", "sketch_distance")
"""Statistics that need `against`: they are about two runs."""


def _statistic(value: Any) -> Any:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(cast("Any", value).get("name"), str):
        complain("expected the name of a statistic, or a mapping with `name` and its options.")
    given = dict(cast("Mapping[str, Any]", value))
    if unnamed := [key for key in given if not isinstance(cast("Any", key), str)]:
        complain(f"found {shown(unnamed[0])} as the name of an option; expected text.")
    name = given.pop("name")
    if name not in STATISTICS:
        complain_unknown("statistic", name, STATISTICS)
    try:
        Choice.of(name, **given).resolve("statistic", STATISTICS[name])
    except ConfigError as error:
        complain(str(error))
    return {"name": name, **given}


def _tuple(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


Values = Annotated[tuple[FilterValue, ...], BeforeValidator(_tuple)]
Filter = dict[str, Values]


class Band(StrictModel):
    """The interval within which a claim is reproduced; an end left out is open."""

    at_least: Number | None = None
    at_most: Number | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        low, high = self.at_least, self.at_most
        if low is None and high is None:
            complain("found neither at_least nor at_most; a band needs one.")
        if low is not None and high is not None and low > high:
            complain(f"found at_least {low:g} above at_most {high:g}.")
        return self

    def holds(self, value: float) -> bool:
        """Whether a value lies in the band; NaN does not."""
        low = -float("inf") if self.at_least is None else self.at_least
        return low <= value <= (float("inf") if self.at_most is None else self.at_most)

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:g} to {self.at_most:g}"
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


class EntrySpec(StrictModel):
    """One place of a claim about several, with the paper's number there, if it gives one."""

    at: Filter
    paper: Number | None = None


class ClaimSpec(StrictModel):
    """One claim, or, with `entries`, the same one about several places: the numbers of a table.

    Attributes:
        name: Unique within the space.
        says: What the paper says, and where.
        statistic: A row of `STATISTICS` with options.
        grids: Grids of the runs; `None` is all.
        where: Axis values of the runs; null stands for a grid without the axis.
        against: Axis values of the runs that they are compared with: those of the same seed that agree in
            every axis that is named neither here nor in `where`. The statistic of each run is then divided
            by that of its partner (`compare: ratio`), or lessened by it (`difference`).
        against_grids: Grids of those; `None` is all.
        paper: The paper's own value, where it gives one.
        band: Where the median over the seeds has to lie.
        within: With `entries`: how far a value may be from the paper's.
        every_seed: Whether each seed has to lie in the band.
        entries: Axis values beside those of `where`, and the paper's numbers there.
        because: Why the band is this one.
        needs: Runs of fewer steps than this leave the claim untested.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    says: str
    statistic: Annotated[dict[str, Any], BeforeValidator(_statistic)]
    grids: tuple[str, ...] | None = None
    where: Filter = Field(default_factory=dict)
    against: Filter | None = None
    against_grids: tuple[str, ...] | None = None
    compare: Literal["ratio", "difference"] = "ratio"
    paper: Number | None = None
    band: Band | None = None
    within: Annotated[Number, Field(gt=0)] | None = None
    every_seed: Flag = False
    entries: tuple[EntrySpec, ...] = ()
    because: Annotated[str, AfterValidator(str.strip)] = ""
    needs: Annotated[Whole, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _has_one_band(self) -> Self:
        if (self.band is None) == (self.within is None):
            complain("expected either `band`, or `within` beside the paper's numbers.")
        numbers = [entry.paper for entry in self.entries] or [self.paper]
        if self.within is not None and None in numbers:
            complain("found `within` without a number of the paper: add `paper` or `entries`.")
        if self.statistic["name"] in COMPARISONS and self.against is None and self.against_grids is None:
            complain(f"the statistic {self.statistic['name']!r} compares runs: add `against`.")
        return self

    def bands(self) -> list[tuple[Mapping[str, tuple[AxisValue | None, ...]], float | None, Band]]:
        """Return, per number, where it stands, the paper's value, and the band."""
        if not self.entries:
            return [({}, self.paper, self.band or _around(self.paper, self.within))]
        return [
            (entry.at, entry.paper, self.band or _around(entry.paper, self.within)) for entry in self.entries
        ]


def _around(paper: float | None, within: float | None) -> Band:
    assert paper is not None and within is not None
    return Band(at_least=paper - within, at_most=paper + within)
