"""The interactive report at any width: labels that fit, nothing too small, colours that can be seen."""

import json
from collections.abc import Generator
from typing import Any

import pytest

from sweep.compare import compare
from sweep.html import write_html
from sweep.html.comparison import write_comparison
from sweep.names import Status
from sweep.record import load_record
from tests.browser import CHROMIUM, NO_CHROMIUM, Browser, browser
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, decay, ended, grid

METHODS = [
    "projected along the Dominant subspace only",
    "Bulk-SGD with momentum 0.9",
    "sharpness-aware minimisation, rho = 0.05",
]
RATES, KS = [0.01, 0.02, 0.05, 0.1], [1, 10]
HEATMAP = {"kind": "heatmap", "name": "heat", "x": "lr", "y": "method", "panels": "k"}
WIDTHS = (360, 820, 1200)

BADLY_PLACED = """(() => {
  const found = [];
  for (const sheet of document.querySelectorAll("main svg[role=group]")) {
    const outer = sheet.getBoundingClientRect();
    const texts = [...sheet.querySelectorAll("text")]
      .filter(({ textContent }) => textContent.length > 1 || /\\d/.test(textContent))
      .map((element) => [element.firstChild.textContent, element.getBoundingClientRect()]);
    for (const [content, box] of texts)
      if (box.left < outer.left - 1 || box.right > outer.right + 1 || box.bottom > outer.bottom + 1)
        found.push(["outside", sheet.ariaLabel, content]);
    texts.forEach(([first, a], index) => {
      for (const [second, b] of texts.slice(index + 1))
        if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
          found.push(["overlap", sheet.ariaLabel, first, second]);
    });
  }
  return found;
})()"""


def place_all(store: Store, factor: float) -> str:
    """24 places: methods with long names by rates by k, losses over four magnitudes; one without both."""
    points = grid("g", {"method": METHODS, "lr": RATES, "k": KS, "seed": [0, 1]})
    cells: dict[str, StoredCell] = {}
    for _, axes, cell in points:
        loss = 1e-4 * 30 ** METHODS.index(axes["method"]) * 0.03 / axes["lr"] + 1e-5 * axes["seed"]
        if axes["lr"] == RATES[0]:
            loss *= factor
        cells[cell] = ended(loss, 0.95 - 0.001 * axes["k"], seed=axes["seed"])
        if axes["seed"] == 0:
            cells[cell].histories["train/loss"] = decay(axes["lr"], 400, 40, floor=loss)
    plain = grid("plain", {"lr": [0.05], "seed": [0]})
    cells[plain[0][2]] = ended(0.3, 0.9, seed=0)
    last = points[-1][2]
    cells[last] = ended(9.0, 0.1, status=Status.DIVERGED, seed=1)
    return store.put([*points, *plain], cells, [HEATMAP])


@pytest.fixture(scope="module")
def pages(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("layout")
    first, second = (load_record(store.uri, place_all(store, factor)) for factor in (1.0, 0.8))
    return {
        "sweep": write_html(first, folder).as_uri(),
        "comparison": write_comparison(compare(first, second), folder / "compare.html").as_uri(),
    }


@pytest.fixture(scope="module")
def page() -> Generator[Browser, None, None]:
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with browser() as opened:
        yield opened
        assert opened.errors == []


def resize(page: Browser, width: int) -> None:
    page.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
    )


@pytest.mark.parametrize("kind", ["sweep", "comparison"])
def test_labels_fit_at_any_width(page: Browser, pages: dict[str, str], kind: str) -> None:
    for width in WIDTHS:
        resize(page, width)
        page.open(pages[kind])
        assert page.evaluate(BADLY_PLACED) == [], width
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # Nothing is scaled down: letters have the size that they were given.
        sizes = "[...document.querySelectorAll('main svg[role=group]')]"
        sizes += ".map(s => s.getBoundingClientRect().width / s.viewBox.baseVal.width)"
        assert page.evaluate(sizes) == pytest.approx([1.0] * len(page.evaluate(sizes)), abs=1e-3)


def test_a_name_that_is_cut_says_all_of_itself(page: Browser, pages: dict[str, str]) -> None:
    resize(page, WIDTHS[0])
    page.open(pages["sweep"])
    titles = page.evaluate("[...document.querySelectorAll('#heatmap-0 title')].map(t => t.textContent)")
    assert set(METHODS) & set(titles)
    short = page.evaluate("document.querySelector('#heatmap-0 title').parentNode.firstChild.textContent")
    assert short.endswith("…") and METHODS[0].startswith(short[:-1])


