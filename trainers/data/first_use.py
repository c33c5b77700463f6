"""Data that is downloaded on first use: one process fetches, the others wait, and nobody sees half a file."""

import fcntl
import http.client
import os
import socket
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from trainers.errors import DataError, DownloadError

STALLED_SECONDS = 30.0
"""Without it a network that swallows packets would hold a run up for ever."""


def provide(
    folder: Path, *, present: Callable[[], bool], fetch: Callable[[Path], None], missing: str
) -> None:
    """Make the files of a data set present in `folder`.

    Nothing is written when they already are, so a read-only folder that is complete works.

    Args:
        folder: The data folder; created if it is not there.
        present: Whether every file is there.
        fetch: `fetch(scratch)` puts the files under `scratch`, with the paths they will have under `folder`.
        missing: The data set, what was looked for and how to provide it, for the message.

    Raises:
        DataError: The folder cannot be written.
        DownloadError: The download failed.
    """
    if present():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder), tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
            if present():
                return
            _fetch(fetch, Path(scratch), missing)
            _publish(Path(scratch), folder)
    except OSError as error:
        raise DataError(f"{missing} The folder cannot be written: {error}.") from error


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Hold the folder's lock; the system releases it when the process ends, however that happens."""
    with (folder / ".download.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(fetch: Callable[[Path], None], scratch: Path, missing: str) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALLED_SECONDS)
    try:
        fetch(scratch)
    # torchvision reports a failed mirror or a wrong digest as a RuntimeError.
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise DownloadError(f"{missing} The download failed: {str(error).strip()}") from error
    finally:
        socket.setdefaulttimeout(before)


def _publish(scratch: Path, folder: Path) -> None:
    for source in sorted(path for path in scratch.rglob("*") if path.is_file()):
        target = folder / source.relative_to(scratch)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.replace(source, target)
