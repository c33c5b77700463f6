"""The data behind every report, the states it tells apart, and the bytes of what is written."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from search_spaces.reports import HeatmapSpec
from sweep import names
from sweep.names import Status
from sweep.record import CellOutcome, Record, load_record
from sweep.report import make_report
from sweep.report.canvas import caption
from sweep.report.heatmap import colour_scale, heatmap_data, readable
from sweep.report.labels import metric_label
from sweep.report.points import unshown_axes
from sweep.report.states import State, pool, state_of
from sweep.report.summary import summary_csv
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, decay, ended, grid
from tests.sweep.report.test_tables import table_record

LOSS, ACCURACY = names.FINAL_TRAIN_LOSS, names.FINAL_TEST_ACCURACY
HEAT = HeatmapSpec(kind="heatmap", name="heat", x="alpha_dom", y="beta_bulk")
INF = math.inf


def outcome(status: Status | None, loss: float = 0.1, **metrics: float) -> CellOutcome:
    """Return an outcome that is not stored anywhere."""
    return CellOutcome(cell_id="c", run_id="r", status=status, metrics={LOSS: loss, **metrics})


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        ([], State.ABSENT),
        ([None], State.MISSING),
        ([Status.COMPLETED, Status.COMPLETED], State.OK),
        ([Status.COMPLETED, Status.DIVERGED], State.PARTLY_DIVERGED),
        ([Status.COMPLETED, Status.PENDING], State.PARTIAL),
        ([Status.COMPLETED, Status.STOPPED], State.PARTLY_STOPPED),
        ([Status.STOPPED, Status.STOPPED], State.STOPPED),
        ([Status.STOPPED, Status.PENDING], State.PARTIAL),
        ([Status.COMPLETED, Status.STOPPED, Status.PENDING], State.PARTIAL),
        ([Status.COMPLETED, Status.STOPPED, Status.DIVERGED], State.PARTLY_DIVERGED),
        ([Status.DIVERGED, Status.DIVERGED], State.DIVERGED),
        ([Status.DIVERGED, Status.PENDING], State.PENDING),
        ([Status.DIVERGED, Status.RUNNING], State.RUNNING),
        ([Status.FAILED, Status.RUNNING], State.FAILED),
        ([Status.INTERRUPTED], State.INTERRUPTED),
    ],
)
def test_state_of_a_place(statuses: list[Status | None], state: State) -> None:
    assert pool([outcome(status) for status in statuses], LOSS).state is state


def test_mean_and_spread_are_over_the_seeds_that_ended_well() -> None:
    found = pool(
        [outcome(Status.COMPLETED, 1.0), outcome(Status.COMPLETED, 3.0), outcome(Status.DIVERGED, 99.0)], LOSS
    )
    assert (found.mean, found.num_values, found.num_diverged, found.num_cells) == (2.0, 2, 1, 3)
    assert found.std == pytest.approx(math.sqrt(2))


def test_a_seed_that_was_stopped_is_no_sample_of_a_whole_one() -> None:
    found = pool([outcome(Status.COMPLETED, 1.0), outcome(Status.STOPPED, 3.0)], LOSS)
    assert (found.mean, found.num_values, found.num_cells) == (1.0, 1, 2)
    found = pool([outcome(Status.STOPPED, 1.0), outcome(Status.STOPPED, 3.0)], LOSS)
    assert (found.mean, found.num_values) == (2.0, 2)


@pytest.mark.parametrize("metric", ["status/diverged", "eigenspace/unconverged"])
def test_what_is_about_diverging_is_over_every_run_that_ended(metric: str) -> None:
    cells = [
        outcome(status, **{metric: float(status is Status.DIVERGED)})
        for status in (Status.COMPLETED, Status.DIVERGED, Status.COMPLETED, Status.DIVERGED)
    ]
    found = pool(cells, metric)
    assert (found.state, found.mean, found.num_values, found.num_diverged) == (State.OK, 0.5, 4, 2)
    assert pool(cells[1::2], metric).mean == 1.0 and pool(cells[1::2], metric).state is State.OK
    assert pool([*cells, outcome(Status.PENDING)], metric).state is State.PARTIAL
    assert metric_label(metric).lower_is_better


def test_diverged_places_keep_their_last_finite_values() -> None:
    found = pool([outcome(Status.DIVERGED, 4.0), outcome(Status.DIVERGED, 6.0)], LOSS)
    assert (found.state, found.mean) == (State.DIVERGED, 5.0)


def test_a_completed_cell_without_the_metric_has_nothing_to_show() -> None:
    assert pool([CellOutcome(cell_id="c", run_id="r", status=Status.COMPLETED)], LOSS).state is State.MISSING


def heat_record(store: Store) -> Record:
    points = grid("g", {"alpha_dom": [INF, 0.5, 2.0], "beta_bulk": [2.0, 1.0], "seed": [1, 0]})
    cells = {cell: ended(0.1, seed=v["seed"]) for _, v, cell in points}
    for _, v, cell in points:
        if v["alpha_dom"] == 0.5:
            seeds_fail = v["beta_bulk"] == 1.0 or v["seed"] == 0
            cells[cell] = ended(
                0.2, status=Status.DIVERGED if seeds_fail else Status.COMPLETED, seed=v["seed"]
            )
        if v["alpha_dom"] == 2.0 and v["beta_bulk"] == 1.0:
            cells[cell] = StoredCell(status=Status.PENDING)
        if v["alpha_dom"] == INF and v["beta_bulk"] == 1.0:
            cells[cell] = ended(0.01 if v["seed"] else 0.03, seed=v["seed"])
    points = [
        point for point in points if not (point[1]["alpha_dom"] == INF and point[1]["beta_bulk"] == 2.0)
    ]
    return store.record(points, {cell: cells[cell] for _, _, cell in points})


def test_heatmap_arrays(store: Store) -> None:
    data = heatmap_data(heat_record(store), HEAT, LOSS)
    assert data.x_values == (0.5, 2.0, INF)
    assert data.y_values == (1.0, 2.0)
    assert data.panel_keys == ((),)
    assert data.states[0].tolist() == [
        [State.DIVERGED, State.PENDING, State.OK],
        [State.PARTLY_DIVERGED, State.OK, State.ABSENT],
    ]
    np.testing.assert_allclose(data.mean[0], [[math.nan, math.nan, 0.02], [0.2, 0.1, math.nan]])
    np.testing.assert_allclose(data.std[0, 0, 2], math.sqrt(2) * 0.01)
    assert data.num_seeds[0].tolist() == [[0, 0, 2], [1, 2, 0]]


def test_panels_and_forgotten_axes_are_told_apart(store: Store) -> None:
    points = grid(
        "g", {"alpha_dom": [1.0], "beta_bulk": [1.0], "k": [20, 5], "lr": [0.1, 0.01], "seed": [0, 1]}
    )
    cells = {cell: ended(v["k"] * v["lr"] / 10, seed=v["seed"]) for _, v, cell in points}
    record = store.record(points, cells)
    data = heatmap_data(record, HEAT.model_copy(update={"panels": "k"}), LOSS)
    assert data.panel_axes == ("k", "lr")
    assert data.panel_keys == ((5, 0.01), (5, 0.1), (20, 0.01), (20, 0.1))
    assert data.mean[:, 0, 0].tolist() == [0.005, 0.05, 0.02, 0.2]
    only = HEAT.model_copy(update={"where": {"k": (5,), "lr": (0.1,)}})
    assert heatmap_data(record, only, LOSS).mean.tolist() == [[[0.05]]]


def test_a_point_without_the_panel_axis_stands_in_every_panel(store: Store) -> None:
    points = grid("g", {"alpha_dom": [1.0], "beta_bulk": [1.0], "k": [5, 10]})
    points += grid("line", {"alpha_dom": [1.0, 2.0], "beta_bulk": [1.0]})
    cells = {cell: ended(float(v.get("k", 7)), seed=0) for _, v, cell in points}
    for cell in cells.values():
        cell.histories = {}
    data = heatmap_data(store.record(points, cells), HEAT.model_copy(update={"panels": "k"}), LOSS)
    assert data.panel_keys == ((5,), (10,))
    assert data.mean[:, 0, :].tolist() == [[5.0, 7.0], [10.0, 7.0]]


def test_points_without_an_axis_of_the_heatmap_are_counted(store: Store) -> None:
    points = grid("g", {"alpha_dom": [1.0], "beta_bulk": [1.0]}) + grid("plain", {"lr": [0.1]})
    data = heatmap_data(store.record(points, {cell: ended(0.1, seed=0) for _, _, cell in points}), HEAT, LOSS)
    assert (data.left_out, data.mean.tolist()) == (1, [[[0.1]]])


def test_grids_that_differ_in_more_than_axes_are_told_apart_by_name(store: Store) -> None:
    points = grid("dom", {"switch_step": [0, 10]}) + grid("bulk", {"switch_step": [0, 10]})
    record = store.record(points, {cell: ended(0.1, seed=0) for _, _, cell in points})
    assert unshown_axes(record, range(4), ["switch_step"]) == ("grid",)
    assert unshown_axes(record, range(2), ["switch_step"]) == ()


def test_one_cell_at_two_places_is_counted_once(store: Store) -> None:
    points = [("g", {"alpha_dom": 1.0, "beta_bulk": 1.0, "k": k}, "same") for k in (5, 10)]
    record = store.record(points, {"same": ended(0.1, seed=3)})
    data = heatmap_data(record, HEAT, LOSS)
    assert (data.num_seeds.tolist(), data.mean.tolist()) == ([[[1]]], [[[0.1]]])
    assert "1 cell: 1 completed" in caption(record, (0, 1))
    assert "seed 3" in caption(record, (0, 1))


def test_colour_scale_is_logarithmic_beyond_a_decade(store: Store) -> None:
    data = heatmap_data(heat_record(store), HEAT, LOSS)
    label = metric_label(LOSS)
    assert type(colour_scale(data, label)[0]).__name__ == "Normalize"
    wide = replace(data, mean=np.array([[[1e-3, 1.0]]]))
    norm, _ = colour_scale(wide, label)
    assert type(norm).__name__ == "LogNorm"
    assert (norm.vmin, norm.vmax) == (1e-3, 1.0)
    assert type(colour_scale(wide, metric_label(ACCURACY))[0]).__name__ == "Normalize"


def test_text_has_the_larger_contrast() -> None:
    assert readable((0.0, 0.0, 0.2, 1.0)) == "#ffffff"
    assert readable((1.0, 1.0, 0.0, 1.0)) == "#111111"


def test_summary_has_every_point_and_no_run(store: Store) -> None:
    record = table_record(store)
    text = summary_csv(record)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 20
    assert rows[0]["grid"] == "bulk"
    assert rows[-1]["holdout_size"] == ""
    assert float(rows[0]["final_test_accuracy"]) == record.outcome(0).metrics[ACCURACY]
    runs = [found.run_id for found in record.outcomes.values()]
    assert not any(run and run in text for run in runs)


def test_caption_calls_out_eigenspaces_that_did_not_converge(store: Store) -> None:
    points = grid("g", {"k": [1, 2], "seed": [0]})
    cells = {cell: ended(0.1, seed=0) for _, _, cell in points}
    for share, cell in zip((0.01, 0.2), cells.values(), strict=True):
        cell.metrics["eigenspace/unconverged"] = share
    record = store.record(points, cells)
    assert "at most 1 % of a run" in caption(record, [0])
    assert "CAUTION" not in caption(record, [0])
    assert "CAUTION: eigenspace refreshes not converged: at most 20 %" in caption(record, [0, 1])
    assert "above 5 % in 1 of 2 cells" in caption(record, [0, 1])
    assert "commit 0123456 · " in caption(record, [0])


ALL_KINDS = [
    {"kind": "heatmap", "name": "heat", "x": "method", "y": "lr", "panels": "k"},
    {"kind": "table", "name": "table", "rows": ["lr"], "columns": "k", "reference": "sgd"},
    {"kind": "curves", "name": "curves", "lines": ["k"], "metrics": ["train/loss", "test/accuracy"]},
    {"kind": "finals", "name": "finals", "x": "lr", "lines": ["method"]},
    {"kind": "spectrum", "name": "spectrum", "highlight": 2},
]
WRITTEN = [
    "figures/heat.png", "figures/table.png", "tables/table.md", "tables/table.csv",
    "figures/curves.png", "figures/finals.png", "figures/spectrum.png", "tables/summary.csv",
]  # fmt: skip


def full_record(store: Store, status: Status | None = None) -> Record:
    points = grid("main", {"method": ["Dom", "Bulk"], "lr": [0.1, 1.0], "k": [5, 10], "seed": [0, 1]})
    points += grid("sgd", {"lr": [0.1, 1.0], "seed": [0, 1]})
    cycle = [
        Status.COMPLETED,
        Status.DIVERGED,
        Status.COMPLETED,
        Status.STOPPED,
        Status.FAILED,
        Status.RUNNING,
    ]
    cells: dict[str, StoredCell] = {}
    for index, (_, v, cell) in enumerate(points):
        cells[cell] = ended(0.1 + 0.01 * index, status=status or cycle[index % len(cycle)], seed=v["seed"])
        blow_up = 100 if cells[cell].status is Status.DIVERGED else None
        cells[cell].histories = {
            "train/loss": decay(0.01, 200, 10, seed=index, blow_up=blow_up),
            "curvature/lambda_1": [(0, 2.0), (100, 3.0)],
            "curvature/lambda_2": [(0, 1.0), (100, math.nan), (200, 1.0)],
        }
    return store.record(points, cells, ALL_KINDS)


LIKE_PENDING = {Status.RUNNING, Status.INTERRUPTED}
"""Drawn as those that wait, with another word; the mixed record has them all."""


@pytest.mark.parametrize("status", [None, *(one for one in Status if one not in LIKE_PENDING)])
def test_every_report_comes_out_in_any_state(store: Store, tmp_path: Path, status: Status | None) -> None:
    written = make_report(full_record(store, status), tmp_path)
    assert [str(file.path.relative_to(tmp_path)) for file in written] == WRITTEN
    for file in written:
        assert file.path.parent.name == file.artifact_dir
        if file.path.suffix == ".png":
            assert image.imread(file.path).std() > 0.01


def test_the_same_record_gives_the_same_bytes(store: Store, tmp_path: Path) -> None:
    record = full_record(store)
    first = make_report(record, tmp_path / "one")
    # Read from MLflow a second time, into another folder.
    second = make_report(load_record(store.uri, record.name), tmp_path / "elsewhere" / "two")
    for left, right in zip(first, second, strict=True):
        assert left.path.read_bytes() == right.path.read_bytes(), left.path.name
    assert b"matplotlib" not in first[0].path.read_bytes()


def test_a_changed_value_changes_the_figure(store: Store, tmp_path: Path) -> None:
    report = [HEAT.model_dump(exclude={"grids", "title"})]
    bytes_of = []
    for loss in (0.1, 0.2):
        # New cells each time: a cell has one run in a store.
        points = grid("g", {"alpha_dom": [1.0, 2.0], "beta_bulk": [1.0]})
        cells = {cell: ended(loss * v["alpha_dom"], seed=0) for _, v, cell in points}
        record = replace(store.record(points, cells, report), name="same")
        bytes_of.append(make_report(record, tmp_path / str(loss))[0].path.read_bytes())
    assert bytes_of[0] != bytes_of[1]


def test_a_single_cell_draws(store: Store, tmp_path: Path) -> None:
    points = grid("g", {"method": ["SGD"], "lr": [0.1], "k": [5]})
    reports = [{**report, "reference": None} if report["kind"] == "table" else report for report in ALL_KINDS]
    record = store.record(points, {cell: ended(0.1, seed=0) for _, _, cell in points}, reports)
    assert len(make_report(record, tmp_path)) == len(WRITTEN)


def test_the_users_style_sheet_does_not_matter(store: Store, tmp_path: Path) -> None:
    import matplotlib

    record = full_record(store)
    plain_bytes = make_report(record, tmp_path / "plain")[0].path.read_bytes()
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 50}):
        assert make_report(record, tmp_path / "styled")[0].path.read_bytes() == plain_bytes
        assert matplotlib.rcParams["font.size"] == 20


def test_a_missing_status_is_a_missing_place() -> None:
    assert state_of(outcome(None)) is State.MISSING
