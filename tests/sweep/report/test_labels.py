"""How values, axes, series and grids are written in figures and tables."""

import math

import numpy as np
import pytest

from search_spaces.reports import HeatmapSpec, TableSpec
from sweep import names
from sweep.report.canvas import balanced
from sweep.report.labels import apart, combination, metric_label, number, plain, plain_metric, spaced, spread
from sweep.report.limits import limits_of
from sweep.report.points import grid_names
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, grid

LOSS, ACCURACY = names.FINAL_TRAIN_LOSS, names.FINAL_TEST_ACCURACY
HEAT = HeatmapSpec(kind="heatmap", name="heat", x="alpha_dom", y="beta_bulk")
TABLE = TableSpec(kind="table", name="table", rows=("lr", "holdout_size"), columns="k", reference="sgd")
INF = math.inf


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (INF, "∞"),
        (1.0, "1"),
        (0.05, "0.05"),
        (20000, "20000"),
        (1e-5, "1e-5"),
        ("relu", "relu"),
        (None, "–"),
        (0.1 + 0.2, "0.3"),
    ],
)
def test_axis_values_are_written_plainly(value: float | int | str | None, text: str) -> None:
    assert plain(value) == text


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        (LOSS, 0.00233, "0.00233"),
        (LOSS, 0.000418, "4.18e-4"),
        (LOSS, 12.345, "12.3"),
        (LOSS, 0.22, "0.220"),
        (LOSS, 123.4, "123"),
        (ACCURACY, 0.39594, "39.6"),
    ],
)
def test_values_are_written_short(metric: str, value: float, text: str) -> None:
    assert number(value, metric_label(metric)) == text


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (0.22, 0.0018, "±0.002"),
        (0.16, 0.0002, "±0.0002"),
        (0.16, 1e-6, "±1.0e-6"),
        (4.18e-4, 1e-5, "±1.0e-5"),
    ],
)
def test_a_spread_has_the_places_of_its_mean(mean: float, std: float, text: str) -> None:
    assert spread(std, metric_label(LOSS), mean=mean) == text
    assert spread(0.0123, metric_label(ACCURACY), mean=0.9) == "±1.2"


@pytest.mark.parametrize(("count", "across"), [(0, 1), (1, 1), (3, 3), (4, 2), (5, 3), (6, 3), (7, 3)])
def test_rows_of_panels_are_equally_full(count: int, across: int) -> None:
    assert balanced(count, 3) == across


@pytest.mark.parametrize(
    ("series", "text"),
    [
        ("subspace/top_10_since_100", "overlap of the top 10, since step 100"),
        ("subspace/top_i_since_100", "overlap of the top i, since step 100"),
        ("subspace/next_10_since_0", "overlap of the next 10, since step 0"),
        ("eigenvector/displacement_1_since_2500", "displacement since step 2500"),
        ("distance/since_5000", "distance since step 5000"),
        ("eigenvector/displacement_2_since_0", "eigenvector/displacement_2_since_0"),
    ],
)
def test_series_with_numbers_in_their_names_are_written_in_words(series: str, text: str) -> None:
    assert (metric_label(series).text, metric_label(series).positive) == (text, False)


def test_ratios_of_all_eigenvectors_may_be_logarithmic() -> None:
    assert metric_label("eigenvector/ipr_15").text == "IPR of eigenvector 15"
    assert metric_label("eigenvector/ipr_null_2").text == "IPR of eigenvector 2, null model"
    assert all(metric_label(f"eigenvector/ipr_{name}").positive for name in ("15", "null_2", "random", "i"))


def test_a_line_that_never_changes_is_read_by_its_value() -> None:
    def limits(values: list[float]) -> tuple[float, float]:
        found = limits_of([np.array(values)], logarithmic=False)
        return found.low, found.high

    low, high = limits([1.99467, 1.99467])
    assert high - low > 0.01, "ticks so close are written as an offset and a remainder"
    low, high = limits([0.9990, 0.9999])
    assert high - low < 0.01, "what does change keeps its scale"


def test_combinations_leave_absent_axes_out() -> None:
    assert combination(["method", "k", "lr"], ["Bulk-SGD", None, 0.1]) == r"Bulk-SGD, $\eta$ = 0.1"
    assert combination(["optimizer"], ["gd"]) == "GD"
    assert combination(["method", "lr"], ["Bulk-SGD", 0.1], markup=False) == "Bulk-SGD, η = 0.1"


def test_metrics_have_no_symbols_in_plain_text() -> None:
    assert plain_metric("final/train_loss") == "final training loss"
    assert plain_metric("curvature/lambda_1") == "curvature/lambda_1"


def test_labels_stay_apart_and_the_ends_have_theirs() -> None:
    assert apart([0, 1, 2, 3], 3) == [0, 1, 2, 3]
    assert apart([0, 5, 6, 7, 9.5, 10], 4) == [0, 1, 5]
    assert apart([0, 1, 5, 10], 10) == [0, 1, 2, 3]
    assert apart([3], 10) == [0]


def test_spaced_labels_end_with_the_last() -> None:
    assert spaced(3, 10) == [0, 1, 2]
    assert spaced(12, 9)[-1] == 11
    assert spaced(0, 5) == []


def test_a_grid_is_called_by_its_own_part_of_the_name(store: Store) -> None:
    points = grid("first-200", {"switch_step": [0, 10]}) + grid("first-200-sgd", {"seed": [0]})
    record = store.record(points, {cell: StoredCell() for _, _, cell in points})
    assert grid_names(record, range(3), ("switch_step",))[(None,)] == "SGD"
    assert grid_names(record, [2], ("switch_step",))[(None,)] == "first 200 SGD"
