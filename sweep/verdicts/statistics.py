"""What claims are about, as functions of recorded runs: one a row of `search_spaces.claims.STATISTICS`.

Statistics of one run take the switch step as well, so that a plain run is
measured where its partner switched.
Statistics of several runs take all the runs of one seed; those of `POOLED` the runs of all seeds.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from scipy.stats import spearmanr

from sweep import names
from sweep.best import least_is_best
from sweep.record import SEED_AXIS, Series
from sweep.report.curve_lines import combined
from sweep.verdicts.runs import Run, Untestable

Options = Mapping[str, Any]
OfRun = Callable[[Run, Options, int | None], float]
OfPair = Callable[[Run, Run, Options], float]
OfRuns = Callable[[Sequence[Run], Options], float]

Window = tuple[float, float]
"""Steps, from the first number up to the second, which is not among them."""

REDUCE: dict[str, Callable[[np.ndarray], float]] = {
    "mean": lambda values: float(np.mean(values)),
    "std": lambda values: float(np.std(values)),
    "min": lambda values: float(np.min(values)),
    "max": lambda values: float(np.max(values)),
    "median": lambda values: float(np.median(values)),
    "first": lambda values: float(values[0]),
    "last": lambda values: float(values[-1]),
}


def level(run: Run, options: Options, switch: int | None) -> float:
    """Return the mean (or another reduction) of a series in a window, over or less another if named.

    Raises:
        Untestable: What it is taken over is 0 or less somewhere in the window: a mean of such quotients is
            about those steps and nothing else.
    """
    series = run.series(options["series"])
    if options["over"] is not None:
        over = run.series(options["over"])
        shared = combined(series, over, lambda _, denominators: denominators)
        least = float(np.min(_window_of(shared, run, options, switch).values))
        if least <= 0:
            raise Untestable(f"{options['over']} comes down to {least:.3g}, of which there are no multiples")
        series = combined(series, over, np.divide)
    if options["minus"] is not None:
        series = combined(series, run.series(options["minus"]), np.subtract)
    return _reduced(series, run, options, switch)


def total(run: Run, options: Options, switch: int | None) -> float:
    """Return the sum of several series, each reduced in the same window."""
    return sum(_reduced(run.series(name), run, options, switch) for name in options["series"])


def growth(run: Run, options: Options, switch: int | None) -> float:
    """Return the mean of a series in a late window over that in an early one.

    Raises:
        Untestable: The early one is 0 or less, of which there are no multiples.
    """
    series = run.series(options["series"])
    means = [
        REDUCE["mean"](_between(series, *window).values) for window in windows("growth", run, options, switch)
    ]
    if means[1] <= 0:
        raise Untestable(f"{options['series']} is {means[1]:.3g} early on, of which there are no multiples")
    return means[0] / means[1]


def drop(run: Run, options: Options, switch: int | None) -> float:
    """Return how far a series falls from `skip` steps after the switch to the end.

    Both ends are means over `average` steps, at most a quarter of what follows the switch: Dom-SGD's loss
    jumps about, and its first steps after the switch still lower it.
    """
    ends = _ends_of_drop(run, options, switch)
    series = run.series(options["series"])
    _require_whole(run)
    early, late = (REDUCE["mean"](_between(series, *end).values) for end in ends)
    return early - late


def roughness(run: Run, options: Options, switch: int | None) -> float:
    """Return the variance of the logarithm of a series around its running mean of `points` values."""
    values = np.log(_window_of(run.series(options["series"]), run, options, switch).values)
    width = options["points"]
    if len(values) < 2 * width:
        raise Untestable(f"{options['series']} has {len(values)} points in the window, too few for a trend")
    trend = np.convolve(values, np.ones(width) / width, mode="valid")
    return float(np.var(values[width // 2 : width // 2 + len(trend)] - trend))


def spike(run: Run, options: Options, switch: int | None) -> float:
    """Return the largest value of a series over the least before it; infinite for a diverged run.

    Raises:
        Untestable: The least is 0 or less, of which there are no multiples.
    """
    if run.outcome.diverged:
        return math.inf
    values = _window_of(run.series(options["series"]), run, options, switch).values
    least = np.minimum.accumulate(values)
    if (least <= 0).any():
        raise Untestable(
            f"{options['series']} comes down to {least[-1]:.3g}, of which there are no multiples"
        )
    return float(np.max(values / least))


def final(run: Run, options: Options, switch: int | None) -> float:
    """Return a final metric; of a diverged run its last finite value."""
    value = run.outcome.metrics.get(options["metric"], math.nan)
    if not math.isfinite(value):
        raise Untestable(f"{options['metric']} was not recorded")
    return value


def first_step_above(run: Run, options: Options, switch: int | None) -> float:
    """Return the first step in a window at which a series is above a threshold; infinite if it never is."""
    series = _window_of(run.series(options["series"]), run, options, switch)
    above = np.flatnonzero(series.values > options["threshold"])
    return float(series.steps[above[0]]) if above.size else math.inf


def sketch_distance(run: Run, partner: Run, options: Options) -> float:
    """Return the distance between the ends of two runs over how far the first one went, both from sketches.

    Raises:
        Untestable: One of the runs has no sketches, or the first one went nowhere.
    """
    ends = [_sketch(each, -1) for each in (run, partner)]
    if not (way := float(np.linalg.norm(ends[0] - _sketch(run, 0)))):
        raise Untestable("the run ends where it began")
    return float(np.linalg.norm(ends[0] - ends[1])) / way


def share_below(run: Run, partner: Run, options: Options) -> float:
    """Return 1 where a final metric is below the partner's, else 0; a diverged run is below nothing."""
    if run.outcome.diverged:
        return 0.0
    if partner.outcome.diverged:
        return 1.0
    return float(final(run, options, None) < final(partner, options, None))