def test_drawings_follow_the_width_of_the_page(page: Browser, pages: dict[str, str]) -> None:
    width = "document.querySelector('#curves svg').getBoundingClientRect().width"
    resize(page, WIDTHS[2])
    page.open(pages["sweep"])
    page.choose("#curves select[aria-label=colour]", "k")
    before = page.evaluate(width)
    resize(page, WIDTHS[0])
    page.wait(f"{width} < 360")
    assert before > 900
    assert page.evaluate("document.querySelector('#curves .legend').textContent").startswith("k:")


def test_slices_show_every_place_the_medians_and_what_diverged(page: Browser, pages: dict[str, str]) -> None:
    resize(page, WIDTHS[2])
    page.open(pages["sweep"])
    sheets = "document.querySelectorAll('#slices svg[role=group]')"
    assert page.evaluate(f"{sheets}.length") == 4
    assert page.evaluate(f"[...{sheets}].map(s => s.querySelectorAll('circle').length)") == [25, 24, 25, 24]
    medians = page.evaluate(f"[...{sheets}].map(s => s.querySelectorAll('.median').length)")
    assert medians == [1, len(METHODS), len(RATES), len(KS)]
    heights: list[float] = page.evaluate(
        f"[...{sheets}[1].querySelectorAll('.median')].map(m => m.getBoundingClientRect().y)"
    )
    assert heights == sorted(heights, reverse=True), "the methods have ever larger losses"
    best = f"[...{sheets}[1].querySelectorAll('circle[fill=\"var(--mark)\"]')]"
    assert page.evaluate(f"{best}.length") == 3
    assert METHODS[0] in page.evaluate(f"{best}[0].ariaLabel")


def test_contours_are_of_numbers_and_curves_say_where_they_switch(
    page: Browser, pages: dict[str, str]
) -> None:
    resize(page, WIDTHS[2])
    page.open(pages["sweep"])
    offered = "[...document.querySelectorAll('#contour select[aria-label=x] option')].map(o => o.value)"
    assert page.evaluate(offered) == ["lr", "k"]
    distance = """[...document.querySelectorAll('#curves .curve:has(.switch)')].map(g => {
      const [mark, line] = [g.querySelector('.switch'), g.querySelector('.line')];
      const [x, y] = [mark.cx.baseVal.value, mark.cy.baseVal.value];
      let least = Infinity;
      for (let at = 0; at <= line.getTotalLength(); at += 0.5) {
        const point = line.getPointAtLength(at);
        least = Math.min(least, Math.hypot(point.x - x, point.y - y));
      }
      return least;
    })"""
    found = page.evaluate(distance)
    # The stored space switches at 100, in every grid.
    assert len(found) == 25 and max(found) < 1, "a step between two recorded ones"
    key = page.evaluate("document.querySelector('#curves .legend').textContent")
    assert key.startswith("method:") and key.endswith("without method")


def test_colours_by_default_tell_most_and_the_best_is_seen_on_any_paper(
    page: Browser, pages: dict[str, str]
) -> None:
    resize(page, WIDTHS[2])
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    page.open(pages["sweep"])
    assert page.evaluate("document.querySelector('#curves select[aria-label=colour]').value") == "method"
    best = "[...document.querySelectorAll('#parallel .place')].at(-1).getAttribute('stroke')"
    light = page.evaluate(best)
    page.point_at("#theme", click=True)
    dark = page.evaluate(best)

    def luminance(colour: str) -> float:
        red, green, blue = json.loads(f"[{colour.removeprefix('rgb(').removesuffix(')')}]")
        return 0.299 * red + 0.587 * green + 0.114 * blue

    assert luminance(light) < 170 < 200 < luminance(dark)


def test_a_comparison_of_many_magnitudes_is_relative_and_pales_what_is_noise(
    page: Browser, pages: dict[str, str]
) -> None:
    resize(page, WIDTHS[2])
    page.open(pages["comparison"])
    bars = "[...document.querySelectorAll('#metric-0 .difference')]"
    bars += ".map(b => [b.width.baseVal.value, b.getAttribute('opacity')])"

    def drawn() -> list[Any]:
        return page.evaluate(bars)

    relative = drawn()
    # A fifth less at the lowest rate for every method and k, and nothing elsewhere.
    changed = [width for width, _ in relative if width > 1]
    assert len(changed) == len(METHODS) * len(KS) and max(changed) < 1.1 * min(changed)
    page.point_at("#metric-0 input[type=checkbox]", click=True)
    absolute = [width for width, _ in drawn() if width > 1]
    assert max(absolute) > 100 * min(absolute) or len(absolute) < len(changed)
    assert {opacity for _, opacity in relative} <= {"0.4", "1"}
    row = page.evaluate("document.querySelector('#metric-0 tbody tr').textContent")
    assert "-20.0" in row
