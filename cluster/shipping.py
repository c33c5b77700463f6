"""What travels with a job: the space, the files it names, and the code that is to run.

It becomes the working folder of the driver and of every trial on every node, before what is installed there.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import cluster
import search_spaces
import sweep
import trainers
from search_spaces import Space
from sweep.environment import SOURCE_FILE, source_state
from sweep.plan import Plan
from trainers.errors import ConfigError

SPACE_FILE = "space.yaml"
_PACKAGES = (trainers, search_spaces, sweep, cluster)
_NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.pyc")


def pack_space(folder: Path, space: Space, plan: Plan) -> None:
    """Put a space, overrides and all, and the files that it names into a folder.

    Raises:
        ConfigError: The space names a file that cannot travel.
    """
    (folder / SPACE_FILE).write_text(space.text)
    for file in _files_of(plan):
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def pack_code(folder: Path) -> None:
    """Put this machine's code into a folder."""
    for package in _PACKAGES:
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, folder / source.name, ignore=_NOT_SHIPPED)
    commit, dirty = source_state()
    (folder / SOURCE_FILE).write_text(json.dumps({"commit": commit, "dirty": dirty}))


def _files_of(plan: Plan) -> Sequence[str]:
    """Return the user's own model files, as the space writes them."""
    found: set[str] = set()
    for cell in plan.cells.values():
        if cell.model.name == "file":
            path = str(dict(cell.model.options).get("path", ""))
            pure = PurePosixPath(path)
            if pure.is_absolute() or ".." in pure.parts:
                raise ConfigError(
                    f"model.path: found {path!r}; a file that travels with a job is below the working folder "
                    "and named relative to it."
                )
            found.add(path)
    return sorted(found)
