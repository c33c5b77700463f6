"""Where a sweep's files are, as MLflow stores it: a URI, in columns of a database that have a length."""

import hashlib
import time
from pathlib import Path
from urllib.parse import quote

from trainers.errors import ConfigError

RUN_URI_LENGTH = 200
"""What MLflow's tables take as the URI of a run's files; SQLite takes any."""

NAME_LENGTH = 256
"""What they take as the name of an experiment."""

RUN_FOLDER = f"/{'0' * 32}/artifacts"
DIGEST_LENGTH = 16


def artifact_location(root: Path, name: str, *, limited: bool) -> str:
    """Return the URI of a new sweep's folder, which is called like the sweep, or begins so.

    Args:
        root: The folder of all sweeps.
        name: The sweep's name.
        limited: Whether the database refuses what is longer than its columns.

    Raises:
        ConfigError: The path of `root` leaves no room.
    """
    folder = root.absolute()
    whole = (folder / quote(name, safe=" ")).as_uri()
    room = RUN_URI_LENGTH - len(RUN_FOLDER)
    if not limited or len(whole) <= room:
        return whole
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST_LENGTH]
    for length in range(len(name), -1, -1):
        # Quoted for the file system, and that again for the URI: a letter may take many characters.
        short = (folder / f"{quote(name[:length], safe=' ')}~{digest}").as_uri()
        if len(short) <= room:
            return short
    least = len((folder / f"~{digest}").as_uri())
    raise ConfigError(
        f"the folder for artifacts is too long for MLflow's database: a sweep's would be {least} characters "
        f"as a URI, expected at most {room}. Choose a shorter SWEEP_HOME (found {folder.parent}), or an "
        "MLflow server, which keeps artifacts itself."
    )


def name_of_deleted(name: str, run_id: str) -> str:
    """Return what a deleted sweep's experiment is called from now on, so that the name is free.

    Sweeps of one name may be deleted within a second, so their own run is named too.
    """
    when = f" (deleted {time.strftime('%Y-%m-%d %H:%M:%S')}, run {run_id[:8]})"
    return name[: NAME_LENGTH - len(when)] + when
