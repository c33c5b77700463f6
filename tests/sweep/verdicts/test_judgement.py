"""From claims to verdicts: bands, seeds, partners, and every reason for not testing."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from search_spaces import load_space
from search_spaces.claims import Band, ClaimSpec
from sweep.names import Status
from sweep.verdicts import Judged, Run, Verdict, claims_csv, claims_markdown, judge, provenance, sensitivity
from sweep.verdicts.provenance import Difference, differences
from tests.sweep.report.test_points import NoArtifacts, record_of
from tests.sweep.verdicts.synthetic import run, series

X = {"name": "level", "series": "x"}


def claim(**fields: Any) -> ClaimSpec:
    given = {"name": "claim", "says": "so", "statistic": X, "band": {"at_least": 0.9}, **fields}
    return ClaimSpec.model_validate({key: value for key, value in given.items() if value is not None})


def flat(value: float, **fields: Any) -> Run:
    return run({"x": series([value] * 11)}, **fields)


def only(spec: ClaimSpec, *runs: Run) -> Judged:
    (judged,) = judge([spec], runs)
    return judged


def test_the_median_over_the_seeds_has_to_be_in_the_band() -> None:
    runs = [flat(value, seed=seed) for seed, value in enumerate((0.5, 0.9375, 1.0))]
    judged = only(claim(), *runs)
    assert (judged.verdict, judged.median) == (Verdict.REPRODUCED, 0.9375)
    assert judged.by_seed == {0: 0.5, 1: 0.9375, 2: 1.0}
    assert only(claim(every_seed=True), *runs).verdict is Verdict.NOT_REPRODUCED
    assert only(claim(), *runs[:1]).verdict is Verdict.NOT_REPRODUCED


@pytest.mark.parametrize(
    ("band", "value", "holds"),
    [
        ({"at_least": 1}, 1.0, True),
        ({"at_most": 1}, 1.1, False),
        ({"at_least": 0, "at_most": 1}, 0.5, True),
        ({"at_least": 0, "at_most": 1}, -0.1, False),
        ({"at_least": 0}, float("nan"), False),
    ],
)
def test_bands(band: dict[str, float], value: float, holds: bool) -> None:
    assert Band.model_validate(band).holds(value) is holds


@pytest.mark.parametrize(
    "fields",
    [
        {"band": None},
        {"within": 0.1},
        {"band": None, "within": 0.1},
        {"band": {}},
        {"band": {"at_least": 2, "at_most": 1}},
        {"statistic": "levl"},
        {"statistic": {"name": "level", "serie": "x"}},
        {"statistic": "share_below"},
    ],
)
def test_a_claim_that_could_not_be_judged_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        claim(**fields)


def test_each_place_is_held_against_its_own_number() -> None:
    spec = claim(
        band=None, within=0.1, entries=[{"at": {"k": 1}, "paper": 0.5}, {"at": {"k": 2}, "paper": 0.5}]
    )
    first, second = judge([spec], [flat(0.55, k=1), flat(0.75, k=2)])
    assert (first.claim, first.verdict) == ("claim [k=1]", Verdict.REPRODUCED)
    assert (second.claim, second.verdict) == ("claim [k=2]", Verdict.NOT_REPRODUCED)


def test_a_run_is_compared_with_that_of_its_seed_and_of_its_other_axes() -> None:
    spec = claim(where={"method": "Bulk"}, against={"method": "SGD"}, band={"at_least": 2, "at_most": 2})
    runs = [
        flat(value * (2 if method == "Bulk" else 1), method=method, lr=lr, seed=seed)
        for value, (lr, seed) in enumerate([(0.1, 0), (0.2, 0), (0.1, 1)], start=1)
        for method in ("Bulk", "SGD")
    ]
    judged = only(spec, *runs)
    assert judged.verdict is Verdict.REPRODUCED
    assert judged.by_seed == {0: 2.0, 1: 2.0}
    less = claim(where={"method": "Bulk"}, against={"method": "SGD"}, compare="difference")
    assert only(less, *runs[:2]).median == 1.0


def test_a_plain_run_is_measured_where_its_partner_switched() -> None:
    spec = claim(
        statistic={**X, "start": 0, "unit": "after_switch"},
        grids=["switch"],
        against={},
        against_grids=["sgd"],
        band={"at_least": 1, "at_most": 1},
    )
    ramp = series([float(i) for i in range(11)])
    runs = [run({"x": ramp}, grid="switch", switch_step=40, switch=40), run({"x": ramp}, grid="sgd")]
    assert only(spec, *runs).verdict is Verdict.REPRODUCED


def test_a_switch_at_the_first_step_is_a_switch() -> None:
    """Its cell has one phase, as that of a plain run; a grid over switch points often begins with it."""
    spec = claim(statistic={**X, "start": 0, "stop": 21, "unit": "after_switch"}, band={"at_most": 3})
    ramp = {"x": series([float(i) for i in range(11)])}
    judged = only(spec, run(ramp, switch_step=0), run(ramp, switch_step=20, switch=20))
    assert judged.verdict is Verdict.REPRODUCED
    assert list(judged.by_seed.values()) == [2.0]
    assert "there is no switch" in only(spec, run(ramp)).note


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([], "no such cell"),
        ([flat(1.0, status=Status.INTERRUPTED)], "1 of 1 cells have not ended"),
        ([flat(1.0, status=Status.DIVERGED)], "1 of 1 cells diverged"),
        ([flat(1.0, status=Status.STOPPED), flat(1.0, seed=1)], "1 of 2 cells were stopped before their end"),
        ([flat(1.0, metrics={"eigenspace/unconverged": 0.06})], "6 % of a run's eigenspace refreshes"),
        ([run()], "x was not recorded"),
    ],
)
def test_what_cannot_be_tested_is_not_tested_and_says_why(runs: list[Run], reason: str) -> None:
    judged = only(claim(), *runs)
    assert judged.verdict is Verdict.NOT_TESTED
    assert reason in judged.note
    assert judged.median is None


@pytest.mark.parametrize("bad", range(3))
def test_a_seed_that_is_no_number_is_not_tested_wherever_it_stands(bad: int) -> None:
    """Of NaN, 1, 1 the median is 1 or NaN, as the seeds happen to stand; infinity has its place."""
    spec = claim(statistic={**X, "over": "y"})

    def over(value: float, seed: int) -> Run:
        return run({"x": series([value] * 11), "y": series([1.0] * 11)}, seed=seed)

    judged = only(spec, *(over(math.nan if seed == bad else 1.0, seed) for seed in range(3)))
    assert (judged.verdict, judged.median) == (Verdict.NOT_TESTED, None)
    assert judged.note == f"the statistic is not a number for seed {bad}"
    judged = only(spec, *(over(math.inf if seed == bad else 1.0, seed) for seed in range(3)))
    assert (judged.verdict, judged.median, judged.by_seed[bad]) == (Verdict.REPRODUCED, 1.0, math.inf)


@pytest.mark.parametrize(
    "statistic",
    ["level", "final", "spike", {"name": "share_diverged"}, {"name": "range_over_seeds", "axis": "lr"}],
)
def test_a_run_that_was_stopped_says_nothing_about_a_whole_one(statistic: Any) -> None:
    history = {"train/loss": series([1.0, 1.0])}
    runs = [
        run(history, seed=seed, lr=lr, metrics={"final/test_accuracy": 1.0, "final/steps": 20}, status=status)
        for seed, status in enumerate((Status.STOPPED, Status.COMPLETED))
        for lr in (0.1, 0.2)
    ]
    assert "2 of 4 cells were stopped" in only(claim(statistic=statistic), *runs).note
    partner = claim(where={"lr": 0.1}, against={"lr": 0.2})
    pair = (flat(1.0, lr=0.1), flat(1.0, lr=0.2, status=Status.STOPPED))
    assert "1 of 1 cells were stopped" in only(partner, *pair).note


def test_no_multiples_are_taken_of_a_loss_that_rises() -> None:
    spec = claim(
        statistic={"name": "drop", "skip": 0, "average": 0},
        where={"method": "Dom"},
        against={"method": "SGD"},
        band={"at_most": 0.1},
    )
    falls, rises = (series([float(value) for value in values]) for values in (range(11, 0, -1), range(1, 12)))
    runs = [
        run({"train/loss": history}, method=method, switch=20)
        for method, history in (("Dom", falls), ("SGD", rises))
    ]
    assert "no multiples" in only(spec, *runs).note


def test_a_partner_that_is_missing_leaves_a_claim_untested() -> None:
    spec = claim(where={"method": "Bulk"}, against={"method": "SGD"})
    assert "found 0 runs to compare with" in only(spec, flat(1.0, method="Bulk")).note


def test_other_thresholds() -> None:
    def ended(name: int, peak: float, reason: str = "") -> Run:
        status = Status.DIVERGED if reason else Status.COMPLETED
        return run({"train/loss": series([1.0, peak, 0.5])}, n=name, status=status, reason=reason)

    exceeded = "the training loss exceeds 10 times its initial value"
    runs = [
        ended(0, 2.0),
        ended(1, 6.0),
        ended(2, 12.0, exceeded),
        ended(3, 25.0, exceeded),
        ended(4, 3.0, "the final training loss is above its initial value"),
    ]
    found = sensitivity(runs, 10.0)
    assert (found.cells, found.diverged, found.at_half, found.at_double, found.open_at_double) == (
        5,
        3,
        4,
        2,
        1,
    )
    assert sorted(found.changed.values()) == [6.0, 12.0]
    # Between evaluation points the rule has seen more than the history has.
    unseen = run({"train/loss": series([1.0, 2.0])}, metrics={"final/peak_loss": 7.0})
    assert sensitivity([unseen], 10.0).at_half == 1


def test_the_threshold_is_that_of_each_cell() -> None:
    """A grid may set another than the space's base."""
    given = run({"train/loss": series([1.0, 7.0, 0.5])})
    assert given.cell is not None
    strict = replace(given, cell_id="strict", cell=replace(given.cell, divergence_factor=100.0))
    found = sensitivity([given, strict], 10.0)
    assert (found.factors, found.at_half) == ((10.0, 100.0), 1)
    text = claims_markdown("", [], found)
    assert "diverged at 10 or 100 times the initial loss; 1 would have at 5 or 50 times; at 20 or 200" in text


