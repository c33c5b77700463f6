"""Which points of a history reach MLflow: the same ones however it is cut into commits."""

import pytest

from sweep.thinning import POINTS_PER_SERIES, Thinning
from tests.sweep.small_sweep import history


@pytest.mark.parametrize("cuts", [[20_000], [7, 8, 5_000, 19_999, 20_000], list(range(100, 20_001, 100))])
def test_thinning_does_not_depend_on_how_the_history_is_cut(cuts: list[int]) -> None:
    def choose(cuts: list[int]) -> list[tuple[str, int]]:
        thinning, start, chosen = Thinning(20_000), 0, []
        for stop in cuts:
            table = history(start, stop, last=stop == cuts[-1], every=3)
            chosen += [(metric.key, metric.step) for metric in thinning.choose(table, ended=stop == cuts[-1])]
            start = stop
        return sorted(chosen)

    whole = choose([20_000])
    assert choose(cuts) == whole
    losses = [step for key, step in whole if key == "train/loss"]
    assert POINTS_PER_SERIES <= len(losses) <= POINTS_PER_SERIES + 2
    assert losses[0] == 0
    assert losses[-1] == 19_998
    assert len(set(whole)) == len(whole)


def test_a_short_history_is_not_thinned() -> None:
    table = history(0, 100, last=True, every=1)
    chosen = [metric.step for metric in Thinning(100).choose(table, ended=True) if metric.key == "train/loss"]
    assert chosen == list(range(101))
