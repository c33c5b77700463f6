"""Whether the reports of a space fit its grids: a report must not turn out empty after hours of training."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from search_spaces.expansion import Expansion
from search_spaces.reports import (
    AxisValue,
    CurvesSpec,
    DensitySpec,
    FinalsSpec,
    HeatmapSpec,
    LevelsSpec,
    PathSpec,
    ProfileSpec,
    Report,
    SeparationSpec,
    SpectrumSpec,
    TableSpec,
)
from search_spaces.schema import GridSpec, SpaceSpec
from search_spaces.strict import shown
from trainers.canonical import dataset_entry
from trainers.errors import ConfigError, unknown_name
from trainers.history import (
    EIGENSPACE_CONVERGED,
    EIGENSPACE_PRODUCTS,
    EIGENSPACE_RESIDUAL,
    GRAD_NORM,
    SWITCH_CHI,
    SWITCH_EMA,
    TEST_ACCURACY,
    TRAIN_LOSS,
)
from trainers.probes import PROBES

SEED = "seed"
GRID = "grid"
CURVATURE = "curvature"
DENSITY = "spectrum"
SKETCH = "sketch"
ERROR = "_error"

FINAL_METRICS = (
    "final/train_loss",
    "final/test_accuracy",
    "final/steps",
    "final/switch_step",
    "status/diverged",
    "eigenspace/unconverged",
)
SERIES = (
    TRAIN_LOSS,
    TEST_ACCURACY,
    GRAD_NORM,
    EIGENSPACE_RESIDUAL,
    EIGENSPACE_PRODUCTS,
    EIGENSPACE_CONVERGED,
    SWITCH_CHI,
    SWITCH_EMA,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probed:
    """What the probes of some grids record.

    Args:
        series: The series that they declare.
        eigenvalues: How many eigenvalues any of the cells records; 0 without a probe of the curvature.
    """

    series: tuple[str, ...]
    eigenvalues: int

    @classmethod
    def by(cls, grids: Sequence[Expansion]) -> Self:
        found = {variant for grid in grids for variant in grid.variants("probes", "dataset")}
        names = sorted({probe.name for probes, _ in found for probe in probes})
        sizes = [
            dict(probe.options).get("k") or dataset_entry(dataset).num_outputs
            for probes, dataset in found
            for probe in probes
            if probe.name == CURVATURE
        ]
        return cls(
            series=tuple(series for name in names for series in PROBES[name].series),
            eigenvalues=max(sizes, default=0),
        )


def check_reports(spec: SpaceSpec, grids: Sequence[Expansion]) -> None:
    """Raise `ConfigError` for the first report that names a grid, axis, value or metric it cannot show.

    Args:
        spec: The space.
        grids: Its grids, expanded.
    """
    expanded = {grid.name: grid for grid in grids}
    for report in spec.reports:
        at = f"reports.{report.name}"
        shown_grids = _shown_grids(spec, report, at)
        _check_axes(report, shown_grids, at)
        _check_metrics(report, _Probed.by([expanded[grid.name] for grid in shown_grids]), at)


def check_claims(spec: SpaceSpec) -> None:
    """Raise `ConfigError` for the first claim that names a grid or an axis that the space does not have.

    Values are left alone: a smaller variant lacks some of them, and the claim is then not tested.
    """
    grids = [grid.name for grid in spec.grids]
    axes = {axis for grid in spec.grids for axis in grid.axes} | {GRID}
    for claim in spec.claims if spec.grids else ():
        at = f"claims.{claim.name}"
        for name in (*(claim.grids or ()), *(claim.against_grids or ())):
            if name not in grids:
                raise ConfigError(f"{at}: {unknown_name('grid', name, grids)}")
        filters = (claim.where, claim.against or {}, *(entry.at for entry in claim.entries))
        for axis in dict.fromkeys(axis for named in filters for axis in named):
            if axis not in axes:
                raise ConfigError(f"{at}: {unknown_name('axis', axis, axes)}")


def shows(report: Report, grid: GridSpec) -> bool:
    """Whether a report shows a grid."""
    return report.grids is None or grid.name in report.grids


def axis_labels(axis: str, grids: list[GridSpec]) -> list[AxisValue | None]:
    """Return the values that a filter of an axis may name: `None` where a grid lacks it."""
    if axis == GRID:
        return [grid.name for grid in grids]
    lacking: list[None] = [None] if any(axis not in grid.axes for grid in grids) else []
    return [label for grid in grids if axis in grid.axes for label in grid.axes[axis].labels] + lacking


def _shown_grids(spec: SpaceSpec, report: Report, at: str) -> list[GridSpec]:
    names = [grid.name for grid in spec.grids]
    for index, name in enumerate(report.grids or ()):
        if name not in names:
            raise ConfigError(f"{at}.grids[{index}]: {unknown_name('grid', name, names)}")
    if isinstance(report, TableSpec) and report.reference is not None and report.reference not in names:
        raise ConfigError(f"{at}.reference: {unknown_name('grid', report.reference, names)}")
    shown_grids = [grid for grid in spec.grids if shows(report, grid)]
    if not shown_grids:
        raise ConfigError(f"{at}.grids: found none; allowed: {', '.join(names)}.")
    return shown_grids


def _check_axes(report: Report, grids: list[GridSpec], at: str) -> None:
    known = {axis for grid in grids for axis in grid.axes} | {GRID}
    for field, axis in _axes_of(report):
        if axis == SEED:
            raise ConfigError(
                f"{at}.{field}: the axis 'seed' is not shown by itself; reports show the spread over it."
            )
        if axis not in known:
            raise ConfigError(f"{at}.{field}: {unknown_name('axis', axis, known - {SEED})}")
    for axis, values in report.where.items():
        if axis not in known:
            raise ConfigError(f"{at}.where: {unknown_name('axis', axis, known)}")
        labels = axis_labels(axis, grids)
        for value in values:
            if value not in labels:
                allowed = ", ".join(
                    dict.fromkeys("null" if label is None else str(label) for label in labels)
                )
                raise ConfigError(f"{at}.where.{axis}: found {shown(value)}; allowed: {allowed}.")


def _axes_of(report: Report) -> Iterable[tuple[str, str]]:
    match report:
        case HeatmapSpec():
            yield from (("x", report.x), ("y", report.y))
            if report.panels is not None:
                yield "panels", report.panels
        case TableSpec():
            yield from ((f"rows[{index}]", axis) for index, axis in enumerate(report.rows))
            yield "columns", report.columns
        case CurvesSpec():
            yield from ((f"lines[{index}]", axis) for index, axis in enumerate(report.lines))
            yield from ((f"panels[{index}]", axis) for index, axis in enumerate(report.panels))
        case SeparationSpec():
            yield "between", report.between
            yield from ((f"panels[{index}]", axis) for index, axis in enumerate(report.panels))
        case FinalsSpec():
            yield "x", report.x
            yield from ((f"lines[{index}]", axis) for index, axis in enumerate(report.lines))
        case LevelsSpec():
            yield from ((f"rows[{index}]", axis) for index, axis in enumerate(report.rows))
        case SpectrumSpec() | ProfileSpec() | PathSpec() | DensitySpec():
            yield from ((f"panels[{index}]", axis) for index, axis in enumerate(report.panels))


def _check_metrics(report: Report, probed: _Probed, at: str) -> None:
    match report:
        case HeatmapSpec() | FinalsSpec():
            named, valid = report.metrics, FINAL_METRICS
        case TableSpec():
            named, valid = (report.metric,), FINAL_METRICS
        case CurvesSpec():
            named, valid = report.series(), (*SERIES, *probed.series)
            if report.error_bars and not any(
                _fits(f"{metric}{ERROR}", series) for metric in named for series in valid
            ):
                raise ConfigError(f"{at}.error_bars: no shown series is an estimate with a recorded error.")
        case LevelsSpec():
            named, valid = report.series, (*SERIES, *probed.series)
        case PathSpec():
            named, valid = (report.x, report.y), (*SERIES, *probed.series)
        case ProfileSpec() | DensitySpec() | SeparationSpec():
            kinds = [series.partition("/")[0] for series in probed.series]
            match report:
                case ProfileSpec():
                    wanted = report.series.partition("/")[0]
                case DensitySpec():
                    wanted = DENSITY
                case SeparationSpec():
                    wanted = SKETCH
            if wanted not in kinds:
                raise ConfigError(
                    f"{at}: shows {wanted!r} series, which no shown grid measures; add the probe."
                )
            return
        case SpectrumSpec():
            if not probed.eigenvalues:
                problem = "shows eigenvalues, which no shown grid measures"
                raise ConfigError(f"{at}: {problem}; add the probe {CURVATURE!r}.")
            if not report.overlay:
                return
            named, valid = report.overlay, probed.series
    if not named:
        raise ConfigError(f"{at}.metrics: found none; allowed: {', '.join(valid)}.")
    for metric in named:
        fits = any(_fits(metric, series) for series in valid)
        if not fits and not _is_eigenvalue(metric, probed.eigenvalues):
            raise ConfigError(f"{at}: {unknown_name('metric', metric, valid)}")


def _is_eigenvalue(metric: str, recorded: int) -> bool:
    prefix, _, index = metric.rpartition("_")
    return prefix == "curvature/lambda" and index.isdecimal() and 1 <= int(index) <= recorded


def _fits(metric: str, series: str) -> bool:
    """Whether a metric is a series, or one of those that a series with `<…>` in it stands for."""
    if series.startswith("curvature/lambda"):
        return False
    pattern = ".+".join(re.escape(part) for part in re.split("<[^>]*>", series))
    return re.fullmatch(pattern, metric) is not None