def test_the_table_says_what_was_found() -> None:
    judged = judge([claim(name="good"), claim(name="bad", where={"k": 9})], [flat(0.9375, k=1)])
    text = claims_markdown("title", judged, None, ["reduced: something"])
    assert "2 claims: 1 reproduced, 1 not tested." in text
    few = "from one seed; the band is for the median of at least 3"
    assert f"| good | so |  | 0.9375 |  | 1 | >= 0.9 | 1 of 1 | reproduced: {few} |" in text
    assert "not tested: no such cell in this sweep" in text
    assert "- reduced: something" in text
    rows = claims_csv(judged, ["reduced: something", "another"]).splitlines()
    assert rows[0].endswith(",verdict,note,notes")
    assert rows[1] == f"good,so,,0.9375,0.9375,0.9375,1,>= 0.9,1,reproduced,{few},reduced: something; another"
    assert ",>= 0.9,,not tested," in rows[2] and len(rows) == 3


def test_seeds_that_disagree_are_said() -> None:
    runs = [flat(value, seed=seed) for seed, value in enumerate((0.5, 0.75, 1.0))]
    judged = only(claim(), *runs)
    assert (judged.verdict, judged.note) == (Verdict.NOT_REPRODUCED, "1 of 3 seeds in the band")
    assert "| >= 0.9 | 1 of 3 | not reproduced: 1 of 3 seeds in the band |" in claims_markdown(
        "", [judged], None
    )
    assert ",>= 0.9,1,not reproduced," in claims_csv([judged])
    each = only(claim(every_seed=True), *runs)
    assert each.note == "every seed has to be in the band; 1 of 3 seeds in the band"


