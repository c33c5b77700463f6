"""What MLflow remembers of earlier sweeps: their names and the spaces that they were begun with."""

from search_spaces import Space, load_space_text
from sweep.errors import LedgerUnavailableError
from sweep.ledger import Ledger
from sweep.places import sqlite_path
from sweep.search.points import stored_plan
from trainers.cell import Cell


def stored_sweeps(tracking_uri: str) -> list[str]:
    """Return the names of the sweeps, the newest first; none where there is no database yet."""
    path = sqlite_path(tracking_uri)
    if path is not None and not path.exists():
        return []
    return [sweep.name for sweep in Ledger.open(tracking_uri, create=False).list_sweeps()]


def stored_space(tracking_uri: str, name: str) -> Space:
    """Return the space that a sweep was last run with.

    Raises:
        ConfigError: There is no sweep of that name.
        LedgerUnavailableError: There is no record at all.
    """
    path = sqlite_path(tracking_uri)
    if path is not None and not path.exists():
        raise LedgerUnavailableError(
            f"there is no sweep {name!r}: no MLflow database {path}. Begin with: sweep run SPACE"
        )
    ledger = Ledger.open(tracking_uri, create=False)
    text = ledger.read_space(ledger.find_sweep(name))
    return load_space_text(text, origin=f"<sweep {name}>", recorded=True)


def stored_sha256(tracking_uri: str, name: str) -> str:
    """Return the address of the space that a sweep was last run with; empty before its first plan.

    Raises:
        ConfigError: There is no sweep of that name.
        LedgerUnavailableError: There is no record at all.
    """
    return Ledger.open(tracking_uri, create=False).find_sweep(name).space_sha256


def stored_cells(tracking_uri: str, name: str) -> list[Cell]:
    """Return the distinct cells of a sweep, those that a search has asked for among them.

    Raises:
        ConfigError: There is no sweep of that name.
        LedgerUnavailableError: There is no record at all.
    """
    space = stored_space(tracking_uri, name)
    ledger = Ledger.open(tracking_uri, create=False)
    return list(stored_plan(space, ledger, ledger.find_sweep(name)).cells.values())
