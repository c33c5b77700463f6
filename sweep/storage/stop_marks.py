"""Requests to stop single cells: files that a sweep's driver leaves in the store and its workers look for.

    stops/<run id of the sweep>/<cell_id>     the reason, in a line

Whoever asks has written down elsewhere that it did (a tag, a journal); a mark only carries the news.
"""

from sweep.storage.files import Files


class StopMarks:
    """The marks of one sweep; another one that trains the same cell does not see them.

    Args:
        files: The store's.
        sweep: The run id of the sweep.
    """

    def __init__(self, files: Files, sweep: str) -> None:
        self._files = files
        self._folder = f"stops/{sweep}"

    def put(self, cell_id: str, reason: str) -> None:
        """Ask for a cell to be stopped."""
        self._files.put(f"{self._folder}/{cell_id}", reason.encode())

    def all(self) -> set[str]:
        """Return the cells that are to be stopped, in one listing."""
        return {name for name, _ in self._files.names(self._folder)}

    def reason(self, cell_id: str) -> str:
        """Return why a cell is to be stopped."""
        return (self._files.get(f"{self._folder}/{cell_id}") or b"").decode(errors="replace")

    def clear(self, cell_id: str) -> None:
        """Take a request back, or away once it has been met."""
        self._files.delete(f"{self._folder}/{cell_id}")

    def clear_all(self) -> None:
        """Take all requests back."""
        self._files.delete_folder(self._folder)
