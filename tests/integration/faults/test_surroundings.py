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


def test_names_that_cannot_be_used_are_refused(make_grid: Callable[..., Grid]) -> None:
    grids = [make_grid(name=name) for name in ("two\nlines", "x" * 300)]
    processes = [grid.start() for grid in grids]
    for grid, process in zip(grids, processes, strict=True):
        said = grid.finish(process, code=2)
        assert "error: --name: found" in said
