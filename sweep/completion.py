"""What the shell completes: spaces, sweeps, cells. Nothing here imports MLflow or torch, which take seconds.

So names of sweeps come straight from the embedded database, read-only; those of a server are not asked for.
"""

import glob
import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from sweep import names
from sweep.places import sqlite_path

SUFFIX = ".yaml"
MOST_CELLS = 200
BUSY_SECONDS = 1.0

_SWEEPS = """
select distinct name.value from tags as name
join tags as role on role.run_uuid = name.run_uuid
join runs on runs.run_uuid = name.run_uuid
join experiments on experiments.experiment_id = runs.experiment_id
where name.key = ? and role.key = ? and role.value = ?
  and runs.lifecycle_stage = 'active' and experiments.lifecycle_stage = 'active'
order by name.value
"""
_CELLS = "select distinct value from tags where key = ? and value like ? || '%' order by value limit ?"


def complete_space(incomplete: str) -> list[str]:
    """Return the named spaces and the YAML files and folders that begin like this."""
    spec = find_spec("search_spaces")
    folders = [] if spec is None else spec.submodule_search_locations or []
    named = sorted(path.stem for folder in folders for path in Path(folder).glob(f"*{SUFFIX}"))
    files = sorted(glob.glob(f"{glob.escape(incomplete)}*{SUFFIX}"))
    return [*(name for name in named if name.startswith(incomplete)), *files]


def complete_space_or_sweep(incomplete: str) -> list[str]:
    """Return both."""
    return list(dict.fromkeys([*complete_space(incomplete), *complete_sweep(incomplete)]))


def complete_sweep(incomplete: str) -> list[str]:
    """Return the sweeps of the embedded MLflow that begin like this."""
    found = _ask(_SWEEPS, names.TAG_NAME, names.TAG_ROLE, names.ROLE_SWEEP)
    return [name for name in found if name.startswith(incomplete)]


def complete_cell(incomplete: str) -> list[str]:
    """Return the addresses of recorded cells that begin like this."""
    return _ask(_CELLS, names.TAG_CELL_ID, incomplete, MOST_CELLS)


def one_of(*values: str) -> Callable[[str], Iterable[str]]:
    """Return a completion for an option with these values."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def _ask(query: str, *values: object) -> list[str]:
    home = Path(os.environ.get("SWEEP_HOME") or "results").expanduser()
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    path = sqlite_path(uri) if uri else home / "mlflow.db"
    if path is None or not path.is_file():
        return []
    try:
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as database:
            return [str(value) for (value,) in database.execute(query, values)]
    except sqlite3.Error:
        # Busy, damaged, or of another version: there is nothing to complete then, and nobody to tell.
        return []
