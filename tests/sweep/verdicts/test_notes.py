"""What a verdict says besides: from how few seeds it is, what it leaves out, conditions that were not met."""

from dataclasses import replace

from sweep.names import Status
from sweep.verdicts import Run
from tests.sweep.verdicts.synthetic import run
from tests.sweep.verdicts.test_judgement import claim, flat, only
from trainers.cell import Condition, Phase


def test_a_verdict_from_few_seeds_says_so() -> None:
    runs = [flat(1.0, seed=seed) for seed in range(3)]
    assert only(claim(), *runs).note == ""
    assert only(claim(), *runs[:2]).note == "from 2 seeds; the band is for the median of at least 3"
    each = "every seed has to be in the band"
    assert only(claim(every_seed=True), *runs).note == each
    alone = only(claim(every_seed=True), runs[0])
    assert alone.note == f"{each}; from one seed; the band is for at least 3"
    # Several runs of a seed are still of one seed.
    assert "from one seed" in only(claim(), *(flat(1.0, k=k) for k in range(3))).note
    pooled = claim(statistic={"name": "range_over_seeds", "axis": "lr"}, band={"at_least": 1})
    some = [
        run(seed=seed, lr=lr, metrics={"final/test_accuracy": 0.1 * seed + lr})
        for seed in range(2)
        for lr in (1, 2)
    ]
    assert only(pooled, *some).note == "from 2 seeds; the band is for at least 3"


def test_a_verdict_says_how_many_runs_it_leaves_out_and_which_conditions_were_not_met() -> None:
    ranked = claim(statistic={"name": "rank_correlation", "axis": "k"}, band={"at_most": 0})
    runs = [run(k=k, seed=seed, metrics={"final/test_accuracy": -k}) for k in (1, 2) for seed in range(3)]
    lost = [run(k=k, status=Status.DIVERGED) for k in (3, 4)]
    assert only(ranked, *runs, *lost).note == "2 of 8 cells diverged and are left out"
    phases = (Phase(lr=0.1, until=Condition(chi_above=0.5, at_most=40)), Phase(lr=0.1, until=100))

    def switched(seed: int, step: float) -> Run:
        one = flat(1.0, seed=seed)
        assert one.cell is not None
        outcome = replace(one.outcome, metrics={**one.outcome.metrics, "final/switch_step": step})
        return replace(one, cell=replace(one.cell, phases=phases), outcome=outcome)

    found = only(claim(), *(switched(seed, 40.0 - 10 * (seed == 0)) for seed in range(3)))
    assert found.note == "the condition was not met by step 40 in 2 of 3 runs"