def share_diverged(runs: Sequence[Run], options: Options) -> float:
    """Return the share of runs that diverged."""
    return sum(run.outcome.diverged for run in runs) / len(runs)


def diverged_rise(runs: Sequence[Run], options: Options) -> float:
    """Return the share of diverged runs at the largest value of an axis, less that at the smallest.

    Raises:
        Untestable: The runs have one value of the axis.
    """
    values = [_number(run, options["axis"]) for run in runs]
    _require_two(values, options["axis"])
    at = {
        end: [run for run, value in zip(runs, values, strict=True) if value == end]
        for end in (min(values), max(values))
    }
    shares = [share_diverged(at[end], options) for end in (max(values), min(values))]
    return shares[0] - shares[1]


def rank_correlation(runs: Sequence[Run], options: Options) -> float:
    """Return Spearman's correlation of a final metric with an axis (`inverse`: 1 over it).

    Runs that diverged have no metric and are left out, as the papers' figures leave them grey. Correlated are
    the ranks of the axis with the metric's ranks among the runs that share all other axes, so that a
    difference between those does not hide the trend.

    Raises:
        Untestable: Nothing varies.
    """
    axis, signs = options["axis"], -1.0 if options["inverse"] else 1.0
    groups: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        rest = tuple(value for name, value in sorted(run.axes.items()) if name != axis)
        if not run.outcome.diverged:
            groups.setdefault(rest, []).append(run)
    found: list[float] = []
    for members in groups.values():
        places = [signs * _number(run, axis) for run in members]
        metrics = [final(run, options, None) for run in members]
        if len(set(places)) > 1 and len(set(metrics)) > 1:
            found.append(float(cast("Any", spearmanr(places, metrics)).statistic))
    if not found:
        raise Untestable(f"no two runs that ended well differ in {axis} alone")
    return float(np.mean(found))


def at_best(runs: Sequence[Run], options: Options) -> float:
    """Return an axis (over another) where a final metric is best among the runs that ended well."""
    well = [run for run in runs if not run.outcome.diverged]
    if not well:
        raise Untestable("every run diverged")
    choose = min if least_is_best(options["metric"]) else max
    best = choose(well, key=lambda run: final(run, options, None))
    value = _number(best, options["axis"])
    return value if options["over"] is None else value / _number(best, options["over"])


def range_over_seeds(runs: Sequence[Run], options: Options) -> float:
    """Return the range of the means over an axis in standard deviations over the seeds.

    Infinite where every run at one value diverged and none at another: no seed accounts for that.

    Raises:
        Untestable: One value of the axis, fewer than two seeds at one, runs that differ in another axis, or
            values at which some runs diverged: what such a run had last is no measure of its setting.
    """
    axis = options["axis"]
    members: dict[float, list[Run]] = {}
    for run in runs:
        members.setdefault(_number(run, axis), []).append(run)
    _require_two(members, axis)
    if min(len({run.seed for run in found}) for found in members.values()) < 2:
        raise Untestable("a spread over seeds needs at least two of them")
    if others := _varying(runs) - {axis, SEED_AXIS}:
        raise Untestable(f"the runs differ in {', '.join(sorted(others))} too")
    if gone := sum(run.outcome.diverged for run in runs):
        if {0.0, 1.0} <= {share_diverged(found, {}) for found in members.values()}:
            return math.inf
        raise Untestable(f"{gone} of {len(runs)} cells diverged")
    by_value = {value: [final(run, options, None) for run in found] for value, found in members.items()}
    means = [float(np.mean(values)) for values in by_value.values()]
    spread = math.sqrt(float(np.mean([np.var(values, ddof=1) for values in by_value.values()])))
    return (max(means) - min(means)) / spread if spread else math.inf


