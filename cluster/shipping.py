"""What travels with a job: the space, the files it names, and the code that is to run.

It becomes the working folder of the driver and of every trial on every node, before what is installed there.
"""

import filecmp
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath

import cluster
import search_spaces
import sweep
import trainers
from search_spaces import Space
from sweep.environment import SOURCE_FILE, source_state
from sweep.trainable import ends_of
from trainers.cell import Cell
from trainers.errors import ConfigError

SPACE_FILE = "space.yaml"
_PACKAGES = (trainers, search_spaces, sweep, cluster)
_NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.pyc")

MAX_BYTES = 400 * 2**20
"""Of the files that a space names, together: Ray takes 512 MiB, compressed, with the code."""

_FILE = "file"
"""The entry of a user's own among the models, data sets and probes."""


def pack_space(folder: Path, space: Space) -> None:
    """Put a space, overrides and all, and the files that it names into a folder.

    Raises:
        ConfigError: The space names a file that cannot travel, or too large ones; or it is no valid space.
    """
    (folder / SPACE_FILE).write_text(space.text)
    files = own_files(space)
    size = sum(Path(file).stat().st_size for file in files)
    if size > MAX_BYTES:
        largest = max(files, key=lambda file: Path(file).stat().st_size)
        raise ConfigError(
            f"{files[largest]}: found {largest!r}, and {size / 2**20:.0f} MiB in all files of the space; at "
            f"most {MAX_BYTES / 2**20:.0f} travel with a job. Put data where every node reads them, and name "
            "them by their absolute path."
        )
    for file in files:
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def pack_code(folder: Path) -> None:
    """Put this machine's code into a folder, beside the files of a space in folders of the same names.

    Raises:
        ConfigError: A file of the space has the place of another one of the code.
    """
    for package in _PACKAGES:
        source = Path(str(package.__file__)).parent
        shutil.copytree(
            source,
            folder / source.name,
            ignore=_NOT_SHIPPED,
            dirs_exist_ok=True,
            copy_function=partial(_copy_beside, folder),
        )
    commit, dirty = source_state()
    (folder / SOURCE_FILE).write_text(json.dumps({"commit": commit, "dirty": dirty}))


def _copy_beside(folder: Path, source: str, target: str) -> None:
    """Copy a file of the code; neither it nor a file of the user's own may stand for the other."""
    if os.path.exists(target) and not filecmp.cmp(source, target, shallow=False):
        raise ConfigError(
            f"found {os.path.relpath(target, folder)!r} among the files of the space; the code that travels "
            "has a file of its own there. Rename it."
        )
    shutil.copy2(source, target)


def own_files(space: Space) -> Mapping[str, str]:
    """Return the user's own files that travel, as the space writes them, and where it names each.

    Two points may be one cell and name different files with one content, so that the points are asked and
    not the plan's cells. The base is read wherever the space is, whether or not a point still has its files.

    Raises:
        ConfigError: One is not below the working folder.
    """
    found: dict[str, str] = {}
    points = ends_of(space) if space.is_search else space.points()
    for cell in chain([space.base], (point.cell for point in points)):
        for place, path in _named_in(cell):
            pure = PurePosixPath(path)
            if pure.is_absolute() and place == "dataset.path":
                # Of data there may be more than can travel: they are where all nodes see them.
                continue
            if pure.is_absolute() or ".." in pure.parts:
                raise ConfigError(
                    f"{place}: found {path!r}; a file that travels with a job is below the working folder "
                    "and named relative to it."
                )
            found[path] = place
    return found


def _named_in(cell: Cell) -> Iterator[tuple[str, str]]:
    """Yield the files that a cell names, each with its place in a space."""
    chosen = [("model.path", cell.model), ("dataset.path", cell.dataset)]
    chosen += [("probes.path", probe) for probe in cell.probes]
    for place, one in chosen:
        path = dict(one.options).get("path")
        if one.name == _FILE and path:
            yield place, str(path)
