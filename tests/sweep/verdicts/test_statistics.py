"""Every statistic on numbers whose answer is known, and the table of statistics against their functions."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search_spaces.claims import COMPARISONS, STATISTICS
from sweep.names import Status
from sweep.record import Series
from sweep.verdicts import Run, Untestable
from sweep.verdicts.statistics import MAY_DIVERGE, OF_PAIR, OF_RUN, OF_RUNS, POOLED
from tests.sweep.verdicts.synthetic import run, series
from trainers.options import Choice

RAMP = series([float(i) for i in range(11)])
LOSS, ACCURACY = "final/train_loss", "final/test_accuracy"


def options(name: str, **given: Any) -> dict[str, Any]:
    return Choice.of(name, **given).resolve("statistic", STATISTICS[name])


def of(name: str, subject: Run, switch: int | None = None, **given: Any) -> float:
    return OF_RUN[name](subject, options(name, **given), switch)


def test_every_row_of_the_table_has_its_function() -> None:
    functions = [*OF_RUN, *OF_PAIR, *OF_RUNS, *POOLED]
    assert sorted(functions) == sorted(STATISTICS)
    assert set(COMPARISONS) == set(OF_PAIR)
    assert set(MAY_DIVERGE) <= set(functions)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 5.0),
        ({"start": 0.5}, 7.5),
        ({"start": 0.5, "stop": 0.7}, 5.5),
        ({"start": -20, "unit": "steps"}, 9.0),
        ({"start": 30, "stop": 31, "unit": "steps"}, 3.0),
        ({"start": 0, "stop": 21, "unit": "after_switch"}, 5.0),
        ({"reduce": "max"}, 10.0),
        ({"reduce": "min", "start": 0.5}, 5.0),
        ({"reduce": "median"}, 5.0),
        ({"reduce": "first", "start": 0.2}, 2.0),
        ({"reduce": "last"}, 10.0),
        ({"reduce": "std"}, math.sqrt(10.0)),
        ({"over": "twice", "start": 0.1}, 0.5),
        ({"minus": "twice"}, -5.0),
    ],
)
def test_level(given: dict[str, Any], expected: float) -> None:
    twice = Series(steps=RAMP.steps, values=2 * RAMP.values)
    subject = run({"x": RAMP, "twice": twice})
    assert of("level", subject, 40, series="x", **given) == pytest.approx(expected)


def test_a_series_over_one_that_was_measured_more_seldom_is_taken_where_both_are() -> None:
    seldom = Series(steps=np.array([0, 40, 80]), values=np.array([1.0, 2.0, 4.0]))
    assert of("level", run({"x": RAMP, "y": seldom}), series="x", over="y") == pytest.approx((0 + 2 + 2) / 3)


@pytest.mark.parametrize("least", [0.0, -1.0])
def test_there_is_no_level_over_nothing(least: float) -> None:
    subject = run({"x": RAMP, "y": series([least, *[1.0] * 10])})
    with pytest.raises(Untestable, match=f"y comes down to {least:g}"):
        of("level", subject, series="x", over="y")
    assert of("level", subject, series="x", over="y", start=0.1) == pytest.approx(5.5), "not in the window"


def test_a_window_without_a_measurement_and_a_series_that_is_not_there_say_so() -> None:
    with pytest.raises(Untestable, match="nothing was measured from step 41 to 49"):
        of("level", run({"x": RAMP}), series="x", start=41, stop=49, unit="steps")
    with pytest.raises(Untestable, match="y was not recorded"):
        of("level", run({"x": RAMP}), series="y")
    with pytest.raises(Untestable, match="no switch"):
        of("level", run({"x": RAMP}), series="x", unit="after_switch")


def test_total_and_growth() -> None:
    subject = run({"a": series([1.0] * 11), "b": series([2.0] * 11), "x": RAMP})
    assert of("total", subject, series=("a", "b")) == pytest.approx(3.0)
    # Late: steps 90 and 100; early: 40 and 50.
    assert of("growth", subject, series="x") == pytest.approx(9.5 / 4.5)


def test_drop_is_measured_from_some_steps_after_the_switch() -> None:
    falling = series([10.0 - i for i in range(11)])
    subject = run({"train/loss": falling}, switch=20)
    # From step 30: means over 30-40 and 90-100.
    assert of("drop", subject, subject.switch_step, skip=10, average=10) == pytest.approx(6.5 - 0.5)
    flat = run({"train/loss": series([1.0] * 11)})
    assert of("drop", flat, 20, skip=10, average=10) == 0.0
    with pytest.raises(Untestable, match="ended early"):
        of("drop", run({"train/loss": falling}, metrics={"final/steps": 60}), 20)


def test_roughness_does_not_see_a_trend() -> None:
    steps = np.arange(60)
    smooth = run({"train/loss": series(list(np.exp(-steps / 10)))})
    rough = run({"train/loss": series(list(np.exp(-steps / 10 + 0.1 * (-1.0) ** steps)))})
    assert of("roughness", smooth) == pytest.approx(0, abs=1e-20)
    assert of("roughness", rough) == pytest.approx(0.01 * (1 - 1 / 5) ** 2, rel=0.1)


def test_spike_is_against_the_least_before_it() -> None:
    assert of("spike", run({"train/loss": series([8.0, 1.0, 3.0, 2.0])})) == 3.0
    assert of("spike", run({"train/loss": series([4.0, 2.0, 1.0])})) == 1.0
    assert of("spike", run(status=Status.DIVERGED)) == math.inf


def test_first_step_above() -> None:
    assert of("first_step_above", run({"x": RAMP}), series="x", threshold=3.5) == 40
    assert of("first_step_above", run({"x": RAMP}), series="x", threshold=99.0) == math.inf


def test_sketches_give_a_relative_distance() -> None:
    def sketched(end: tuple[float, float]) -> Run:
        return run({f"sketch/{i + 1}": series([0.0, end[i]]) for i in range(2)})

    assert OF_PAIR["sketch_distance"](sketched((3.0, 4.0)), sketched((3.0, 1.0)), {}) == pytest.approx(3 / 5)
    with pytest.raises(Untestable, match="no sketch"):
        OF_PAIR["sketch_distance"](run(), run(), {})


def test_share_below_counts_a_diverged_run_as_worse() -> None:
    low, high, gone = run(metrics={LOSS: 1.0}), run(metrics={LOSS: 2.0}), run(status=Status.DIVERGED)
    chosen = options("share_below")
    found = [
        OF_PAIR["share_below"](*pair, chosen)
        for pair in ((low, high), (high, low), (gone, high), (high, gone))
    ]
    assert found == [1.0, 0.0, 0.0, 1.0]


def test_shares_of_diverged_runs() -> None:
    fates = [(0.1, False), (0.1, False), (0.2, True), (0.3, True), (0.3, False)]
    runs = [
        run(lr=lr, n=n, status=Status.DIVERGED if gone else Status.COMPLETED)
        for n, (lr, gone) in enumerate(fates)
    ]
    assert OF_RUNS["share_diverged"](runs, {}) == 0.4
    assert OF_RUNS["diverged_rise"](runs, options("diverged_rise", axis="lr")) == 0.5
    with pytest.raises(Untestable, match="lr needs at least two of its values"):
        OF_RUNS["diverged_rise"](runs[:2], options("diverged_rise", axis="lr"))


def test_rank_correlation_is_within_what_shares_the_other_axes() -> None:
    # Along k the metric falls in both blocks; between the blocks it differs by far more.
    runs = [run(lr=lr, k=k, metrics={ACCURACY: 10 * lr - k}) for lr in (1, 2, 3) for k in (1, 2, 3)]
    chosen = options("rank_correlation", axis="k", metric=ACCURACY)
    assert OF_RUNS["rank_correlation"](runs, chosen) == pytest.approx(-1)
    assert OF_RUNS["rank_correlation"](runs, {**chosen, "inverse": True}) == pytest.approx(1)
    gone = [run(lr=1, k=9, status=Status.DIVERGED, metrics={ACCURACY: 99.0})]
    assert OF_RUNS["rank_correlation"]([*runs, *gone], chosen) == pytest.approx(-1)
    with pytest.raises(Untestable, match="differ in k alone"):
        OF_RUNS["rank_correlation"](runs[:1], chosen)


def test_at_best() -> None:
    runs = [run(a=a, b=b, metrics={ACCURACY: a * b}) for a in (1.0, 2.0) for b in (1.0, 4.0)]
    runs.append(run(a=9.0, b=9.0, status=Status.DIVERGED, metrics={ACCURACY: 99.0}))
    assert OF_RUNS["at_best"](runs, options("at_best", axis="b", over="a")) == 2.0
    losses = [run(a=a, metrics={"final/train_loss": a}) for a in (1.0, 2.0)]
    chosen = options("at_best", axis="a", metric="final/train_loss")
    assert OF_RUNS["at_best"](losses, chosen) == 1.0, "the least loss is the best"


def test_range_over_seeds_is_in_standard_deviations() -> None:
    runs = [run(t=t, seed=s, metrics={ACCURACY: t + s}) for t in (0.0, 3.0) for s in (-1, 0, 1)]
    chosen = options("range_over_seeds", axis="t", metric=ACCURACY)
    assert POOLED["range_over_seeds"](runs, chosen) == pytest.approx(3.0)
    with pytest.raises(Untestable, match="at least two of them"):
        POOLED["range_over_seeds"]([runs[0], *runs[3:]], chosen)
    with pytest.raises(Untestable, match="t needs at least two of its values"):
        POOLED["range_over_seeds"](runs[:3], chosen)
    twice = [run(t=t, k=k, seed=0, metrics={ACCURACY: t + k}) for t in (0.0, 3.0) for k in (1, 2)]
    with pytest.raises(Untestable, match="at least two of them"):
        POOLED["range_over_seeds"](twice, chosen)
    mixed = [replace(one, seed=index % 2) for index, one in enumerate(twice)]
    with pytest.raises(Untestable, match="differ in k too"):
        POOLED["range_over_seeds"](mixed, chosen)


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        ({(3.0, 0), (3.0, 1)}, math.inf),
        ({(3.0, 0), (3.0, 1), (6.0, 0)}, math.inf),
        ({(3.0, 0)}, None),
        ({(t, s) for t in (0.0, 3.0, 6.0) for s in (0, 1)}, None),
    ],
)
def test_a_setting_that_diverges_is_no_matter_of_seeds(
    gone: set[tuple[float, int]], expected: float | None
) -> None:
    """The last finite values of diverged runs can be equal, or spread so far that nothing stands out."""
    runs = [
        run(
            t=t,
            seed=s,
            metrics={ACCURACY: 0.5 + 0.001 * s},
            status=Status.DIVERGED if (t, s) in gone else Status.COMPLETED,
        )
        for t in (0.0, 3.0, 6.0)
        for s in (0, 1)
    ]
    chosen = options("range_over_seeds", axis="t", metric=ACCURACY)
    if expected is not None:
        assert POOLED["range_over_seeds"](runs, chosen) == expected
        return
    with pytest.raises(Untestable, match=f"{len(gone)} of 6 cells diverged"):
        POOLED["range_over_seeds"](runs, chosen)


def test_a_final_metric_that_is_missing_says_so() -> None:
    with pytest.raises(Untestable, match="was not recorded"):
        of("final", run())


@pytest.mark.parametrize("least", [0.0, -1.0])
def test_there_are_no_multiples_of_nothing(least: float) -> None:
    values = [least] * 8 + [1.0] * 3
    for name in ("growth", "spike"):
        with pytest.raises(Untestable, match="no multiples"):
            of(name, run({"x": series(values)}), series="x")
    still = run({"sketch/1": series([1.0, 1.0])})
    with pytest.raises(Untestable, match="ends where it began"):
        OF_PAIR["sketch_distance"](still, still, {})
