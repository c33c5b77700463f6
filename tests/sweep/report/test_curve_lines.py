"""Quotients, several series in one panel, error bars, and distances between runs: the data behind them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from search_spaces import load_space_text
from search_spaces.reports import CurvesSpec, SeparationSpec, series_of
from sweep.names import Status
from sweep.record import Record
from sweep.report.canvas import Canvas
from sweep.report.curve_lines import curves_data
from sweep.report.curves import draw_curves, last_step
from sweep.report.labels import metric_label
from sweep.report.separation import separation_data
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import ended, grid
from tests.sweep.report.test_panels import recorded
from trainers.errors import ConfigError

Values = Mapping[str, Sequence[tuple[int, float]]]
ENERGIES: list[Values] = [
    {
        "energy/h": [(0, 4.0), (10, 8.0), (20, 10.0)],
        "energy/h_error": [(0, 0.4), (10, 0.8), (20, 1.0)],
        "energy/dom_h": [(0, 3.0), (20, 5.0)],
    },
    {
        "energy/h": [(0, 4.0), (10, 8.0), (20, 20.0)],
        "energy/h_error": [(0, 0.3), (10, 0.6), (20, 2.0)],
        "energy/dom_h": [(0, 1.0), (20, 5.0)],
    },
]
SHARE = "energy/dom_h over energy/h"


def energies(store: Store) -> Record:
    points = grid("main", {"seed": [0, 1]})
    cells = {cell: ended(0.1, seed=values["seed"]) for _, values, cell in points}
    for cell, histories in zip(cells.values(), ENERGIES, strict=True):
        cell.histories |= dict(histories)
    return store.record(points, cells)


def test_a_quotient_is_taken_run_by_run_where_both_series_are(store: Store) -> None:
    spec = CurvesSpec(kind="curves", name="c", metrics=(SHARE,))
    ((line,),) = (panel.lines for panel in curves_data(energies(store), spec).panels)
    assert line.steps.tolist() == [0, 20], "the Dominant energy was not measured at step 10"
    # The mean of 5/10 and 5/20, and not 5 over the mean of 10 and 20.
    assert line.mean.tolist() == pytest.approx([(0.75 + 0.25) / 2, (0.5 + 0.25) / 2])
    assert np.isnan(line.error).all(), "no error bars were asked for"


def test_a_cross_is_where_the_cell_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It diverged at step 5, between the evaluations at steps 0 and 25; another went on."""
    points = grid("main", {"lr": [0.1, 9]})
    cells = {points[0][2]: ended(0.1), points[1][2]: ended(0.5, status=Status.DIVERGED, steps=5)}
    cells[points[1][2]].histories["train/loss"] = [(0, 0.5)]
    record = store.record(points, cells)
    spec = CurvesSpec(kind="curves", name="c", metrics=("train/loss",), lines=("lr",))
    ((_, lost),) = (panel.lines for panel in curves_data(record, spec).panels)
    assert (lost.diverged[0].steps.tolist(), lost.ends) == ([0], (5,))
    drawn: list[Canvas] = []
    monkeypatch.setattr(Canvas, "save", lambda canvas, path: drawn.append(canvas))
    draw_curves(record, spec, tmp_path / "c.png")
    [axes] = drawn[0].figure.axes[:1]
    crosses = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "X"]
    dotted = [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == ":"]
    assert (crosses, dotted) == ([[5.0]], [[0.0, 5]])
    assert drawn[0].figure.texts[1].get_text() == "A space of the tests: c", "a report without a title"


def test_series_of_one_panel_are_lines_with_looks_of_their_own_in_all_panels(store: Store) -> None:
    together = {
        "total": {"H": "energy/h", "loss": "train/loss"},
        "share": {"H": SHARE},
    }
    data = curves_data(energies(store), CurvesSpec(kind="curves", name="c", together=together))
    total, share = data.panels
    assert [line.key for line in total.lines] == [("H",), ("loss",)]
    assert [line.key for line in share.lines] == [("H",)]
    assert (total.label.text, share.label.text) == ("total", "share")
    assert (total.label.positive, share.label.positive) == (True, False), "a share is drawn on a linear axis"
    assert data.line_axes == ("series",)


