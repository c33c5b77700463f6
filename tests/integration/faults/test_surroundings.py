"""Names that cannot be used are refused. Those that can, and clocks, are in `test_drivers_at_once`."""

from collections.abc import Callable

from tests.integration.faults.grid import Grid


def test_names_that_cannot_be_used_are_refused(make_grid: Callable[..., Grid]) -> None:
    grids = [make_grid(name=name) for name in ("two\nlines", "x" * 300)]
    processes = [grid.start() for grid in grids]
    for grid, process in zip(grids, processes, strict=True):
        said = grid.finish(process, code=2)
        assert "error: --name: found" in said