OF_RUN: dict[str, OfRun] = {
    "level": level,
    "total": total,
    "growth": growth,
    "drop": drop,
    "roughness": roughness,
    "spike": spike,
    "final": final,
    "first_step_above": first_step_above,
}
OF_PAIR: dict[str, OfPair] = {"sketch_distance": sketch_distance, "share_below": share_below}
OF_RUNS: dict[str, OfRuns] = {
    "share_diverged": share_diverged,
    "diverged_rise": diverged_rise,
    "rank_correlation": rank_correlation,
    "at_best": at_best,
}
POOLED: dict[str, OfRuns] = {"range_over_seeds": range_over_seeds}

MAY_DIVERGE = ("spike", "final", "share_below", *OF_RUNS, *POOLED)
"""Statistics that know what to make of a diverged run; others need the whole of it."""


LEAVES_OUT_DIVERGED = ("rank_correlation", "at_best")
"""Statistics over the runs that ended well, however few."""


def windows(kind: str, run: Run, options: Options, switch: int | None) -> list[Window]:
    """Return where a statistic looks at its series, a final metric not among these.

    Raises:
        Untestable: That is after a switch, and there is none.
    """
    if kind == "growth":
        ends = [(options[f"{part}_start"], options[f"{part}_stop"]) for part in ("late", "early")]
        return [_steps(run, start, stop, options, switch) for start, stop in ends]
    if kind == "drop":
        return list(_ends_of_drop(run, options, switch))
    return [_steps(run, options["start"], options["stop"], options, switch)] if "start" in options else []


def _ends_of_drop(run: Run, options: Options, switch: int | None) -> tuple[Window, Window]:
    if switch is None:
        raise Untestable("there is no switch")
    begin = switch + options["skip"]
    average = min(options["average"], (run.num_steps - begin) // 4)
    return (begin, begin + average + 1), (run.num_steps - average, run.num_steps + 1)


def _reduced(series: Series, run: Run, options: Options, switch: int | None) -> float:
    return REDUCE[options["reduce"]](_window_of(series, run, options, switch).values)


def _window_of(series: Series, run: Run, options: Options, switch: int | None) -> Series:
    return _between(series, *_steps(run, options["start"], options["stop"], options, switch))


def _steps(run: Run, start: float, stop: float | None, options: Options, switch: int | None) -> Window:
    """Return start <= step < stop in steps, given in the unit of the options; no `stop` includes the end."""
    match options["unit"]:
        case "run":
            return start * run.num_steps, math.inf if stop is None else stop * run.num_steps
        case "steps":
            low, high = (
                math.inf if end is None else end + (run.num_steps if end < 0 else 0) for end in (start, stop)
            )
            return low, high
        case _:
            if switch is None:
                raise Untestable("there is no switch")
            return switch + start, math.inf if stop is None else switch + stop


def _between(series: Series, low: float, high: float) -> Series:
    keep = (series.steps >= low) & (series.steps < high)
    if not keep.any():
        raise Untestable(f"nothing was measured from step {low:g} to {high:g}")
    return Series(steps=series.steps[keep], values=series.values[keep])


def _require_two(values: Iterable[float], axis: str) -> None:
    if len(set(values)) < 2:
        raise Untestable(f"an effect of {axis} needs at least two of its values")


def _varying(runs: Sequence[Run]) -> set[str]:
    """Return the axes in which runs differ, those among them that only some have."""
    axes = {axis for run in runs for axis in run.axes}
    return {axis for axis in axes if len({run.axes.get(axis) for run in runs}) > 1}


def _require_whole(run: Run) -> None:
    if run.outcome.metrics.get(names.FINAL_STEPS, run.num_steps) < run.num_steps:
        raise Untestable("the run ended early")


def _sketch(run: Run, index: int) -> np.ndarray:
    history = run.history()
    named = sorted(name for name in history if name.startswith("sketch/"))
    if not named:
        raise Untestable("no sketch was recorded")
    return np.array([history[name].values[index] for name in named])


def _number(run: Run, axis: str) -> float:
    value = run.axes.get(axis)
    if value is None or isinstance(value, str):
        raise Untestable(f"{axis} is no number there")
    return float(value)
