"""Whole files under one root: put atomically, get, list, delete. A local folder or an object store.

A file is either there completely or not at all. On a local folder that takes a temporary name in the same
folder, fsync, rename and fsync of the folder; an object store's put is atomic by itself.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from sweep.errors import StorageDamagedError, StorageError, StorageRefusedError, StorageUnavailableError

TEMPORARY_SUFFIX = ".tmp"


class Files(Protocol):
    """Files by their path relative to the root, with forward slashes."""

    place: str
    """The root as an absolute path or a URI: opening it again gives the same files."""

    def put(self, path: str, data: bytes) -> None:
        """Write a file atomically and durably, replacing one of that name."""
        ...

    def get(self, path: str) -> bytes | None:
        """Return a file's bytes, or `None` when there is no such file.

        Raises:
            StorageDamagedError: This file cannot be read, where that is known of it alone.
            StorageError: The store does not answer.
        """
        ...

    def names(self, folder: str) -> list[tuple[str, int]]:
        """Return the names and sizes of the files in a folder; empty when there is no such folder."""
        ...

    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """Return the paths and sizes of all files below a folder."""
        ...

    def delete(self, path: str) -> None:
        """Delete a file; it may be gone already."""
        ...

    def delete_folder(self, folder: str) -> None:
        """Delete a folder with all that is in it; it may be gone already."""
        ...


_KEY = re.compile(r"(?<=://)[^/?#:]*:[^@]*@(?:[^?]*@)?")
"""Up to the last @ that may belong to it: whoever does not quote a slash or an @ of a key has it there."""


_WITH_CONTAINER = ("abfs", "abfss")
"""Schemes of abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/path."""


def public_place(place: str) -> str:
    """Return a place without what differs between machines (how a server is reached) or is secret.

    That is what is recorded of it and what messages say.
    """
    if "://" not in place:
        return place
    parts = urlsplit(_KEY.sub("", place))
    # What precedes the @ of Azure's addresses is no key but the container.
    host = parts.netloc if parts.scheme in _WITH_CONTAINER else parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def open_files(place: str | Path) -> Files:
    """Open a local folder (a path or a file: URI) or any URI that pyarrow knows. Touches nothing yet.

    Raises:
        StorageUnavailableError: The URI is not one that pyarrow can open.
    """
    text = os.fspath(place)
    parts = urlsplit(text)
    # A scheme of one letter would be a drive; a path may contain a colon.
    if len(parts.scheme) < 2 or "://" not in text:
        return LocalFiles(Path(text))
    if parts.scheme == "file":
        return LocalFiles(Path(unquote(parts.path)))
    try:
        filesystem, root = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, OSError, ValueError) as error:
        shown, why = public_place(text), _without_key(error, text)
        raise StorageUnavailableError(
            f"storage {shown!r} cannot be opened: {why}. Expected a folder or a URI such as s3://bucket/path.",
            # To open a bucket its server is asked where it is; all else is about the text.
            transient=isinstance(error, OSError),
        ) from None
    return RemoteFiles(text, filesystem, root)


def _without_key(error: Exception, place: str) -> str:
    """Return a message that may repeat the place, or the key in it."""
    key = _KEY.search(place)
    told = str(error).replace(place, public_place(place))
    return told if key is None else told.replace(key[0], "").replace(key[0].rstrip("@"), "***")


class LocalFiles:
    """Files below a local (or mounted) folder."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root.expanduser()))
        self.place = str(self._root)

    def put(self, path: str, data: bytes) -> None:
        """See `Files.put`."""
        target = self._root / path
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
        try:
            self._make_folder(target.parent)
            try:
                with open(temporary, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)
        except OSError as error:
            raise _write_error(str(target), error) from error

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and those above it, each durable before something is put into it."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)

    def get(self, path: str) -> bytes | None:
        """See `Files.get`."""
        try:
            return (self._root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            failure = _read_error(str(self._root / path), error)
            # A disk that has lost a block says so of the file that lies there, each time.
            raise (StorageDamagedError(str(failure)) if error.errno == errno.EIO else failure) from error

    def names(self, folder: str) -> list[tuple[str, int]]:
        """See `Files.names`."""
        found: list[tuple[str, int]] = []
        try:
            with os.scandir(self._root / folder) as entries:
                for entry in entries:
                    # Another attempt may rename or delete what was just listed.
                    with contextlib.suppress(FileNotFoundError):
                        if entry.is_file():
                            found.append((entry.name, entry.stat().st_size))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _read_error(str(self._root / folder), error) from error
        return sorted(found)

    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """See `Files.sizes`."""
        for parent, _, files in os.walk(self._root / folder):
            for name in files:
                path = Path(parent, name)
                with contextlib.suppress(FileNotFoundError):
                    yield path.relative_to(self._root).as_posix(), path.stat().st_size

    def delete(self, path: str) -> None:
        """See `Files.delete`."""
        try:
            (self._root / path).unlink(missing_ok=True)
        except OSError as error:
            raise _write_error(str(self._root / path), error) from error

    def delete_folder(self, folder: str) -> None:
        """See `Files.delete_folder`."""
        try:
            shutil.rmtree(self._root / folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _write_error(str(self._root / folder), error) from error


def below(place: str, folder: str) -> str:
    """Return the place of a folder inside a place."""
    address, query, options = place.partition("?") if "://" in place else (place, "", "")
    return f"{address.rstrip('/')}/{folder}{query}{options}"


OBJECT_STORES = ("s3", "gcs", "abfs")
"""Names of the file systems without folders, on which a file appears whole when its writer closes it."""


class RemoteFiles:
    """Files below a prefix of any pyarrow file system."""

    def __init__(self, place: str, filesystem: Any, root: str) -> None:
        self.place = place
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._has_folders = filesystem.type_name not in OBJECT_STORES

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def put(self, path: str, data: bytes) -> None:
        """See `Files.put`."""
        target = self._at(path)
        try:
            if not self._has_folders:
                self._write(target, data)
                return
            folder, _, name = target.rpartition("/")
            temporary = f"{folder}/.{name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
            self._filesystem.create_dir(folder, recursive=True)
            try:
                self._write(temporary, data)
                self._filesystem.move(temporary, target)
            except BaseException:
                with contextlib.suppress(OSError, pa.ArrowException):
                    self._filesystem.delete_file(temporary)
                raise
        except (OSError, pa.ArrowException) as error:
            raise _write_error(target, error) from error

    def _write(self, path: str, data: bytes) -> None:
        with self._filesystem.open_output_stream(path) as stream:
            stream.write(data)

    def get(self, path: str) -> bytes | None:
        """See `Files.get`."""
        try:
            with self._filesystem.open_input_file(self._at(path)) as file:
                return file.read()
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException) as error:
            raise _read_error(self._at(path), error) from error

    def names(self, folder: str) -> list[tuple[str, int]]:
        """See `Files.names`."""
        return sorted((info.base_name, info.size) for info in self._list(folder, recursive=False))

    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """See `Files.sizes`."""
        for info in self._list(folder, recursive=True):
            yield info.path.removeprefix(f"{self._root}/"), info.size

    def _list(self, folder: str, *, recursive: bool) -> list[Any]:
        selector = fs.FileSelector(self._at(folder), recursive=recursive, allow_not_found=True)
        try:
            infos = self._filesystem.get_file_info(selector)
        except (OSError, pa.ArrowException) as error:
            raise _read_error(self._at(folder), error) from error
        return [info for info in infos if info.type == fs.FileType.File]

    def delete(self, path: str) -> None:
        """See `Files.delete`."""
        try:
            self._filesystem.delete_file(self._at(path))
        except FileNotFoundError:
            return
        except (OSError, pa.ArrowException) as error:
            raise _write_error(self._at(path), error) from error

    def delete_folder(self, folder: str) -> None:
        """See `Files.delete_folder`."""
        try:
            self._filesystem.delete_dir(self._at(folder))
        except FileNotFoundError:
            return
        except (OSError, pa.ArrowException) as error:
            raise _write_error(self._at(folder), error) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; they order a rename by themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


_ADVICE = {
    errno.ENOSPC: "no space is left; make room, then resume the sweep",
    errno.EDQUOT: "the disk quota is used up; make room, then resume the sweep",
    errno.EACCES: "permission denied; give write permission or choose another --storage",
    errno.EPERM: "permission denied; give write permission or choose another --storage",
    errno.EROFS: "the file system is read-only; choose another --storage",
    errno.ENOTDIR: "a file is in the way of a folder; choose another --storage",
    errno.EEXIST: "a file is in the way of a folder; choose another --storage",
}


INTACT = " Earlier commits are intact."
"""What a message ends with that a write has failed."""


_REFUSALS = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "NO_SUCH_BUCKET")
"""What the messages of an object store say that will not be another one by itself."""


def _write_error(path: str, error: Exception) -> StorageError:
    advice = _ADVICE.get(getattr(error, "errno", None) or 0, str(error))
    return _kind(error)(f"storage: {path} could not be written: {advice}.{INTACT}")


def _read_error(path: str, error: Exception) -> StorageError:
    return _kind(error)(f"storage: {path} could not be read: {error}.")


def _kind(error: Exception) -> type[StorageError]:
    is_refused = getattr(error, "errno", None) in _ADVICE or any(sign in str(error) for sign in _REFUSALS)
    return StorageRefusedError if is_refused else StorageError