def test_error_bars_are_those_of_the_mean_of_the_estimates(store: Store) -> None:
    spec = CurvesSpec(kind="curves", name="c", metrics=("energy/h", "energy/dom_h", SHARE), error_bars=True)
    whole, exact, share = (panel.lines[0] for panel in curves_data(energies(store), spec).panels)
    assert whole.error.tolist() == pytest.approx(
        [math.hypot(0.4, 0.3) / 2, math.hypot(0.8, 0.6) / 2, math.hypot(1, 2) / 2]
    )
    assert np.isnan(exact.error).all(), "nothing is estimated within the Dominant subspace"
    # A tenth of the first seed's share, and 7.5 % and a tenth of the second's.
    assert share.error.tolist() == pytest.approx(
        [math.hypot(0.075, 0.25 * 0.075) / 2, math.hypot(0.05, 0.025) / 2]
    )


def test_a_quotient_is_written_as_one() -> None:
    assert list(series_of(SHARE)) == ["energy/dom_h", "energy/h"]
    assert list(series_of("train/loss")) == ["train/loss"]
    label = metric_label(SHARE)
    assert (label.text, label.positive) == (r"$\|H\|_{S_k}^2$ / $\|H\|_F^2$", False)


def test_metrics_and_together_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="`metrics` and `together`"):
        CurvesSpec(kind="curves", name="c", metrics=("train/grad_norm",), together={"a": {"b": "train/loss"}})


HEAD = """name: own
description: A space of the tests.
base:
  model: mlp
  dataset: mnist-5k
  probes: [{}]
  phases: [{{lr: 0.1, until: 10}}]
axes: {{optimizer: [sgd, gd]}}
reports:
  - {}
"""


@pytest.mark.parametrize(
    ("probe", "report", "problem"),
    [
        ("energies", f"{{kind: curves, name: c, metrics: [{SHARE}], error_bars: true}}", None),
        ("energies", "{kind: curves, name: c, together: {a: {b: energy/h_o, c: train/loss}}}", None),
        (
            "energies",
            "{kind: curves, name: c, metrics: [energy/h over energies]}",
            "unknown metric 'energies'",
        ),
        ("energies", "{kind: curves, name: c, together: {a: {b: energ/h}}}", "unknown metric 'energ/h'"),
        ("energies", "{kind: curves, name: c, together: {a: {}}}", "together.a: found no series"),
        ("energies", "{kind: curves, name: c, panels: [optimiser]}", "panels.0.: unknown axis 'optimiser'"),
        ("curvature", "{kind: curves, name: c, error_bars: true}", "error_bars: no shown series"),
        ("sketch", "{kind: separation, name: s, between: optimizer}", None),
        ("energies", "{kind: separation, name: s, between: optimizer}", "shows 'sketch' series"),
        ("sketch", "{kind: separation, name: s, between: 3}", r"reports\.0\.between: expected text"),
        ("sketch", "{kind: seperation, name: s, between: optimizer}", "Did you mean 'separation'"),
        ("sketch", "{kind: separation, name: s, between: optimiser}", "between: unknown axis 'optimiser'"),
    ],
)
def test_what_a_space_may_ask_for(probe: str, report: str, problem: str | None) -> None:
    text = HEAD.format(probe, report)
    if problem is None:
        load_space_text(text)
    else:
        with pytest.raises(ConfigError, match=problem):
            load_space_text(text)


