"""The interactive report: its data, its bytes, and what a real browser makes of it."""

import json
import math
import re
from collections.abc import Generator
from pathlib import Path

import pytest

from sweep.html import write_html
from sweep.html.data import sweep_data
from sweep.html.page import SCRIPTS, embedded
from sweep.names import Status
from sweep.record import Record
from tests.browser import CHROMIUM, NO_CHROMIUM, Browser, browser
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, decay, ended, grid

HEATMAP = {"kind": "heatmap", "name": "heat", "title": "A </script> title", "x": "alpha_dom", "y": "lr"}
ALPHAS, RATES = [1.0, 2.0, math.inf], [0.05, 0.1, 0.2, 1.0]


@pytest.fixture(scope="module")
def record(store: Store) -> Record:
    """Three divisors by four rates and two seeds; the largest rate diverges, one cell has not been run."""
    points = grid("g", {"alpha_dom": ALPHAS, "lr": RATES, "seed": [0, 1]})
    cells: dict[str, StoredCell] = {}
    for _, axes, cell_id in points:
        loss = 0.4 / (1 + 10 * axes["lr"]) + 0.01 * axes["seed"]
        accuracy = 0.8 + 0.1 * axes["lr"] + (0.05 if axes["alpha_dom"] == 2.0 else 0.0)
        lost = axes["lr"] == 1.0
        cell = ended(loss, accuracy, status=Status.DIVERGED if lost else Status.COMPLETED, seed=axes["seed"])
        cell.reason = "the loss is above ten times its start" if lost else ""
        cell.histories["train/loss"] = decay(
            axes["lr"] / 50, 400, 20, floor=loss, blow_up=100 if lost else None
        )
        cells[cell_id] = cell
    cells[points[-8][2]] = StoredCell(status=Status.PENDING)
    cells[points[-7][2]] = StoredCell(status=Status.PENDING)
    return store.record(points, cells, [HEATMAP])


def test_places_pool_their_seeds_and_tell_states_apart(record: Record) -> None:
    data = sweep_data(record)
    assert [axis["name"] for axis in data["axes"]] == ["alpha_dom", "lr"]
    assert len(data["places"]) == len(ALPHAS) * len(RATES)
    first = data["places"][0]
    assert first["values"]["final/train_loss"] == [
        pytest.approx(0.4 / 1.5 + 0.005, rel=1e-5),
        pytest.approx(0.01 / math.sqrt(2), rel=1e-5),
    ]
    assert first["state"] == "OK" and first["seeds"] == 2
    by_rate = [place["state"] for place in data["places"]]
    assert by_rate[3] == "DIVERGED" and by_rate[8] == "PENDING"
    assert "ten times" in data["places"][3]["why"]
    assert "final/train_loss" not in data["places"][8]["values"]


def test_the_page_says_how_many_of_its_curves_eigenspaces_had_not_converged(store: Store) -> None:
    points = grid("g", {"lr": [0.1, 0.2], "seed": [0]})
    cells = {cell: ended(0.1, seed=0) for _, _, cell in points}
    for cell, last in zip(cells.values(), (0.0, 1.0), strict=True):
        cell.histories["curvature/lambda_1"] = [(0, 1.0), (400, 2.0)]
        cell.histories["curvature/converged"] = [(0, 1.0), (400, last)]
    data = sweep_data(store.record(points, cells))
    caution = "CAUTION: measured eigenspaces not converged: at most 50 % of a run, above 5 % in 1 of 2 cells"
    assert caution in data["caption"]
    assert "curvature/converged" not in [series["name"] for series in data["curves"]["series"]]


def test_curves_have_a_mean_and_diverged_seeds_by_themselves(record: Record) -> None:
    lines = {line["place"]: line["series"]["train/loss"] for line in sweep_data(record)["curves"]["lines"]}
    assert set(lines) == set(range(12)) - {8}
    assert lines[0]["steps"] == list(range(0, 401, 20)) and lines[0]["diverged"] == []
    assert lines[3]["steps"] == [] and len(lines[3]["diverged"]) == 2
    assert max(lines[3]["diverged"][0]["steps"]) < 400


