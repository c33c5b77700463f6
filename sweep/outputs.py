"""Where commands write, by `--out` or by default: refused in one message, before the work where that is seen.

A disk that fills up is only seen while writing; `writing` says so then.
"""

import contextlib
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from trainers.errors import ConfigError


def named_place(out: str) -> Path:
    """Return the file or folder that `--out` names, `~` resolved.

    Raises:
        ConfigError: There is no such user.
    """
    try:
        return Path(out).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"--out: found {out!r}: {error}") from error


def require_file(path: Path) -> None:
    """Make sure, as far as can be told without writing, that a file can be made or replaced.

    Raises:
        ConfigError: A folder is in its way, or nothing may be written there.
    """
    with writing(path):
        if path.is_dir():
            raise _refused(path, "a folder is there")
        if path.exists() and not os.access(path, os.W_OK):
            raise _refused(path, "it may not be written")
        if not path.exists() or path.is_file():
            _require_room(path, path.parent)


def require_folder(path: Path) -> None:
    """Make sure, as far as can be told without writing, that files can be made in a folder.

    Raises:
        ConfigError: A file is in its way, or nothing may be written there.
    """
    with writing(path):
        _require_room(path, path)


def _require_room(path: Path, folder: Path) -> None:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise _refused(path, f"{there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _refused(path, f"nothing may be written into {there}")


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn the failure to write to a place into one message.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename and str(error.filename) != str(path) else ""
        raise _refused(path, f"{error.strerror or error}{where}") from error


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Give the name of a file to write, which takes the place of another once it is whole.

    Broken off before, what was there stays and nothing is left behind.
    """
    if path.exists() and not path.is_file():
        # A pipe or a device cannot be replaced.
        yield path
        return
    # Of a link what it leads to.
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield fresh
        os.replace(fresh, target)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def _refused(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} cannot be written: {why}. Choose another place with --out.")
