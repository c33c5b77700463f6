"""The data behind curves, finals and spectra."""

from pathlib import Path

import numpy as np
import pytest

from search_spaces.reports import CurvesSpec, FinalsSpec, SpectrumSpec
from sweep import names
from sweep.html.data import sweep_data
from sweep.names import Status
from sweep.record import Record
from sweep.report.canvas import Canvas
from sweep.report.curve_lines import curves_data
from sweep.report.curves import draw_curves, leaving_point
from sweep.report.finals import CROSS_RIGHT, draw_finals, finals_data
from sweep.report.spectrum import draw_spectrum, spectrum_data
from sweep.report.states import State
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, decay, ended, grid

LOSS = names.FINAL_TRAIN_LOSS


def curve_record(store: Store) -> Record:
    points = grid("g", {"method": ["SGD", "Bulk-SGD"], "seed": [0, 1]}) + grid("none", {"seed": [0]})
    cells: dict[str, StoredCell] = {}
    for name, v, cell in points:
        blow_up = 200 if v.get("method") == "Bulk-SGD" and v["seed"] else None
        status = Status.DIVERGED if blow_up else Status.COMPLETED
        cells[cell] = ended(0.1, status=status, seed=v["seed"])
        cells[cell].histories = {"train/loss": decay(0.01, 400, 10, seed=v["seed"], blow_up=blow_up)}
        if name == "none":
            cells[cell] = StoredCell(status=Status.PENDING)
        for index in (1, 2, 3):
            cells[cell].histories[f"curvature/lambda_{index}"] = [
                (0, 3.0 / index),
                (400, 6.0 / index + v["seed"]),
            ]
    return store.record(points, cells)


CURVES = CurvesSpec(kind="curves", name="curves", lines=("method",))


def test_curves_mean_divergence_and_switches(store: Store) -> None:
    record = curve_record(store)
    (panel,) = curves_data(record, CURVES).panels
    sgd, bulk = panel.lines
    assert (sgd.key, bulk.key) == (("SGD",), ("Bulk-SGD",))
    assert sgd.steps.tolist() == list(range(0, 401, 10))
    runs = [record.outcome(point).run_id for point in (0, 1)]
    histories = record.histories([run for run in runs if run], ["train/loss"])
    expected = np.mean([series.values for series in histories.values()], axis=0)
    np.testing.assert_array_equal(sgd.mean, expected)
    assert (sgd.num_seeds, bulk.num_seeds) == (2, 1)
    assert sgd.switches == bulk.switches == (100,)
    (lost,) = bulk.diverged
    assert lost.steps[-1] < 400
    assert np.isfinite(lost.values).all()


def test_curves_stop_at_max_step(store: Store) -> None:
    (panel,) = curves_data(curve_record(store), CURVES.model_copy(update={"max_step": 90})).panels
    assert all(line.steps.max() == 90 and line.switches == () for line in panel.lines)


def test_a_line_without_the_panel_axis_is_in_every_panel(store: Store) -> None:
    points = grid("switch", {"method": ["Dom", "Bulk"], "switch_step": [10, 20]}) + grid("sgd", {})
    cells = {cell: ended(0.1, seed=0) for _, _, cell in points}
    spec = CurvesSpec(kind="curves", name="c", lines=("switch_step",), panels=("method",))
    data = curves_data(store.record(points, cells), spec)
    assert [(panel.key, [line.key for line in panel.lines]) for panel in data.panels] == [
        (("Dom",), [(None,), (10,), (20,)]),
        (("Bulk",), [(None,), (10,), (20,)]),
    ]
    assert data.fallback[(None,)] == "SGD"


def test_where_a_line_leaves_the_panel() -> None:
    steps, values = np.array([0, 10, 20]), np.array([1.0, 3.0, 7.0])
    assert leaving_point(steps, values, 5.0) == ([15.0], [5.0])
    assert leaving_point(steps, values, 9.0) == ([20.0], [7.0])


def test_finals(store: Store) -> None:
    points = grid("g", {"method": ["Dom", "Bulk"], "switch_step": [100, 0]}) + grid("sgd", {})
    cells = {cell: ended(0.001 * v.get("switch_step", 7) + 0.1, seed=0) for _, v, cell in points}
    spec = FinalsSpec(kind="finals", name="f", x="switch_step", lines=("method",))
    data = finals_data(store.record(points, cells), spec, LOSS)
    assert data.x_values == (0, 100)
    assert [line.key for line in data.lines] == [(None,), ("Dom",), ("Bulk",)]
    assert [place.mean for place in data.lines[1].pools] == [0.1, 0.2]
    assert data.lines[0].level is not None
    assert data.lines[0].level.mean == pytest.approx(0.107)


def test_spectrum(store: Store) -> None:
    spec = SpectrumSpec(kind="spectrum", name="s", panels=("method",), where={"method": ("SGD",)})
    data = spectrum_data(curve_record(store), spec)
    assert data.indices == (1, 2, 3)
    (panel,) = data.panels
    assert panel.lines[2].mean.tolist() == [1.5, 3.5]


