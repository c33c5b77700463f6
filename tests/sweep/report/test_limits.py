"""Limits that show bands whole, or say that they do not; marks and captions that say what is drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from search_spaces import load_space_text
from search_spaces.reports import CurvesSpec, DensitySpec, PathSpec, ProfileSpec, SpectrumSpec
from sweep import names
from sweep.html import write_html
from sweep.html.data import sweep_data
from sweep.names import Status
from sweep.record import Record
from sweep.report.canvas import Canvas
from sweep.report.curves import draw_curves
from sweep.report.density import draw_density
from sweep.report.limits import limits_of
from sweep.report.path import draw_path
from sweep.report.points import switch_points
from sweep.report.profile import draw_profile
from sweep.report.spectrum import draw_spectrum
from sweep.stated import StatedCells
from tests.browser import CHROMIUM, NO_CHROMIUM, browser
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, ended, grid
from tests.sweep.report.test_panels import recorded

CURVES = CurvesSpec(kind="curves", name="c", lines=("method",))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Canvas]:
    found: list[Canvas] = []
    monkeypatch.setattr(Canvas, "save", lambda canvas, path: found.append(canvas))
    return found


def said(canvas: Canvas) -> str:
    """The caption."""
    return " ".join(canvas.figure.texts[0].get_text().split())


def legend_of(axes: Axes) -> list[tuple[str, str]]:
    """Marker and text of each entry."""
    legend = axes.get_legend()
    assert legend is not None
    markers = [str(handle.get_marker()) for handle in legend.legend_handles]  # type: ignore[union-attr]
    return list(zip(markers, [text.get_text() for text in legend.get_texts()], strict=True))


@pytest.mark.parametrize("logarithmic", [True, False])
def test_bands_are_within_the_limits(logarithmic: bool) -> None:
    mean, std = np.array([4.0, 2.0, 1.0]), np.array([1.0, 1.0, 0.75])
    found = limits_of([mean], [(mean, std)], logarithmic=logarithmic)
    assert found.low < 0.25 and found.high > 5.0
    assert not found.ends_at_axis and not found.cut_off
    alone = limits_of([mean], logarithmic=logarithmic)
    assert 0.7 < alone.low < 1.0 and 4.0 < alone.high <= 5.0


def test_of_a_band_to_zero_the_positive_part_counts_on_a_logarithmic_axis() -> None:
    mean, std = np.array([4.0, 2.0, 1.0]), np.array([1.0, 1.0, 1.5])
    found = limits_of([mean], [(mean, std)], logarithmic=True)
    assert found.ends_at_axis and not found.cut_off
    assert found.low == pytest.approx(1.0 / 1.25) and found.high == pytest.approx(5.0 * 1.25)
    assert not limits_of([mean], [(mean, std)], logarithmic=False).ends_at_axis


@pytest.mark.parametrize("logarithmic", [True, False])
def test_one_huge_band_does_not_press_the_others_flat(logarithmic: bool) -> None:
    mean, std = np.linspace(2.0, 1.0, 20), np.full(20, 0.01)
    std[7] = 1e6
    found = limits_of([mean], [(mean, std)], logarithmic=logarithmic)
    assert found.cut_off and found.high < 10.0
    assert found.ends_at_axis is logarithmic


def test_bands_that_are_all_wide_are_shown_whole() -> None:
    mean, std = np.linspace(1.0, 1.001, 20), np.full(20, 0.5)
    found = limits_of([mean], [(mean, std)], logarithmic=False)
    assert not found.cut_off and found.low < 0.5 and found.high > 1.501


def test_what_diverges_still_leaves_a_panel_with_bands_upwards() -> None:
    mean, std = np.array([1.0, 0.5]), np.array([0.1, 0.1])
    found = limits_of([mean], [(mean, std)], [np.array([1.0, 1e9])], logarithmic=True)
    assert found.high == pytest.approx(8.0 * 1.25) and not found.cut_off


def spread_out(store: Store, level: float = 1.0) -> Record:
    """Two methods of two seeds: 3 and 9 levels, 1 and 100."""
    points = grid("g", {"method": ["SGD", "Bulk-SGD"], "seed": [0, 1]})
    cells = {cell: ended(0.1, seed=axes["seed"]) for _, axes, cell in points}
    for value, cell in zip((3.0, 9.0, 1.0, 100.0), cells.values(), strict=True):
        cell.histories = {"train/loss": [(step, value * level) for step in (0, 200, 400)]}
    return store.record(points, cells)


def test_a_figure_shows_its_bands_and_says_where_they_end(
    store: Store, drawn: list[Canvas], tmp_path: Path
) -> None:
    for log_y in (False, True):
        spec = CURVES.model_copy(update={"log_y": log_y})
        draw_curves(spread_out(store), spec, tmp_path / "c.png")
    for canvas in drawn:
        panel = canvas.figure.axes[0]
        low, high = panel.get_ylim()
        tops = [band.get_paths()[0].get_extents().ymax for band in panel.collections]
        bottoms = [band.get_paths()[0].get_extents().ymin for band in panel.collections]
        assert max(tops) < high and min(bottoms) >= low
    assert max(tops) == pytest.approx(50.5 + 99 / math.sqrt(2)), "not cut"
    linear, logarithmic = map(said, drawn)
    assert "band: ± one standard deviation." in linear
    assert "band: ± one standard deviation, ending at the axis where that reaches below it." in logarithmic
    assert "seeds 0, 1 (mean) ·" in linear


def test_many_lines_have_no_bands_and_their_caption_none(
    store: Store, drawn: list[Canvas], tmp_path: Path
) -> None:
    points = grid("g", {"k": list(range(1, 14)), "seed": [0, 1]})
    cells = {cell: ended(0.1 + axes["seed"], seed=axes["seed"]) for _, axes, cell in points}
    draw_curves(store.record(points, cells), CurvesSpec(kind="curves", name="c"), tmp_path / "c.png")
    assert not drawn[0].figure.axes[0].collections
    assert "band" not in said(drawn[0]) and "deviation" not in said(drawn[0])


def test_means_over_seeds_of_which_none_has_finished_are_named(
    store: Store, drawn: list[Canvas], tmp_path: Path
) -> None:
    points = grid("g", {"method": ["SGD", "Bulk-SGD"], "seed": [0, 1, 2]})
    fates = [Status.COMPLETED] * 3 + [Status.RUNNING, Status.PENDING, Status.PENDING]
    cells: dict[str, StoredCell] = {}
    for (_, axes, cell), fate in zip(points, fates, strict=True):
        cells[cell] = ended(0.1, status=fate, seed=axes["seed"])
        cells[cell].histories = {"train/loss": [(0, 1.0)], "curvature/lambda_1": [(0, 1.0)]}
    record = store.record(points, cells)
    draw_curves(record, CURVES, tmp_path / "c.png")
    draw_spectrum(record, SpectrumSpec(kind="spectrum", name="s", panels=("method",)), tmp_path / "s.png")
    assert ["Bulk-SGD: 1 of 3 seeds, not finished." in said(canvas) for canvas in drawn] == [True, True]
    assert "left out of the means" not in said(drawn[0])
    lines = sweep_data(record)["curves"]["lines"]
    assert [line["series"]["train/loss"]["provisional"] for line in lines] == [0, 1]


def test_unfinished_lines_are_named_by_what_a_colour_bar_shows_and_counted(
    store: Store, drawn: list[Canvas], tmp_path: Path
) -> None:
    points = grid("g", {"method": ["SGD", "Bulk-SGD"], "k": list(range(1, 7)), "seed": [0, 1]})
    cells: dict[str, StoredCell] = {}
    for _, axes, cell in points:
        going = axes["method"] == "SGD" and axes["seed"] == 0
        cells[cell] = ended(0.1, status=Status.RUNNING if going else Status.PENDING, seed=axes["seed"])
        if axes["method"] != "SGD":
            cells[cell] = ended(0.1, seed=axes["seed"])
        cells[cell].histories = {"train/loss": [(0, 1.0)], "train/grad_norm": [(0, 1.0)]}
    record = store.record(points, cells)
    both = ("train/loss", "train/grad_norm")
    draw_curves(record, CURVES.model_copy(update={"lines": ("method", "k"), "metrics": both}), tmp_path / "c")
    named = "; ".join(f"SGD, $k$ = {k}: 1 of 2 seeds, not finished" for k in (1, 2, 3, 4))
    assert f"{named}; 2 more lines over seeds that have not finished." in said(drawn[0])


def conditional(store: Store, switches: Sequence[int | None]) -> Record:
    """One seed of two methods each; the first phase ends on a condition, at these steps as their runs say."""
    points = grid("g", {"method": ["SGD", "Bulk-SGD"], "seed": [0, 1]})
    cells = {cell: ended(0.1, seed=axes["seed"]) for _, axes, cell in points}
    for step, cell in zip(switches, cells.values(), strict=True):
        cell.metrics |= {} if step is None else {names.FINAL_SWITCH_STEP: float(step)}
        cell.histories["curvature/lambda_1"] = [(0, 1.0), (400, 2.0)]
    record = store.record(points, cells)
    text = record.text.replace("until: 100", "until: {chi_above: 0.5, at_most: 100}")
    assert text != record.text
    return replace(record, stated=StatedCells(load_space_text(text)))


def test_switch_points_on_a_condition_are_those_of_the_runs(
    store: Store, drawn: list[Canvas], tmp_path: Path
) -> None:
    record = conditional(store, [None, None, 40, 70])
    found = switch_points(record, range(4), ("method",))
    assert [list(cells.values()) for cells in found.values()] == [[(), ()], [(40,), (70,)]]
    draw_curves(record, CURVES, tmp_path / "c.png")
    draw_spectrum(record, SpectrumSpec(kind="spectrum", name="s", panels=("method",)), tmp_path / "s.png")
    marks = [line.get_xdata()[0] for line in drawn[0].figure.axes[0].lines if line.get_marker() == "D"]  # type: ignore[index]
    assert marks == [40, 70]
    rules = [line.get_xdata()[0] for line in drawn[1].figure.axes[1].lines if line.get_linestyle() == "--"]  # type: ignore[index]
    assert rules == [40, 70]
    assert all("each seed has its own switch point, by a condition" in said(canvas) for canvas in drawn)
    lines = sweep_data(record)["curves"]["lines"]
    assert [line["series"]["train/loss"]["switches"] for line in lines] == [[], [40, 70]]
    plain = spread_out(store)
    draw_curves(plain, CURVES, tmp_path / "c.png")
    assert "switch point" not in said(drawn[2])


def test_the_legend_shows_the_mark_that_is_drawn(store: Store, drawn: list[Canvas], tmp_path: Path) -> None:
    points = grid("g", {"switch_step": [10, 20], "k": [1, 2]})
    record = store.record(points, {cell: ended(0.1, seed=0) for _, _, cell in points})
    by_panel = CurvesSpec(kind="curves", name="c", lines=("k",), panels=("switch_step",))
    by_line = CurvesSpec(kind="curves", name="c", lines=("switch_step",), panels=("k",))
    before = CurvesSpec(kind="curves", name="c", lines=("k",), panels=("switch_step",), max_step=5)
    for spec in (by_panel, by_line, before):
        draw_curves(record, spec, tmp_path / "c.png")
    markers = [[m for m, text in legend_of(c.figure.axes[-1]) if text == "switch point"] for c in drawn]
    assert markers == [["None"], ["D"], []]


def test_a_spectrum_names_all_that_it_draws_beside_its_panel(
    store: Store, drawn: list[Canvas], tmp_path: Path
) -> None:
    points = grid("g", {"seed": [0]})
    cells = {cell: ended(0.1, status=Status.DIVERGED, seed=0) for _, _, cell in points}
    cells[points[0][2]].histories = {
        "curvature/lambda_1": [(0, 1.0), (200, 2.0)], "edge/gd": [(0, 2.0), (200, 2.0)],
    }  # fmt: skip
    spec = SpectrumSpec(kind="spectrum", name="s", overlay=("edge/gd",))
    draw_spectrum(store.record(points, cells), spec, tmp_path / "s.png")
    panel, key, bar = drawn[0].figure.axes
    assert [text for _, text in legend_of(key)] == ["diverged", "switch point", r"$2 / \eta$"]
    drawn[0].figure.draw_without_rendering()
    legend = key.get_legend()
    assert legend is not None and panel.get_legend() is None
    place = legend.get_window_extent()
    assert panel.get_window_extent().x1 < place.x0 and bar.get_window_extent().y1 < place.y0
    assert place.x1 < drawn[0].figure.bbox.x1


Histories = Mapping[str, Sequence[tuple[int, float]]]


def test_names_have_bars_and_no_band(store: Store, drawn: list[Canvas], tmp_path: Path) -> None:
    by_seed: list[Histories] = [
        {"layers/1_a": [(0, 0.2)], "layers/1_b": [(0, 0.5)]},
        {"layers/1_a": [(0, 1.0)], "layers/1_b": [(0, 0.7)]},
    ]
    spec = ProfileSpec(kind="profile", name="p", series="layers/1_<i>", steps=(0,), log_y=True)
    record = recorded(store, by_seed)
    draw_profile(record, spec, tmp_path / "p.png")
    panel = drawn[0].figure.axes[0]
    (bars,) = panel.containers
    assert not any(len(path.vertices) > 2 for one in panel.collections for path in one.get_paths())
    assert bars.has_yerr  # type: ignore[attr-defined]
    assert "bars: ± one standard deviation" in said(drawn[0])
    low, high = panel.get_ylim()
    assert low < 0.6 - 0.8 / math.sqrt(2) and high > 0.6 + 0.8 / math.sqrt(2)


def test_a_band_to_zero_is_drawn_on_a_logarithmic_axis(
    store: Store, drawn: list[Canvas], tmp_path: Path
) -> None:
    by_seed: list[Histories] = [
        {f"spread/gradient_{i}": [(0, value)] for i, value in ((1, small), (2, 1.0), (3, 2.0))}
        for small in (1e-6, 8.0)
    ]
    spec = ProfileSpec(kind="profile", name="p", series="spread/gradient_<i>", steps=(0,), log_y=True)
    draw_profile(recorded(store, by_seed), spec, tmp_path / "p.png")
    panel = drawn[0].figure.axes[0]
    (band,) = panel.collections
    (path,) = band.get_paths()
    assert path.get_extents().ymin == pytest.approx(panel.get_ylim()[0])
    assert "ending at the axis where that reaches below it" in said(drawn[0])


def test_captions_say_what_is_shown_of_the_seeds(store: Store, drawn: list[Canvas], tmp_path: Path) -> None:
    nodes: Histories = {"spectrum/node_1_1": [(0, 2.0)], "spectrum/weight_1_1": [(0, 1.0)]}
    record = recorded(store, [{"x": [(0, 1.0)], "y": [(0, 1.0)], **nodes}] * 2)
    draw_path(record, PathSpec(kind="path", name="p", x="x", y="y"), tmp_path / "p.png")
    draw_density(record, DensitySpec(kind="density", name="d", steps=(0,)), tmp_path / "d.png")
    path, density = map(said, drawn)
    assert "seeds 0, 1 (a line each) ·" in path and "seeds 0, 1 (mean) ·" in density
    assert "deviation" not in path
    assert "u = 0.002 (0.001 of the largest |λ| of a panel)" in density
    assert "Gaussians of standard deviation 0.01 of what the nodes span in asinh(λ / u)" in density
    assert drawn[1].figure.axes[0].get_ylabel() == r"density per unit of asinh($\lambda / u$)"


def test_the_page_shows_bands_within_its_frame(store: Store, tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    path = write_html(spread_out(store), tmp_path)
    boxes = "[...document.querySelectorAll('#curves .curve path[opacity]')].map(p => p.getBBox())"
    frame = "document.querySelector('#inside rect').getBBox()"
    with browser() as page:
        page.open(path.as_uri())
        for _ in ("log", "linear"):
            tops = page.evaluate(f"{boxes}.map(b => b.y)")
            bottoms = page.evaluate(f"{boxes}.map(b => b.y + b.height)")
            top, height = page.evaluate(f"[{frame}.y, {frame}.height]")
            assert len(tops) == 2 and top <= min(tops) and max(bottoms) <= top + height
            page.point_at("#curves input[aria-label='logarithmic values']", click=True)
        assert page.errors == []
