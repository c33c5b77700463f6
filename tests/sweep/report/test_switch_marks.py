"""Switch points on a condition stand on what is drawn of the runs that met it there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces import load_space_text
from search_spaces.reports import CurvesSpec, SpectrumSpec
from sweep import names
from sweep.html import write_html
from sweep.html.data import sweep_data
from sweep.names import Status
from sweep.record import Record
from sweep.report.canvas import Canvas
from sweep.report.curve_lines import curves_data
from sweep.report.curves import draw_curves
from sweep.report.points import switch_note
from sweep.report.spectrum import draw_spectrum
from sweep.stated import StatedCells
from tests.browser import CHROMIUM, NO_CHROMIUM, browser
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import ended, grid

CURVES = CurvesSpec(kind="curves", name="c", lines=("method",))
SPECTRUM = SpectrumSpec(kind="spectrum", name="s", panels=("method",))
ENDED, LOST = (Status.COMPLETED, 400), (Status.DIVERGED, 300)

Seed = tuple[tuple[Status, int], int | None]
"""How a seed ended and where, and the step at which it met its condition."""

BOTH_LOST: list[Seed] = [(LOST, 40), (LOST, 70)]
ONE_LOST: list[Seed] = [(ENDED, None), (ENDED, None), (LOST, 90)]
EACH_ITS_OWN: list[Seed] = [(ENDED, 40), (ENDED, 70), (LOST, 90), ((Status.RUNNING, 350), 20)]


def switched(store: Store, by_method: Mapping[str, Sequence[Seed]]) -> Record:
    """Seeds whose first phase ends on a condition; seed i stays at the level i + 1."""
    points = [
        point
        for method, seeds in by_method.items()
        for point in grid("g", {"method": [method], "seed": list(range(len(seeds)))})
    ]
    given = [seed for seeds in by_method.values() for seed in seeds]
    cells = {}
    for (_, axes, cell), ((status, end), step) in zip(points, given, strict=True):
        cells[cell] = ended(0.1, status=status, steps=end, seed=axes["seed"])
        cells[cell].metrics |= {} if step is None else {names.FINAL_SWITCH_STEP: float(step)}
        series = [(at, 1.0 + axes["seed"]) for at in range(0, end + 1, 10)]
        cells[cell].histories = {"train/loss": series, "curvature/lambda_1": series}
    record = store.record(points, cells)
    text = record.text.replace("until: 100", "until: {chi_above: 0.5, at_most: 100}")
    return replace(record, stated=StatedCells(load_space_text(text)))


@pytest.mark.parametrize(
    ("seeds", "of_mean", "of_lost", "marks", "rules"),
    [
        (BOTH_LOST, [], [[40], [70]], [(40, 1.0), (70, 2.0)], [40, 70]),
        (ONE_LOST, [], [[90]], [(90, 3.0)], []),
        (EACH_ITS_OWN, [40, 70], [[90]], [(40, 1.5), (70, 1.5), (90, 3.0)], [40, 70]),
    ],
)
def test_what_is_drawn_has_the_switch_points_of_its_own_runs(
    seeds: Sequence[Seed],
    of_mean: list[int],
    of_lost: list[list[int]],
    marks: list[tuple[float, float]],
    rules: list[int],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    record = switched(store, {"Dom-SGD": seeds})
    ((line,),) = (panel.lines for panel in curves_data(record, CURVES).panels)
    assert list(line.switches) == of_mean and [list(own) for own in line.own_switches] == of_lost
    early = CURVES.model_copy(update={"max_step": 60})
    ((cut,),) = (panel.lines for panel in curves_data(record, early).panels)
    # Those that diverge later are, up to there, runs like the others.
    shown = {step for own in (of_mean, *of_lost) for step in own if step <= 60}
    assert list(cut.switches) == sorted(shown) and not cut.diverged
    assert cut.num_seeds == sum(seed[0] in (ENDED, LOST) for seed in seeds)

    drawn: list[Canvas] = []
    monkeypatch.setattr(Canvas, "save", lambda canvas, path: drawn.append(canvas))
    draw_curves(record, CURVES, tmp_path / "c.png")
    draw_spectrum(record, SPECTRUM, tmp_path / "s.png")
    curves, spectrum = (canvas.figure.axes[0].lines for canvas in drawn)
    found = [(mark.get_xdata()[0], mark.get_ydata()[0]) for mark in curves if mark.get_marker() == "D"]  # type: ignore[index]
    assert found == marks
    assert [one.get_xdata()[0] for one in spectrum if one.get_linestyle() == "--"] == rules  # type: ignore[index]

    crosses = {x for one in spectrum if one.get_marker() == "X" for x in one.get_xdata()}  # type: ignore[union-attr]
    assert crosses == {300}, "where those that diverged did, beside a mean too"

    (place,) = sweep_data(record)["curves"]["lines"]
    series = place["series"]["train/loss"]
    assert series["switches"] == of_mean and [run["switches"] for run in series["diverged"]] == of_lost


def test_the_page_marks_what_switched(store: Store, tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    record = switched(store, {"SGD": BOTH_LOST, "Dom-SGD": ONE_LOST, "Bulk-SGD": EACH_ITS_OWN})
    marks = "[...document.querySelectorAll('#curves .curve')].map(g => g.querySelectorAll('.switch').length)"
    with browser() as page:
        page.open(write_html(record, tmp_path).as_uri())
        assert sorted(page.evaluate(marks)) == [1, 2, 3]
        assert "A circle is a switch point" in page.evaluate("document.querySelector('#curves').textContent")
        assert page.errors == []


@pytest.mark.parametrize(
    ("seeds", "note"),
    [
        ([(ENDED, 40), (ENDED, 70)], "each seed has its own switch point, by a condition"),
        ([(ENDED, 40)], "switched by a condition"),
        ([(ENDED, None), (ENDED, 70)], "switched by a condition"),
        ([(ENDED, None)], ""),
        (
            [(ENDED, 40), (ENDED, 100)],
            "each seed has its own switch point, by a condition; the condition was not met by step 100 in "
            "2 of 4 runs",
        ),
        ([(ENDED, 100)], "the condition was not met by step 100 in 2 of 2 runs"),
    ],
)
def test_a_caption_speaks_of_each_seed_where_several_switched(
    seeds: Sequence[Seed], note: str, store: Store
) -> None:
    record = switched(store, {"SGD": seeds, "Bulk-SGD": seeds})
    assert switch_note(record, range(len(record.cell_ids))) == note