LOSS_CURVES = CurvesSpec(kind="curves", name="loss")
UNFINISHED = [one for one in Status if one not in (Status.COMPLETED, Status.DIVERGED, Status.PENDING)]


def two_seeds(store: Store, *statuses: Status) -> Record:
    """One seed of each status, the later the shorter, at the level of its number."""
    points = grid("g", {"seed": list(range(len(statuses)))})
    cells = {}
    for (_, axes, cell), status in zip(points, statuses, strict=True):
        steps = 400 - 200 * axes["seed"]
        cells[cell] = ended(0.1, status=status, seed=axes["seed"], steps=steps)
        series = [(step, 1.0 + axes["seed"]) for step in range(0, steps + 1, 100)]
        cells[cell].histories = {"train/loss": series, "curvature/lambda_1": series}
    return store.record(points, cells)


@pytest.mark.parametrize("status", UNFINISHED)
def test_a_seed_that_has_not_finished_does_not_cut_the_mean_of_those_that_have(
    store: Store, status: Status, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = two_seeds(store, Status.COMPLETED, status)
    ((line,),) = (
        panel.lines for panel in curves_data(record, CURVES.model_copy(update={"lines": ()})).panels
    )
    assert (line.steps.tolist(), set(line.mean.tolist())) == (list(range(0, 401, 100)), {1.0})
    assert (line.num_seeds, line.unfinished) == (1, (record.cell_ids[1],))
    note = "1 seed not finished, left out of the means"
    captions: list[str] = []
    monkeypatch.setattr(
        Canvas, "save", lambda canvas, path: captions.append(canvas.figure.texts[0].get_text())
    )
    draw_curves(record, LOSS_CURVES, tmp_path / "c.png")
    draw_spectrum(record, SpectrumSpec(kind="spectrum", name="s"), tmp_path / "s.png")
    assert [note in " ".join(text.split()) for text in captions] == [True, True]
    (drawn,) = sweep_data(record)["curves"]["lines"]
    assert drawn["series"]["train/loss"]["unfinished"] == 1


def test_seeds_of_which_none_has_completed_are_averaged_as_far_as_all_got(store: Store) -> None:
    record = two_seeds(store, Status.RUNNING, Status.STOPPED)
    ((line,),) = (
        panel.lines for panel in curves_data(record, CURVES.model_copy(update={"lines": ()})).panels
    )
    assert (line.steps.tolist(), line.num_seeds, line.unfinished) == ([0, 100, 200], 2, ())
    assert (line.provisional, line.num_cells) == (record.cell_ids, 2)


def test_an_edge_over_runs_that_all_diverged_is_drawn(store: Store, tmp_path: Path) -> None:
    """It has no mean; the edge is that of each run."""
    record = two_seeds(store, Status.DIVERGED, Status.DIVERGED)
    spec = SpectrumSpec(kind="spectrum", name="s", overlay=("train/loss",))
    draw_spectrum(record, spec, tmp_path / "s.png")
    assert (tmp_path / "s.png").is_file()


@pytest.mark.parametrize(
    ("metrics", "scale"),
    [
        (("test/accuracy", "curvature/chi"), 1.0),
        (("curvature/chi", "test/accuracy"), 1.0),
        (("test/accuracy",), 100.0),
    ],
)
def test_a_panel_of_several_series_has_a_factor_only_if_all_have_it(
    store: Store, metrics: tuple[str, ...], scale: float
) -> None:
    points = grid("g", {"seed": [0]})
    cell = ended(0.1, seed=0)
    cell.histories = {"test/accuracy": [(0, 0.5)], "curvature/chi": [(0, 0.75)]}
    spec = CurvesSpec(kind="curves", name="c", together={"both": {name: name for name in metrics}})
    (panel,) = curves_data(store.record(points, {points[0][2]: cell}), spec).panels
    assert panel.label.scale == scale


def test_finals_fill_what_completed_alone_and_mark_lines_without_the_axis(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    points = grid("g", {"switch_step": [0, 10, 20, 30], "seed": [0, 1]})
    levels = [grid(name, {"seed": [0, 1]}) for name in ("lost", "partly", "whole")]
    ends = {0: Status.COMPLETED, 10: Status.STOPPED, 20: Status.COMPLETED, 30: Status.DIVERGED}
    cells = {cell: ended(0.5, status=ends[axes["switch_step"]]) for _, axes, cell in points}
    cells[points[5][2]] = ended(9.0, status=Status.STOPPED)
    for members, status in zip(levels, (Status.DIVERGED, Status.STOPPED, Status.COMPLETED), strict=True):
        cells |= {cell: ended(0.25) for _, _, cell in members}
        cells[members[0][2]] = ended(0.25, status=status)
    cells[levels[0][1][2]] = ended(9.0, status=Status.DIVERGED)
    record = store.record([*points, *(point for members in levels for point in members)], cells)
    spec = FinalsSpec(kind="finals", name="f", x="switch_step", lines=("grid",))
    data = finals_data(record, spec, LOSS)
    by_grid = {line.key[0]: line for line in data.lines}
    states = [place.state for place in by_grid["g"].pools]
    assert states == [State.OK, State.STOPPED, State.PARTLY_STOPPED, State.DIVERGED]
    assert by_grid["g"].pools[2].mean == 0.5
    drawn: list[Canvas] = []
    monkeypatch.setattr(Canvas, "save", lambda canvas, path: drawn.append(canvas))
    draw_finals(record, spec, tmp_path / "f.png")
    panel, key = drawn[0].figure.axes[:2]
    marked = [
        (str(line.get_marker()), line.get_markerfacecolor() == "white", *map(float, line.get_xdata()))
        for line in panel.lines
        if line.get_marker() in ("o", "X") and len(line.get_xdata())
    ]
    # Of the lines without the axis at the right end: one that diverged, and one without all its seeds.
    assert sorted(marked) == [
        ("X", False, CROSS_RIGHT), ("X", False, 30.0),
        ("o", False, 0.0), ("o", True, 1.0), ("o", True, 10.0, 20.0),
    ]  # fmt: skip
    legend = key.get_legend()
    assert legend is not None
    said = [text.get_text() for text in legend.get_texts()]
    assert {"diverged", "not all completed"} <= set(said)


def test_a_line_without_the_axis_leaves_no_room_beside_the_points(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = grid("switch", {"switch_step": [0, 10, 100, 1000, 10000]}) + grid("sgd", {})
    cells = {cell: ended(0.1) for _, _, cell in points}
    spec = FinalsSpec(kind="finals", name="f", x="switch_step", lines=("grid",))
    drawn: list[Canvas] = []
    monkeypatch.setattr(Canvas, "save", lambda canvas, path: drawn.append(canvas))
    draw_finals(store.record(points, cells), spec, tmp_path / "f.png")
    low, high = drawn[0].figure.axes[0].get_xlim()
    # Of a symmetric log scale: less than a tenth of what lies between 0 and 10 on the left, and in decades.
    assert -10 < low < 0 and 10_000 < high < 30_000


def test_the_spread_of_finals_is_drawn_and_said(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also of a line without the axis; what a logarithmic axis has no room for is cut off, and said to be."""
    seeds = {"seed": [0, 1]}
    points = [*grid("switch", {"switch_step": [0, 10], **seeds}), *grid("sgd", seeds)]
    losses = {"switch": (0.4, 0.6), "sgd": (0.01, 0.99)}
    cells = {cell: ended(losses[name][axes["seed"]]) for name, axes, cell in points}
    drawn: list[Canvas] = []
    monkeypatch.setattr(Canvas, "save", lambda canvas, path: drawn.append(canvas))
    for log_y in (True, False):
        spec = FinalsSpec(kind="finals", name="f", x="switch_step", lines=("grid",), log_y=log_y)
        draw_finals(store.record(points, cells), spec, tmp_path / "f.png")
    said = [" ".join(canvas.figure.texts[0].get_text().split()) for canvas in drawn]
    note = "bars and bands of dashed lines: ± one standard deviation"
    assert f"{note}, ending at a tenth of the mean where that reaches below it." in said[0]
    assert f"{note}." in said[1]
    std = float(np.std([0.01, 0.99], ddof=1))
    for canvas, low in zip(drawn, (0.05, 0.5 - std), strict=True):
        (band,) = canvas.figure.axes[0].patches
        box = band.get_extents().transformed(canvas.figure.axes[0].transData.inverted())
        assert (box.y0, box.y1) == pytest.approx((low, 0.5 + std))


def test_bars_are_said_only_where_there_are_some(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Diverged seeds have last finite values that differ, and a cross in place of a bar."""
    points = grid("switch", {"switch_step": [0, 10], "seed": [0, 1]})
    cells = {
        cell: ended(0.1 + axes["seed"], status=Status.DIVERGED if axes["switch_step"] else Status.COMPLETED)
        for _, axes, cell in points
        if axes["switch_step"] or not axes["seed"]
    }
    captions: list[str] = []
    monkeypatch.setattr(
        Canvas, "save", lambda canvas, path: captions.append(canvas.figure.texts[0].get_text())
    )
    spec = FinalsSpec(kind="finals", name="f", x="switch_step")
    draw_finals(store.record(points, cells), spec, tmp_path / "f.png")
    assert "standard deviation" not in captions[0]


def test_finals_below_zero_are_drawn_on_a_linear_axis(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A loss of one's own may be negative; on a logarithmic axis its bar would end the report."""
    points = grid("main", {"lr": [0.1, 0.2], "seed": [0, 1]})
    losses = [-0.5, -0.7, 0.3, 0.4]
    cells = {cell: ended(loss, seed=at["seed"]) for (_, at, cell), loss in zip(points, losses, strict=True)}
    drawn: list[Canvas] = []
    monkeypatch.setattr(Canvas, "save", lambda canvas, path: drawn.append(canvas))
    spec = FinalsSpec(kind="finals", name="f", x="lr", metrics=("final/train_loss",))
    draw_finals(store.record(points, cells), spec, tmp_path / "f.png")
    assert drawn[0].figure.axes[0].get_yscale() == "linear"