def test_differences_are_named_by_their_path() -> None:
    expected = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    found = {"a": {"b": 2, "c": [1, 4]}}
    assert list(map(str, differences(found, expected, "base"))) == [
        "`base.a.b`: 2 instead of 1",
        "`base.a.c.1`: 4 instead of 2",
        "`base.d`: nothing instead of 3",
    ]
    assert not list(differences(expected, expected, "base"))


def test_peaks_are_counted_as_the_rule_counts_them() -> None:
    def peak_is_above_half(*losses: float) -> bool:
        return sensitivity([run({"train/loss": series(losses)})], 10.0).at_half == 1

    assert not peak_is_above_half(0.0, 3.0), "there are no multiples of 0"
    assert peak_is_above_half(0.0, math.inf)
    assert peak_is_above_half(-1.0, 4.0) and not peak_is_above_half(-1.0, 2.0)


def test_claims_that_differ_from_the_packages_are_said() -> None:
    record = record_of({"name": "g", "axes": {"lr": [0.1]}})
    space = load_space("grd18-toy", overrides=["claims.along-the-smallest.band.at_least=0.5"])
    said = provenance(replace(record, space_name="grd18-toy", text=space.text))
    assert said[1:] == ["changed: `claims.along-the-smallest.band.at_least`: 0.5 instead of 0.99"]
    words = load_space("grd18-toy", overrides=["claims.along-the-smallest.says=GRD18, in other words"])
    assert provenance(replace(record, space_name="grd18-toy", text=words.text))[1:] == []


