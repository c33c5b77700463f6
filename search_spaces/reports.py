"""What a space wants drawn: typed report specifications, read from the `reports` list of a space file.

The axis named `seed` is never a row, column or line: every report shows the mean and the spread over it.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from search_spaces.strict import Flag, StrictModel, Whole, complain, infinity

AxisValue = float | int | str
FilterValue = Annotated[AxisValue | None, BeforeValidator(infinity)]
OVER = " over "
"""Between two series: the quotient of what both recorded at a step ("energy/dom_h over energy/h")."""

MAX_NAME = 100
"""A report's name is part of a file's, which systems limit to 255 bytes."""


def _something(values: tuple[AxisValue | None, ...]) -> tuple[AxisValue | None, ...]:
    if not values:
        complain("found no value; the report would show nothing. Leave the axis out to show all of it.")
    return values


Filter = dict[str, Annotated[tuple[FilterValue, ...], AfterValidator(_something)]]


class ReportSpec(StrictModel):
    """What all reports share.

    Attributes:
        name: File stem of the figure or table; unique within the space.
        title: Heading of the figure.
        grids: Names of the grids that the report shows; `None` is all.
        where: Keeps only grid points whose axis has one of the listed values; `None` (null) stands for the
            points whose grid lacks the axis.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=MAX_NAME)
    title: str = ""
    grids: tuple[str, ...] | None = None
    where: Filter = Field(default_factory=dict)


class HeatmapSpec(ReportSpec):
    """A heatmap per metric (and value of `panels`): `y` against `x`, the value printed in each cell."""

    kind: Literal["heatmap"]
    x: str
    y: str
    panels: str | None = None
    metrics: tuple[str, ...] = ("final/train_loss", "final/test_accuracy")


class TableSpec(ReportSpec):
    """A table like ZS25 table 1: `rows` by `columns`; the best of each value of `rows[0]` in bold.

    `reference` names a grid whose points fill one further column (the SGD column), matched by shared axes.
    """

    kind: Literal["table"]
    rows: tuple[str, ...] = Field(min_length=1)
    columns: str
    metric: str = "final/test_accuracy"
    reference: str | None = None
    percent: Flag = True


def _axes(value: Any) -> Any:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _a_series(named: dict[str, str]) -> dict[str, str]:
    if not named:
        complain("found no series; the panel would show nothing.")
    return named


class CurvesSpec(ReportSpec):
    """Series against the step: a line per combination of `lines`, a panel per metric and value of `panels`.

    Switch points (ends of phases but the last) are marked; the one before the last phase, where it is on a
    condition, at the step of each run. A metric may be a quotient, "A over B".

    Attributes:
        metrics: What is shown, a row of panels each.
        together: Instead of `metrics`: heading of a panel to its series, label to metric. A label looks the
            same in all panels.
        error_bars: Whether bars show the standard error of an estimate, which its probe records as
            `<series>_error`.
    """

    kind: Literal["curves"]
    metrics: tuple[str, ...] = ("train/loss",)
    together: dict[str, Annotated[dict[str, str], AfterValidator(_a_series)]] = Field(
        default_factory=dict[str, dict[str, str]]
    )
    lines: tuple[str, ...] = ()
    panels: Annotated[tuple[str, ...], BeforeValidator(_axes)] = ()
    log_y: Flag = True
    max_step: Whole | None = Field(default=None, ge=1)
    error_bars: Flag = False

    @model_validator(mode="after")
    def _shows_one_or_the_other(self) -> Self:
        if self.together and self.metrics != CurvesSpec.model_fields["metrics"].default:
            complain("found `metrics` and `together`; expected one of them.")
        return self

    def shown(self) -> tuple[str, ...]:
        """Return every metric that is drawn."""
        if self.together:
            return tuple(dict.fromkeys(m for series in self.together.values() for m in series.values()))
        return self.metrics

    def series(self) -> tuple[str, ...]:
        """Return every series that has to be recorded for it, those of the error bars left out."""
        return tuple(dict.fromkeys(part for metric in self.shown() for part in series_of(metric)))


def series_of(metric: str) -> Iterator[str]:
    """Yield the series that a metric is made of: itself, or the two of "A over B"."""
    yield from metric.split(OVER, 1)


class FinalsSpec(ReportSpec):
    """A final metric against one numeric axis (the switch point), one line per combination of `lines`."""

    kind: Literal["finals"]
    x: str
    lines: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("final/train_loss",)
    log_y: Flag = True


class SpectrumSpec(ReportSpec):
    """The leading eigenvalues against the step, a panel per combination of `panels`; one of them in black."""

    kind: Literal["spectrum"]
    panels: tuple[str, ...] = ()
    highlight: Whole | None = Field(default=None, ge=1)
    log_y: Flag = False
    overlay: tuple[str, ...] = ()


class ProfileSpec(ReportSpec):
    """An indexed series (`spread/gradient_<i>`) against its index, one line per step of `steps`.

    `<i>` is the index, a number or a name. `at_most` keeps indices up to a number. The mean over the seeds.
    """

    kind: Literal["profile"]
    series: str = Field(pattern=r"<i>")
    steps: tuple[Annotated[Whole, Field(ge=0)], ...] = Field(min_length=1)
    panels: tuple[str, ...] = ()
    at_most: Whole | None = Field(default=None, ge=1)
    log_y: Flag = False


class PathSpec(ReportSpec):
    """One series against another along the steps (a trajectory in the plane), a panel per `panels`."""

    kind: Literal["path"]
    x: str
    y: str
    panels: tuple[str, ...] = ()


class SeparationSpec(ReportSpec):
    """Distances of runs of one seed that differ in an axis, and of each from its start, against the step.

    From the probe `sketch`, so they are estimates; a panel per combination of `panels`.
    """

    kind: Literal["separation"]
    between: str
    panels: tuple[str, ...] = ()
    log_y: Flag = False


class LevelsSpec(ReportSpec):
    """A table: mean and standard deviation of series over a window of steps; `rows` by `series`.

    `start` and `stop` are steps, negative ones counted from the end of the run.
    """

    kind: Literal["levels"]
    rows: tuple[str, ...] = Field(min_length=1)
    series: tuple[str, ...] = Field(min_length=1)
    start: Whole = 0
    stop: Whole | None = None
    digits: Whole = Field(default=4, ge=1, le=8)


class DensitySpec(ReportSpec):
    """The spectral density of the probe `spectrum` (Lanczos quadrature), one line per step of `steps`."""

    kind: Literal["density"]
    steps: tuple[Annotated[Whole, Field(ge=0)], ...] = Field(min_length=1)
    panels: tuple[str, ...] = ()


Report = Annotated[
    HeatmapSpec
    | TableSpec
    | CurvesSpec
    | FinalsSpec
    | SpectrumSpec
    | ProfileSpec
    | PathSpec
    | SeparationSpec
    | LevelsSpec
    | DensitySpec,
    Field(discriminator="kind"),
]
