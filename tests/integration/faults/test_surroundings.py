"""Clocks that jump, names with odd characters, paths with spaces: none of it changes a sweep's record."""

import random
from collections.abc import Callable
from pathlib import Path

from tests.integration.faults.grid import Grid

ODD_NAME = 'größe/λ=½: "a\'b" 100% #1 ?x&y; ../up 🙂'


def test_clocks_jump_under_an_odd_name_at_a_path_with_spaces(
    make_grid: Callable[..., Grid], draw: random.Random
) -> None:
    clock = {"clock": draw.randrange(2**32)}
    grid = make_grid(name=ODD_NAME, home="a home, with späces & more", tampering=clock, steps=1000)
    said = grid.finish(grid.start())
    assert ODD_NAME in said
    grid.assert_complete()
    out = Path("the report")
    grid.home.run("report", ODD_NAME, "--tracking-uri", grid.tracking_uri, "--out", str(out))
    assert list((grid.home.folder / out).rglob("*.png"))


def test_a_name_that_mlflow_does_not_take_is_refused(make_grid: Callable[..., Grid]) -> None:
    grid = make_grid(name="x" * 1000)
    said = grid.finish(grid.start(), code=2)
    assert "error: " in said and "name" in said
