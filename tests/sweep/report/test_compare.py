"""Two sweeps side by side: pairs of seeds, spread, and places that only one has."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from sweep import load_sweep
from sweep.compare import Comparison, compare
from sweep.html.comparison import comparison_data, write_comparison
from sweep.names import Status
from sweep.record import load_record
from sweep.report.states import State
from tests.browser import CHROMIUM, NO_CHROMIUM, browser
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import ended, grid
from trainers.errors import ConfigError

LOSS, ACCURACY = "final/train_loss", "final/test_accuracy"


def put(store: Store, losses: dict[tuple[float, int], float], **params: Any) -> str:
    """Store a sweep with these losses by (lr, seed); infinity diverged."""
    points = [point for lr, seed in losses for point in grid("g", {"lr": [lr], "seed": [seed]})]
    cells = {
        cell: ended(
            loss if math.isfinite(loss) else 9.0,
            status=Status.COMPLETED if math.isfinite(loss) else Status.DIVERGED,
            seed=seed,
            **params,
        )
        for (_, _, cell), ((_, seed), loss) in zip(points, losses.items(), strict=True)
    }
    return store.put(points, cells)


@pytest.fixture(scope="module")
def names(store: Store) -> tuple[str, str]:
    first = {(0.1, 0): 0.5, (0.1, 1): 0.7, (0.2, 0): 0.3, (0.2, 1): 0.4, (0.3, 0): 0.2, (0.4, 0): 1.0}
    second = {(0.1, 0): 0.4, (0.1, 1): 0.5, (0.2, 2): 0.1, (0.2, 3): 0.3, (0.3, 0): math.inf, (0.5, 0): 2.0}
    return put(store, first), put(store, second)


@pytest.fixture(scope="module")
def comparison(store: Store, names: tuple[str, str]) -> Comparison:
    first, second = (load_sweep(name, tracking_uri=store.uri) for name in names)
    return first.compare(second)


def test_equal_seeds_are_paired(comparison: Comparison) -> None:
    found = comparison.pairs[0].metrics[LOSS]
    assert found.num_pairs == 2
    assert found.difference == pytest.approx(-0.15) and found.base == pytest.approx(0.6)
    # Of -0.1 and -0.2; the two sweeps' own spreads are larger.
    assert found.spread == pytest.approx(0.1 / math.sqrt(2))


def test_other_seeds_are_compared_by_their_means(comparison: Comparison) -> None:
    found = comparison.pairs[1].metrics[LOSS]
    assert found.num_pairs == 0
    assert found.difference == pytest.approx(0.2 - 0.35)
    assert found.spread == pytest.approx(math.sqrt(0.1**2 / 2 + 0.2**2 / 2))


def test_what_has_no_result_in_one_has_no_difference(comparison: Comparison) -> None:
    by_rate = {pair.axes["lr"]: pair for pair in comparison.pairs}
    assert list(by_rate) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert by_rate[0.3].metrics[LOSS].second.state is State.DIVERGED
    assert math.isnan(by_rate[0.3].metrics[LOSS].difference)
    assert by_rate[0.4].second == () and by_rate[0.5].first == ()
    found = by_rate[0.4].metrics[LOSS]
    assert (found.first.state, found.second.state) == (State.OK, State.ABSENT)


def test_a_table_has_a_row_for_each_place_and_metric(comparison: Comparison) -> None:
    frame = comparison.frame
    assert len(frame) == 10
    row = frame[(frame["lr"] == 0.1) & (frame["metric"] == LOSS)].iloc[0]
    assert (row["first"], row["second"]) == (pytest.approx(0.6), pytest.approx(0.45))
    assert row["difference"] == pytest.approx(-0.15) and row["num_pairs"] == 2


def test_an_axis_of_one_sweep_meets_the_param_of_the_other(store: Store) -> None:
    wide = grid("g", {"batch_size": [10, 50], "seed": [0]})
    first = store.record(wide, {cell: ended(0.1 * size["batch_size"], seed=0) for _, size, cell in wide})
    single = grid("g", {"seed": [0]})
    second = store.record(single, {single[0][2]: ended(1.0, seed=0, batch_size=50)})
    pairs = compare(first, second).pairs
    assert [bool(pair.second) for pair in pairs] == [False, True]
    assert pairs[1].metrics[LOSS].difference == pytest.approx(1.0 - 5.0)


def test_grids_are_never_merged_and_places_do_not_depend_on_the_order(store: Store) -> None:
    """The axis that plain SGD lacks is at the value of a place of the other grid."""
    points = grid("bulk", {"lr": [0.1], "alpha_dom": [1.0]}) + grid("sgd", {"lr": [0.1]})
    both = store.record(points, {cell: ended(0.25 if name == "bulk" else 1.0) for name, _, cell in points})
    alone = grid("sgd", {"lr": [0.1]})
    sgd = store.record(alone, {alone[0][2]: ended(2.0)})
    differences = {}
    for first, second in ((both, sgd), (sgd, both)):
        pairs = {pair.axes["grid"]: pair for pair in compare(first, second).pairs}
        assert set(pairs) == {"bulk", "sgd"}
        assert () in (pairs["bulk"].first, pairs["bulk"].second)
        differences[first.name] = pairs["sgd"].metrics[LOSS].difference
    assert differences == {both.name: 1.0, sgd.name: -1.0}
    other = grid("main", {"lr": [0.1], "alpha_dom": [1.0]})
    unnamed = store.record(other, {other[0][2]: ended(2.0)})
    for first, second in ((both, unnamed), (unnamed, both)):
        with pytest.raises(ConfigError, match=f"{both.name} has bulk, sgd"):
            compare(first, second)


def test_grids_of_other_names_meet_where_their_axes_tell_them_apart(store: Store) -> None:
    points = grid("slow", {"lr": [0.1]}) + grid("fast", {"lr": [0.2]})
    two = store.record(points, {cell: ended(axes["lr"]) for _, axes, cell in points})
    wide = grid("main", {"lr": [0.1, 0.2]})
    one = store.record(wide, {cell: ended(2 * axes["lr"]) for _, axes, cell in wide})
    for first, second in ((one, two), (two, one)):
        found = [abs(pair.metrics[LOSS].difference) for pair in compare(first, second).pairs]
        assert found == pytest.approx([0.1, 0.2])


def test_a_seed_that_was_stopped_early_is_no_pair(store: Store) -> None:
    points = grid("g", {"lr": [0.1], "seed": [0, 1]})
    ends = [(0.5, Status.COMPLETED), (9.0, Status.STOPPED)]
    cells = {
        point[2]: ended(loss, status=status, seed=seed)
        for seed, (point, (loss, status)) in enumerate(zip(points, ends, strict=True))
    }
    stopped = store.record(points, cells)
    whole = load_record(store.uri, put(store, {(0.1, 0): 0.25, (0.1, 1): 0.25}))
    found = compare(whole, stopped).pairs[0].metrics[LOSS]
    assert (found.num_pairs, found.difference, found.base) == (1, 0.25, 0.25)
    assert found.second.state is State.PARTLY_STOPPED


def test_sweeps_without_a_common_place_are_refused(store: Store) -> None:
    one, other = (load_sweep(put(store, {(lr, 0): 0.1}), tracking_uri=store.uri) for lr in (0.1, 0.7))
    with pytest.raises(ConfigError, match=r"0\.1.*0\.7"):
        one.compare(other)


def test_the_page_shows_the_difference(comparison: Comparison, tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    path = write_comparison(comparison, tmp_path / "compare.html")
    assert path.read_bytes() == write_comparison(comparison, tmp_path / "again.html").read_bytes()
    with browser() as page:
        page.open(path.as_uri())
        assert page.evaluate("document.querySelectorAll('#metric-0 .difference').length") == 2
        page.point_at("#metric-0 .difference")
        tip = page.evaluate("document.getElementById('tip').textContent")
        # A tie: the better one of equal differences stands first.
        assert "difference: -0.15" in tip and "±" in tip
        rows = page.evaluate("[...document.querySelectorAll('#metric-0 tbody tr')].map(r => r.textContent)")
        assert len(rows) == 5 and "diverged" in rows[2] and "NaN" not in json.dumps(rows)
        assert "only in" in page.evaluate("document.querySelector('main').textContent")
        assert page.errors == []


def test_data_of_the_page_tell_who_has_a_place(comparison: Comparison) -> None:
    only = [place["only"] for place in comparison_data(comparison)["places"]]
    assert only == [None, None, None, comparison.first.name, comparison.second.name]
