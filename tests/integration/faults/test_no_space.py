"""No space left in the store: the cells concerned fail, what was committed stays, and `resume` goes on."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweep.storage import Storage
from tests.integration.faults.grid import SPACE, Grid

SIZE = 8 * 2**20
ROOM = 450 * 2**10
"""Enough for the states before a first projection, 50 kB each, not for those after it, which hold a basis."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """A small file system of its own in memory."""
    place = tmp_path / "a small disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")

    def remount(options: str) -> Path:
        subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)
        return place

    yield remount
    subprocess.run(["umount", "-l", place], check=True)


def test_no_space_is_left(
    make_grid: Callable[..., Grid], disk: Callable[[str], Path], ray: tuple[str, str]
) -> None:
    place = disk("rw")
    # Every cell that fails takes a start of a worker.
    space = SPACE.replace("beta_bulk: [1, 0.9]", "beta_bulk: [0.9]")
    grid = make_grid(storage=place / "store", space=space, options=["--max-failures", "0", *ray])
    filler = place / "something else"
    filler.write_bytes(bytes(SIZE - ROOM))
    said = grid.finish(grid.start(), code=1)
    assert "no space is left" in said
    assert "sweep resume grid" in said
    failed = [run for run in grid.runs().values() if run.data.tags["sweep.status"] == "failed"]
    assert failed
    assert all("no space is left" in run.data.tags["sweep.status_reason"] for run in failed)
    assert all(run.info.status == "FAILED" for run in failed)
    store = Storage.open(grid.storage, create=False)
    before = grid.committed()
    assert before, "there was no room for a single commit"
    for cell in grid.cells:
        assert store.latest(cell)[1] == [], "something half-written counts as a commit"
    filler.unlink()
    grid.resume()
    assert all(grid.committed()[cell] >= step for cell, step in before.items())
    grid.assert_complete()


def test_a_store_that_cannot_be_written(make_grid: Callable[..., Grid], disk: Callable[[str], Path]) -> None:
    place = disk("ro")
    grid = make_grid(storage=place / "store", makes_database=True)
    said = grid.finish(grid.start(), code=2)
    assert "read-only" in said and str(place) in said
    assert not grid.home.database.exists(), "a sweep was begun that cannot be run"


def test_results_that_cannot_be_written(make_grid: Callable[..., Grid], disk: Callable[[str], Path]) -> None:
    grid = make_grid(home="a small disk/home", makes_database=True)
    disk("ro")
    said = grid.finish(grid.start(), code=2)
    assert "read-only" in said.lower() and str(grid.home.folder) in said
    disk("rw")
