"""Requests to stop single cells: files that the driver leaves in the store and workers look for.

    stops/<cell_id>     the reason, in a line

Whoever asks has written down elsewhere that it did (a tag, a journal); a mark only carries the news.
"""

from sweep.storage.files import Files

FOLDER = "stops"


class StopMarks:
    """The marks of one store."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def put(self, cell_id: str, reason: str) -> None:
        """Ask for a cell to be stopped."""
        self._files.put(f"{FOLDER}/{cell_id}", reason.encode())

    def all(self) -> set[str]:
        """Return the cells that are to be stopped, in one listing."""
        return {name for name, _ in self._files.names(FOLDER)}

    def reason(self, cell_id: str) -> str:
        """Return why a cell is to be stopped."""
        return (self._files.get(f"{FOLDER}/{cell_id}") or b"").decode(errors="replace")

    def clear(self, cell_id: str) -> None:
        """Take a request back, or away once it has been met."""
        self._files.delete(f"{FOLDER}/{cell_id}")