def test_distances_are_from_the_start_and_between_runs_of_one_seed(store: Store) -> None:
    still = [(0, 1.0), (10, 1.0), (20, 1.0)]
    ways: list[Values] = [
        {"sketch/1": [(0, 0.0), (10, 3.0), (20, 6.0)], "sketch/2": [(0, 0.0), (10, 4.0), (20, 8.0)]},
        {"sketch/1": [(0, 0.0), (20, 6.0)], "sketch/2": [(0, 0.0), (20, 0.0)]},
        {"sketch/1": still, "sketch/2": still},
        {"sketch/1": [(0, 1.0), (20, 3.0)], "sketch/2": [(0, 1.0), (20, 1.0)]},
    ]
    axes = {"seed": [0, 1], "optimizer": ["gd", "sgd"]}
    report = {"kind": "separation", "name": "s", "between": "optimizer"}
    record = recorded(store, ways, axes=axes)
    spec = SeparationSpec(**report)  # type: ignore[arg-type]
    (panel,) = separation_data(record, spec).panels
    lines = {line.label: line for line in panel.lines}
    assert list(lines) == ["GD from its start", "SGD from its start", "GD from SGD"]
    assert lines["GD from its start"].x.tolist() == [0, 10, 20]
    assert lines["GD from its start"].mean.tolist() == [0.0, 2.5, 5.0]
    assert lines["SGD from its start"].mean.tolist() == [0.0, 4.0]
    assert lines["GD from SGD"].x.tolist() == [0, 20], "at the steps of both"
    assert lines["GD from SGD"].mean.tolist() == [0.0, 5.0], "the mean of 8 and 2"
    assert lines["GD from SGD"].std[1] == pytest.approx(math.sqrt(18))


def test_runs_that_have_not_completed_end_no_line_of_distances(store: Store) -> None:
    whole: Values = {"sketch/1": [(0, 0.0), (10, 3.0), (20, 6.0)]}
    record = recorded(store, [whole, {"sketch/1": [(0, 0.0), (10, 9.0)]}])
    lost = record.cell_ids[1]
    outcomes = {**record.outcomes, lost: replace(record.outcomes[lost], status=Status.DIVERGED)}
    spec = SeparationSpec(kind="separation", name="s", between="grid")
    data = separation_data(replace(record, outcomes=outcomes), spec)
    assert data.panels[0].lines[0].x.tolist() == [0, 10, 20]
    assert data.notes == ("1 run not completed, left out",)


def test_a_mean_that_ends_with_its_first_seed_says_so_and_shows_all_switches(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As of a moving average that is recorded until the condition is met."""
    points = grid("main", {"seed": [0, 1]})
    cells = {cell: ended(0.1, seed=values["seed"]) for _, values, cell in points}
    for cell, end in zip(cells.values(), (20, 40), strict=True):
        cell.histories["switch/ema"] = [(step, step / 100) for step in range(0, end + 1, 10)]
    record = store.record(points, cells)
    spec = CurvesSpec(kind="curves", name="c", metrics=("switch/ema",))
    ((line,),) = (panel.lines for panel in curves_data(record, spec).panels)
    assert line.cut and line.steps.tolist() == [0, 10, 20]
    assert last_step(replace(line, switches=(20, 40))) == 40
    assert last_step(replace(line, switches=(20, 4000), provisional=("a",))) == 20, "still to come"
    said: list[str] = []
    monkeypatch.setattr("sweep.report.curves.caption", lambda *notes, **_: said.extend(map(str, notes)) or "")
    draw_curves(record, spec, tmp_path / "c.png")
    assert "lines of switch/ema end where the first of their seeds' does" in "; ".join(said)


def test_a_run_that_diverges_beyond_what_is_shown_is_one_of_the_mean(store: Store) -> None:
    points = grid("main", {"seed": [0, 1]})
    ends = (Status.COMPLETED, Status.DIVERGED)
    cells = {
        cell: ended(0.1, status=status, steps=90, seed=values["seed"])
        for (_, values, cell), status in zip(points, ends, strict=True)
    }
    for cell in cells.values():
        cell.histories["train/loss"] = [(0, 1.0), (50, 2.0), (90, 3.0)]
    record = store.record(points, cells)
    spec = CurvesSpec(kind="curves", name="c", metrics=("train/loss",))
    for max_step, seeds in ((50, 2), (None, 1)):
        one = spec.model_copy(update={"max_step": max_step})
        ((line,),) = (panel.lines for panel in curves_data(record, one).panels)
        assert (line.num_seeds, len(line.diverged)) == (seeds, 2 - seeds)


def test_a_run_without_a_sketch_is_left_out(store: Store) -> None:
    record = recorded(store, [{"x": [(0, 1.0)]}])
    spec = SeparationSpec(kind="separation", name="s", between="seed")
    (panel,) = separation_data(record, spec).panels
    assert panel.lines == ()
