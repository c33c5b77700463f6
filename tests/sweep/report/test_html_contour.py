"""The contour of the interactive report in a real browser: nothing is drawn across what has no value."""

from pathlib import Path

import pytest

from sweep.html import write_html
from sweep.names import Status
from tests.browser import CHROMIUM, NO_CHROMIUM, browser
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import ended, grid

CROSSES = "[...document.querySelectorAll('#contour svg g text')].filter(t => t.textContent === '✕')"
BANDS = "document.querySelectorAll('#contour svg path[fill]')"
OVER = f"""
{CROSSES}.map((text) => {{
  const point = new DOMPoint(Number(text.getAttribute("x")), Number(text.getAttribute("y")) - 4);
  return [...{BANDS}].filter((band) => band.isPointInFill(point)).length;
}})
"""


def test_the_contour_is_blank_around_what_diverged(store: Store, tmp_path: Path) -> None:
    """At one inner point both k diverged, at another only the larger one did."""
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    points = grid("g", {"lr": [0.1, 0.2, 0.3, 0.4], "alpha_dom": [1.0, 2.0, 3.0, 4.0], "k": [5, 10]})
    lost = {(0.2, 2.0, 5), (0.2, 2.0, 10), (0.3, 3.0, 10)}
    cells = {
        cell: ended(
            axes["lr"] * axes["alpha_dom"],
            status=Status.DIVERGED if tuple(axes.values()) in lost else Status.COMPLETED,
        )
        for _, axes, cell in points
    }
    path = write_html(store.record(points, cells), tmp_path)
    with browser() as page:
        page.open(path.as_uri())
        assert page.evaluate(f"{BANDS}.length") > 10
        alone, beside = page.evaluate(OVER)
        assert (alone, beside > 0) == (0, True)
        assert page.errors == []