def test_places_without_room_for_their_curves_are_counted(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.html.data.MAX_CURVE_CELLS", 6)
    curves = sweep_data(record)["curves"]
    assert len(curves["lines"]) == 3 and curves["left_out"] == 8
    assert {line["place"] for line in curves["lines"]} == {2, 6, 10}


def test_a_space_without_heatmaps_gets_that_of_its_longest_axes(store: Store) -> None:
    points = grid("g", {"k": [1, 2], "lr": [0.1, 0.2, 0.3]})
    heatmap = sweep_data(store.record(points, {cell: ended(0.1) for _, _, cell in points}))["heatmaps"][0]
    assert (heatmap["x"]["label"], heatmap["y"]["label"]) == ("η", "k")


def test_the_same_record_gives_the_same_bytes(record: Record, tmp_path: Path) -> None:
    first = write_html(record, tmp_path / "a").read_bytes()
    assert write_html(record, tmp_path / "b").read_bytes() == first
    for outcome in record.outcomes.values():
        assert outcome.run_id is None or outcome.run_id.encode() not in first


def test_embedded_data_cannot_end_its_element() -> None:
    value = {"text": "</script><!-- \u2028", "number": math.inf, "nothing": math.nan}
    text = embedded(value)
    assert "<" not in text and "\u2028" not in text
    assert json.loads(text) == {"text": value["text"], "number": "inf", "nothing": None}


def test_nothing_in_the_file_points_outside(record: Record, tmp_path: Path) -> None:
    text = write_html(record, tmp_path).read_text()
    found = set(re.findall(r"""https?://[^"'`\s]+""", text))
    assert found == {"http://www.w3.org/2000/svg"}
    assert len(SCRIPTS) == len(set(SCRIPTS)) and "import " not in text.split("<script>")[1].split("\n")[0]


@pytest.fixture(scope="module")
def page(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Generator[Browser, None, None]:
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    path = write_html(record, tmp_path_factory.mktemp("page with spaces"))
    with browser() as opened:
        opened.open(path.as_uri())
        yield opened
        assert opened.errors == []
        assert [url for url in opened.requests if not url.startswith("file:")] == []


def count(page: Browser, selector: str) -> int:
    return page.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")


def test_a_browser_draws_every_view(page: Browser) -> None:
    sections = page.evaluate("[...document.querySelectorAll('section')].map(s => s.id)")
    assert sections == ["heatmap-0", "contour", "slices", "parallel", "pareto", "curves", "places"]
    # Two metrics of three by four cells each.
    assert count(page, "#heatmap-0 g[data-state]") == 2 * 12
    assert count(page, "#heatmap-0 g[data-state=DIVERGED]") == 2 * 3
    assert count(page, "#heatmap-0 g[data-state=PENDING]") == 2 * 1
    assert count(page, "#parallel .place") == 8
    assert count(page, "#pareto circle") == 8
    assert count(page, "#curves .curve") == 11
    assert page.evaluate("document.querySelector('#heatmap-0 h2').textContent") == HEATMAP["title"]
    assert "NaN" not in page.evaluate("document.querySelector('main').innerHTML")


def test_pointing_at_a_cell_shows_its_value(page: Browser) -> None:
    page.point_at("#heatmap-0 g[data-state=OK] rect")
    tip = page.evaluate("document.getElementById('tip').textContent")
    assert "α_Dom = 1, η = 0.05" in tip and "final training loss: 0.272" in tip and "2 seeds" in tip
    assert page.evaluate("getComputedStyle(document.getElementById('tip')).visibility") == "visible"
    page.point_at("h1")
    assert page.evaluate("getComputedStyle(document.getElementById('tip')).visibility") == "hidden"


def test_the_keyboard_shows_it_too(page: Browser) -> None:
    page.evaluate("document.querySelector('#heatmap-0 g[data-state=DIVERGED] rect').focus()")
    assert "diverged" in page.evaluate("document.getElementById('tip').textContent")
    assert count(page, "svg [tabindex='0']:not([aria-label])") == 0


def test_the_log_switch_moves_the_curves(page: Browser) -> None:
    first = "document.querySelector('#curves .curve .line').getAttribute('d')"
    scale = "document.querySelector('#curves svg').dataset.scale"
    before = page.evaluate(first)
    assert page.evaluate(scale) == "log"
    page.point_at("#curves input[aria-label='logarithmic values']", click=True)
    assert page.evaluate(scale) == "linear"
    assert page.evaluate(first) != before
    page.point_at("#curves input[aria-label='logarithmic values']", click=True)
    assert page.evaluate(first) == before


def test_a_drag_along_an_axis_keeps_a_range(page: Browser) -> None:
    """Half of the first axis: the smallest divisor and the one in its middle, 3 rates each."""
    assert count(page, "#parallel .place.dim") == 0
    page.evaluate("document.querySelector('#parallel .brush').scrollIntoView({block: 'center'})")
    left, top, height = page.evaluate(
        "(({x, y, width, height}) => [x + width / 2, y, height])"
        "(document.querySelector('#parallel .brush').getBoundingClientRect())"
    )
    for kind, share in (
        ("mouseMoved", 0.99),
        ("mousePressed", 0.99),
        ("mouseMoved", 0.4),
        ("mouseReleased", 0.4),
    ):
        where = {"x": left, "y": top + share * height}
        page.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **where)
    assert count(page, "#parallel .place.dim") == 2
    page.point_at("#parallel .brush", click=True)
    assert count(page, "#parallel .place.dim") == 0


def test_the_front_is_what_nothing_beats(page: Browser) -> None:
    """The loss falls and the accuracy grows with the rate; of those, one divisor is more accurate."""
    on_front = page.evaluate(
        "[...document.querySelectorAll('#pareto circle')].map(c => c.ariaLabel)"
        ".filter(text => text.startsWith('on the front'))"
    )
    assert len(on_front) == 1 and "α_Dom = 2, η = 0.2" in on_front[0]


def test_light_and_dark(page: Browser) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.point_at("#theme", click=True)
    assert page.evaluate(paper) == "rgb(21, 23, 26)"
    page.evaluate("delete document.documentElement.dataset.theme")
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert page.evaluate(paper) == "rgb(21, 23, 26)"


def test_the_contour_takes_other_axes_and_metrics(page: Browser) -> None:
    drawn = "document.querySelectorAll('#contour svg path[fill]').length"
    assert page.evaluate(drawn) > 10
    page.choose("#contour select[aria-label=metric]", "final/test_accuracy")
    assert "test accuracy" in page.evaluate("document.querySelector('#contour svg').ariaLabel")
    page.choose("#contour select[aria-label=x]", "lr")
    assert "different axes" in page.evaluate("document.querySelector('#contour').textContent")
    page.choose("#contour select[aria-label=x]", "alpha_dom")
    assert page.evaluate(drawn) > 10
