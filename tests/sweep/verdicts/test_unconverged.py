"""Claims that rest on eigenspaces that had not converged are not tested."""

from sweep.verdicts import Verdict
from tests.sweep.verdicts.synthetic import run, series
from tests.sweep.verdicts.test_judgement import claim, only


def test_eigenvalues_of_a_probe_that_did_not_converge_are_not_tested() -> None:
    history = {"curvature/lambda_1": series([1.0] * 10), "curvature/converged": series([1.0] * 9 + [0.0])}
    spec = claim(statistic={"name": "level", "series": "curvature/lambda_1"})
    assert "10 %" in only(spec, run(history)).note
    other = claim(statistic={"name": "level", "series": "train/loss"})
    assert only(other, run({**history, "train/loss": series([1.0] * 10)})).verdict is Verdict.REPRODUCED


def test_what_other_probes_and_switches_looked_at_has_to_have_converged() -> None:
    unsure = series([1.0] * 9 + [0.0])
    history = {"spread/gradient_1": series([1.0] * 10), "probes/converged": unsure}
    for statistic in ({"name": "level", "series": "spread/gradient_1"},
                      {"name": "total", "series": ["spread/gradient_1"]}):  # fmt: skip
        assert "10 %" in only(claim(statistic=statistic), run(history)).note
    switched = run({"x": series([1.0] * 10), "switch/converged": unsure})
    assert "10 %" in only(claim(), switched).note


def test_what_had_not_converged_where_a_statistic_looks_is_not_tested() -> None:
    """A minimum over few of many measurements may rest on nothing else."""
    history = {
        "curvature/lambda_1": series([1.0] * 100),
        "curvature/converged": series([1.0] * 97 + [0.0] * 3),
    }
    subject = run(history, steps=1000, metrics={"curvature/lambda_1": 1.0})
    least = {"name": "level", "series": "curvature/lambda_1", "reduce": "min", "unit": "steps"}
    assert only(claim(statistic={**least, "stop": 960}), subject).verdict is Verdict.REPRODUCED
    assert "100 %" in only(claim(statistic={**least, "start": 970}), subject).note
    growth = {"name": "growth", "series": "curvature/lambda_1", "late_start": 0.96}
    assert "75 %" in only(claim(statistic=growth), subject).note


def test_a_final_metric_of_a_probe_has_to_have_converged() -> None:
    spec = claim(statistic={"name": "final", "metric": "curvature/lambda_1"})
    for converged, verdict in (
        ([1.0] * 10, Verdict.REPRODUCED),
        ([0.0] + [1.0] * 9, Verdict.NOT_TESTED),
        ([1.0] * 99 + [0.0], Verdict.NOT_TESTED),
    ):
        history = {
            "curvature/lambda_1": series([1.0] * len(converged)),
            "curvature/converged": series(converged),
        }
        assert only(spec, run(history, metrics={"curvature/lambda_1": 1.0})).verdict is verdict


def test_what_other_probes_looked_at_in_between_says_nothing_of_a_series() -> None:
    """One series tells of all probes; a rare one that never converged is lost among a frequent one's rows."""
    rare, frequent = series([1.0] * 2, every=500), series([1.0] * 100)
    unsure = series([0.0] + [1.0] * 49 + [0.0] + [1.0] * 49)
    history = {"eigenvector/ipr_1": rare, "alignment/gradient_chi": frequent, "probes/converged": unsure}
    subject = run(history, steps=1000, metrics={"eigenvector/ipr_1": 1.0, "alignment/gradient_chi": 1.0})
    for statistic, share in (
        ({"name": "level", "series": "eigenvector/ipr_1"}, "100 %"),
        ({"name": "total", "series": ["alignment/gradient_chi", "eigenvector/ipr_1"]}, "100 %"),
        ({"name": "final", "metric": "eigenvector/ipr_1"}, "100 %"),
        # Values of both are there only where the rare one is.
        ({"name": "level", "series": "alignment/gradient_chi", "over": "eigenvector/ipr_1"}, "100 %"),
    ):
        judged = only(claim(statistic=statistic), subject)
        assert (judged.verdict, share in judged.note) == (Verdict.NOT_TESTED, True), statistic
    for statistic in (
        {"name": "level", "series": "alignment/gradient_chi"},
        {"name": "final", "metric": "alignment/gradient_chi"},
    ):
        assert only(claim(statistic=statistic), subject).verdict is Verdict.REPRODUCED


def test_the_last_value_of_a_rare_probe_is_not_the_last_that_any_has_measured() -> None:
    history = {"layers/1_w": series([1.0] * 20, every=50), "probes/converged": series([1.0] * 100)}
    history["probes/converged"].values[95] = 0.0
    spec = claim(statistic={"name": "final", "metric": "layers/1_w"})
    assert "100 %" in only(spec, run(history, steps=1000, metrics={"layers/1_w": 1.0})).note


def test_eigenvalues_do_not_rest_on_what_other_probes_looked_at() -> None:
    history = {name: series([1.0] * 10) for name in ("curvature/lambda_1", "curvature/converged")}
    subject = run(history | {"probes/converged": series([0.0] * 10)})
    spec = claim(statistic={"name": "level", "series": "curvature/lambda_1"})
    assert only(spec, subject).verdict is Verdict.REPRODUCED


def test_a_measurement_of_ones_own_has_to_have_converged() -> None:
    history = {"own/top": series([1.0] * 10), "probes/converged": series([1.0] * 9 + [0.0])}
    for statistic in ({"name": "level", "series": "own/top"}, {"name": "final", "metric": "own/top"}):
        judged = only(claim(statistic=statistic), run(history, metrics={"own/top": 1.0}))
        assert judged.verdict is Verdict.NOT_TESTED


def test_one_in_twenty_is_not_above_the_limit() -> None:
    history = {
        "curvature/lambda_1": series([1.0] * 20),
        "curvature/converged": series([1.0] * 5 + [0.0] + [1.0] * 14),
    }
    spec = claim(statistic={"name": "level", "series": "curvature/lambda_1"})
    assert only(spec, run(history, steps=200)).verdict is Verdict.REPRODUCED


def test_a_partner_has_to_have_converged_where_it_is_looked_at() -> None:
    statistic = {"name": "level", "series": "energy/h", "start": 0, "stop": 50, "unit": "after_switch"}
    spec = claim(statistic=statistic, grids=["switch"], against={}, against_grids=["sgd"])
    energy = series([1.0] * 100)
    unsure = series([1.0] * 50 + [0.0] * 4 + [1.0] * 46)
    switch = run({"energy/h": energy}, grid="switch", switch=500, steps=1000)
    assert (
        "80 %" in only(spec, switch, run({"energy/h": energy, "probes/converged": unsure}, grid="sgd")).note
    )