@pytest.mark.parametrize(
    ("path", "found", "expected", "kind"),
    [
        ("base.phases.0.until", 100, 200, "reduced"),
        ("base.phases.0.until", 200, 100, "differs"),
        ("base.evaluate_every", 100, 20, "reduced"),
        ("base.probes.alignment.every", 10, 20, "differs"),
        ("base.probes.alignment.holdout_size", 1000, None, "reduced"),
        ("base.phases.0.lr", 0.01, 0.1, "differs"),
        ("base.dataset.name", "mnist-5k", "mnist", "differs"),
        ("grids.main.axes.seed.values", [0], [0, 1, 2], "reduced"),
        ("grids.main.axes.lr.values", [0.3], [0.1, 0.2], "differs"),
        ("grids.other", None, {"axes": {}}, "reduced"),
        ("claims.one.band.at_least", 0.5, 0.99, "changed"),
    ],
)
def test_what_is_called_reduced_is_smaller(path: str, found: Any, expected: Any, kind: str) -> None:
    assert Difference(path, found, expected).kind == kind


def test_commits_that_trained_cells_are_named_where_they_differ() -> None:
    attempts = [{"git_commit": "a", "git_dirty": False}, {"git_commit": "b", "git_dirty": True}]

    class Files(NoArtifacts):
        def get(self, run_id: str, path: str) -> bytes | None:
            return json.dumps({"attempts": attempts}).encode()

    record = record_of({"name": "g", "axes": {"lr": [0.1, 0.2]}})
    record = replace(record, commit="a", dirty=True, artifacts=Files(None))  # type: ignore[arg-type]
    said = provenance(record)
    assert said[0] == "sweep `own`, commit `a`, with changes, 2 completed"
    assert said[1] == "cells were trained at `a`, `b` with changes"
    attempts[:] = [{"git_commit": "a", "git_dirty": True}]
    assert not any("trained at" in line for line in provenance(record))
