"""The ledger: which sweeps there are, which cells have a run, and how each stands. MLflow is its memory.

One experiment a sweep's name, one parent run a sweep, one run a cell. Every method is safe to repeat; what
writes the record of a running sweep does so under a lease (`sweep.lease`). Histories are the recorder's.
"""

from collections.abc import Mapping
from pathlib import Path

from mlflow.entities import Run as ParentRun

from sweep.ledger.cells import CellRun, CellRuns, Entries, has_ended
from sweep.ledger.connection import connect
from sweep.ledger.continuation import SpaceLike
from sweep.ledger.look import Looks
from sweep.ledger.requests import RequestTags
from sweep.ledger.runs import is_deleted
from sweep.ledger.spent import SpentTags
from sweep.ledger.sweeps import Sweep, Sweeps

__all__ = ["CellRun", "Entries", "Ledger", "ParentRun", "SpaceLike", "Sweep", "has_ended", "is_deleted"]


class Ledger(Sweeps, CellRuns, Looks, RequestTags, SpentTags):
    """A connection to the record."""

    @classmethod
    def open(
        cls,
        tracking_uri: str,
        *,
        artifacts_root: Path | None = None,
        create: bool = True,
        given: Mapping[str, str] | None = None,
    ) -> "Ledger":
        """Connect within seconds.

        Args:
            tracking_uri: sqlite:///path, another database's URI, or a server's address.
            artifacts_root: Folder for artifacts where MLflow is a bare database; ignored for a server.
            create: Make the SQLite database where there is none; a reader passes False.
            given: The options that say so, see `sweep.places.Places.given`.

        Raises:
            LedgerUnavailableError: MLflow cannot be used.
        """
        client = connect(tracking_uri, create=create)
        server = tracking_uri.startswith("http")
        return cls(client, artifacts_root=None if server else artifacts_root, given=given)
