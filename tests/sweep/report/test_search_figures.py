"""Figures of a search, drawn from its journal's account."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from search_spaces.search import SearchSpec
from sweep.html import write_html
from sweep.notebook import LoadedSweep
from sweep.record import Record
from sweep.report import make_report
from sweep.report.canvas import Canvas
from sweep.search.account import Account, Trial
from sweep.search.events import Result
from sweep.standing import standing_of
from sweep.standing_view import search_lines
from tests.browser import CHROMIUM, NO_CHROMIUM, browser
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import ended, grid

SEARCH = SearchSpec.model_validate(
    {
        "axes": {
            "lr": {"low": 0.01, "high": 1, "log": True},
            "k": {"low": 2, "high": 4},
            "alpha_dom": [10, 1, math.inf],
            "batch_size": {"choices": {"small": {"batch_size": 10}, "large": {"batch_size": 100}}},
        },
        "objectives": ["final/train_loss", "final/test_accuracy"],
        "sampler": "tpe",
        "cells": 30,
    }
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures that are saved, by the stem of their file."""
    found: dict[str, Figure] = {}
    monkeypatch.setattr(Canvas, "save", lambda canvas, path: found.update({path.stem: canvas.figure}))
    return found


def trial(number: int, **result: object) -> Trial:
    configuration = {
        "lr": 10 ** (-2 + number / 15),
        "k": 2 + number % 3,
        "alpha_dom": (1.0, 10.0, math.inf)[number % 3],
        "batch_size": ("small", "large")[number % 2],
    }
    told = {
        "state": "complete",
        "objectives": (1 / (1 + number), 0.02 * number),
        "spreads": (0.0, 0.0),
        **result,
    }
    return Trial(number=number, configuration=configuration, result=Result(**told), cells_before=number)


@pytest.fixture(scope="module")
def record(store: Store) -> Record:
    """25 configurations that get better; then one that diverged with a huge loss, one stopped, one failed."""
    points = grid("search", {"lr": [0.1]})
    trials = [
        *map(trial, range(25)),
        trial(25, objectives=(1e9, 0.1), diverged=1.0),
        trial(26, state="pruned", objectives=(0.5, 0.2), step=50),
        trial(27, state="failed", objectives=()),
    ]
    account = Account(search=SEARCH, trials=tuple(trials), cells=28, steps=2800, seconds=60.0)
    return replace(store.record(points, {points[0][2]: ended(0.1)}), search=account)


def test_the_history_has_the_best_so_far_and_what_went_wrong_at_its_edge(
    record: Record, drawn: dict[str, Figure], tmp_path: Path
) -> None:
    make_report(record, tmp_path)
    losses, accuracies, front, bars = drawn["search"].axes
    lines = {str(line.get_label()): line for line in losses.lines}
    assert list(lines) == ["completed", "stopped early", "a seed diverged", "failed", "best so far"]
    assert list(lines["best so far"].get_ydata()) == [1 / (1 + n) for n in range(25)] + [1 / 25] * 4
    assert list(lines["a seed diverged"].get_xdata()) == [25] and lines["failed"].get_xdata()[0] == 27
    assert losses.get_ylim()[1] < 10 and losses.get_yscale() == "log" and accuracies.get_yscale() == "linear"
    assert max(accuracies.lines[-1].get_ydata()) == pytest.approx(48), "in per cent"
    assert front.get_legend().get_texts()[0].get_text() == "Pareto front, 1"
    assert len(bars.patches) == 2 * len(SEARCH.axes)


def test_what_was_known_before_does_not_look_like_the_first_that_was_asked_for(
    record: Record, drawn: dict[str, Figure], tmp_path: Path
) -> None:
    assert record.search is not None
    known = [replace(trial(number), number=None, cells_before=0) for number in (3, 4)]
    search = replace(record.search, trials=(*known, *record.search.trials))
    make_report(replace(record, search=search), tmp_path)
    lines = {str(line.get_label()): line for line in drawn["search"].axes[0].lines}
    assert len(lines["known before"].get_xdata()) == 2 and len(lines["completed"].get_xdata()) == 25
    assert lines["known before"].get_markerfacecolor() != lines["completed"].get_markerfacecolor()


def test_lines_go_through_every_axis(record: Record, drawn: dict[str, Figure], tmp_path: Path) -> None:
    make_report(record, tmp_path)
    [axes] = drawn["parallel"].axes
    lines = [list(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 6]
    assert len(lines) == 25
    # The best is drawn last, the first of all is the worst.
    assert lines[-1] == pytest.approx([24 / 30, 0.0, 0.0, 0.0, 0.0, 1.0])
    assert lines[0] == pytest.approx([0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    texts = {text.get_text() for text in axes.texts}
    assert {"small", "large", "∞", "3", "0.1"} <= texts and "2.5" not in texts


def test_a_search_without_results_says_so(record: Record, drawn: dict[str, Figure], tmp_path: Path) -> None:
    nothing = Account(search=SEARCH, trials=(), cells=0, steps=0, seconds=0.0)
    make_report(replace(record, search=nothing), tmp_path)
    for axes in (*drawn["search"].axes[:3], *drawn["parallel"].axes):
        assert axes.texts[0].get_text() == "no configuration has completed yet"
    assert "which axes matter" in drawn["search"].axes[3].texts[0].get_text()


def test_status_names_a_search_as_such(record: Record) -> None:
    standing = standing_of(record)
    assert standing.search is not None
    assert standing.to_json()["search"] == {
        "sampler": "tpe",
        "asked": 28,
        "told": 28,
        "known": 0,
        "budget": "28 of 30 cells",
        "best": standing.search.best,
    }
    first, best = search_lines(standing.search)
    assert "search by tpe: 28 configurations asked for, 28 told; 28 of 30 cells" in first
    assert "best: final/train_loss 0.04, final/test_accuracy 0.48 at lr=" in best


@pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
def test_the_page_shows_the_search(record: Record, tmp_path: Path) -> None:
    path = write_html(record, tmp_path)
    assert "&quot;trials&quot;" in LoadedSweep(record).report(), "a notebook shows the search too"
    with browser() as page:
        page.open(path.as_uri())
        assert page.evaluate("document.querySelectorAll('#search circle.mark').length") == 26
        assert page.evaluate("document.querySelectorAll('#search g.mark').length") == 2
        assert page.evaluate("document.querySelectorAll('#importances rect').length") == 2 * len(SEARCH.axes)
        best = page.evaluate("document.querySelector('#search .best').textContent")
        assert best.startswith("On the Pareto front: final/train_loss 0.04, final/test_accuracy 0.48 at lr=")
        page.choose("#search select[aria-label=objective]", "final/test_accuracy")
        page.point_at("#search circle.mark", 24)
        tip = page.evaluate("document.querySelector('#tip').textContent")
        assert (
            tip.startswith("question 24, completed, among the best\nη = ")
            and "test accuracy [%]: 48.0" in tip
        )
        assert page.errors == []
