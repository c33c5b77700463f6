"""The data behind every report, the states it tells apart, and the bytes of what is written."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from search_spaces.reports import HeatmapSpec, TableSpec
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
from sweep.report.table import table_csv, table_data, table_markdown
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, decay, ended, grid

LOSS, ACCURACY = names.FINAL_TRAIN_LOSS, names.FINAL_TEST_ACCURACY
HEAT = HeatmapSpec(kind="heatmap", name="heat", x="alpha_dom", y="beta_bulk")
TABLE = TableSpec(kind="table", name="table", rows=("lr", "holdout_size"), columns="k", reference="sgd")
INF = math.inf


def outcome(status: Status | None, loss: float = 0.1, **metrics: float) -> CellOutcome:
    """Return an outcome that is not stored anywhere."""
    return CellOutcome(cell_id="c", run_id="r", status=status, metrics={LOSS: loss, **metrics})


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        ([], State.MISSING),
        ([None], State.MISSING),
        ([Status.COMPLETED, Status.COMPLETED], State.OK),
        ([Status.COMPLETED, Status.DIVERGED], State.PARTLY_DIVERGED),
        ([Status.COMPLETED, Status.PENDING], State.PARTIAL),
        ([Status.COMPLETED, Status.STOPPED], State.STOPPED),
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


def table_record(store: Store, **changes: StoredCell) -> Record:
    points = grid("bulk", {"lr": [0.1, 0.01], "holdout_size": [200, 500], "k": [5, 1], "seed": [0, 1]})
    points += grid("sgd", {"lr": [0.01, 0.1], "seed": [0, 1]})
    cells: dict[str, StoredCell] = {}
    for _, v, cell in points:
        accuracy = 0.30 + 0.01 * v.get("k", 9) - v["lr"] + 0.002 * v["seed"]
        cells[cell] = ended(0.1, accuracy, seed=v["seed"])
        if v["lr"] == 0.1 and v.get("k") == 5 and v["holdout_size"] == 200:
            cells[cell] = ended(0.1, 0.99, status=Status.DIVERGED, seed=v["seed"])
        if v["lr"] == 0.1 and v.get("k") == 5 and v["holdout_size"] == 500 and v["seed"]:
            cells[cell] = ended(0.1, 0.99, status=Status.DIVERGED, seed=v["seed"])
    return store.record(points, cells, **changes)


def test_table_arrays_reference_and_best(store: Store) -> None:
    data = table_data(table_record(store), TABLE)
    assert data.row_keys == ((0.01, 200), (0.01, 500), (0.1, 200), (0.1, 500))
    assert data.columns == (1, 5, None)
    assert data.pools[0][0].mean == pytest.approx(0.301)
    assert data.pools[0][2] == data.pools[1][2]
    assert data.pools[0][2].mean == pytest.approx(0.381)
    assert data.pools[2][1].state is State.DIVERGED
    assert data.pools[3][1].state is State.PARTLY_DIVERGED
    # 99 % of a diverged run is not the best of its block.
    assert data.best == {(0, 2), (1, 2), (2, 2), (3, 2)}


def test_table_markdown(store: Store) -> None:
    record = table_record(store)
    lines = table_markdown(record, TABLE, table_data(record, TABLE)).splitlines()
    assert "| η | l | k = 1 | k = 5 | SGD |" in lines
    assert "| 0.01 | 200 | 30.10 ± 0.14 | 34.10 ± 0.14 | **38.10 ± 0.14** |" in lines
    assert "| 0.01 | 500 | 30.10 ± 0.14 | 34.10 ± 0.14 | 〃 |" in lines
    diverged = '<span style="color:red">99.00 ± 0.00†</span>'
    assert f"| 0.1 | 200 | 21.10 ± 0.14 | {diverged} | **29.10 ± 0.14** |" in lines
    assert "| 0.1 | 500 | 21.10 ± 0.14 | 25.00‡ | 〃 |" in lines
    assert any(line.startswith("† the loss diverged") for line in lines)


def test_points_without_a_column_are_counted(store: Store) -> None:
    record = table_record(store)
    assert table_data(record, TABLE).left_out == 0
    alone = TABLE.model_copy(update={"reference": None})
    data = table_data(record, alone)
    assert (data.left_out, data.columns) == (4, (1, 5))
    assert "4 grid points without k are not shown" in table_markdown(record, alone, data)


def test_table_csv_is_raw(store: Store) -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(table_data(table_record(store), TABLE)))))
    assert len(rows) == 12
    first = rows[0]
    assert (first["lr"], first["holdout_size"], first["k"], first["status"]) == (
        "0.01",
        "200",
        "1",
        "completed",
    )
    assert float(first["mean"]) == np.mean([0.30 + 0.01 - 0.01, 0.30 + 0.01 - 0.01 + 0.002])
    assert [row["status"] for row in rows if row["lr"] == "0.1" and row["k"] == "5"] == [
        "diverged",
        "some seeds diverged",
    ]


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
