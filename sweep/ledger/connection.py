"""The connection to MLflow: opening it within seconds, one kind of error, artifacts in few operations.

MLflow's client retries for minutes by default and reports failures through three libraries' exceptions. Here
a call either succeeds, or raises `LedgerError` soon and says whether trying again can help. Who may wait (the
recorder) tries again; who may not (a command that starts) says so at once, or after a second try
(`sweep.ledger.sending`).
"""

import contextlib
import fcntl
import logging
import os
import re
import secrets
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow.artifacts
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Experiment, FileInfo, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, SQLAlchemyError

from sweep.errors import LedgerError, LedgerUnavailableError
from sweep.ledger.fence import ask_fences, guard_requests
from sweep.ledger.sending import is_of_bucket, sent
from sweep.places import sqlite_uri

OPENING_SECONDS = 5
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")
EXPERIMENTS_PER_PAGE = 1000
PLACES_REMEMBERED = 4096
_PASSWORD = re.compile(r"(?<=://)[^/\s]*:\S*@")
"""Of an address within a message, with its user: MLflow repeats its own, whole."""

_PERMANENT = (
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "INVALID_STATE",
)


_REFUSED_VALUE = re.compile(r"\bDataError\b|StringDataRightTruncation|NumericValueOutOfRange")

_REFUSED_BY_BUCKET = re.compile(
    r"Credentials|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|NoSuchBucket|Forbidden|Unauthorized"
    r"|AuthenticationFailed|ContainerNotFound"
)
"""What clients of buckets say that waiting does not mend."""


def connect(tracking_uri: str, *, create: bool) -> MlflowClient:
    """Open MLflow and see that it answers.

    Args:
        tracking_uri: sqlite:///path, another database's URI, or a server's http(s) address.
        create: Make the SQLite database, and its folder, where there is none.

    Raises:
        LedgerUnavailableError: It does not answer, is of another version, or its kind is not supported.
    """
    scheme = tracking_uri.partition(":")[0].partition("+")[0]
    # MLflow reports its migrations, and every failure in addition to raising it.
    for noisy in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    try:
        if scheme == "sqlite":
            return _open_sqlite(tracking_uri, create=create)
        if scheme in DATABASES:
            _ping_database(tracking_uri, scheme)
            return _opened(tracking_uri)
        if scheme in SERVERS:
            with _environment(
                MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT=str(OPENING_SECONDS)
            ):
                client = _opened(tracking_uri)
            guard_requests(client)
            return client
    except LedgerUnavailableError:
        raise
    except ModuleNotFoundError as error:
        raise LedgerUnavailableError(
            f"MLflow at {_public(tracking_uri)}: this needs the Python package {error.name!r}, which is not "
            f"installed. Install it, name another driver ({scheme}+DRIVER://…), or choose another "
            "--tracking-uri."
        ) from error
    except (MlflowException, requests.RequestException, SQLAlchemyError, OSError) as error:
        remedy = "Choose another" if scheme == "sqlite" else "Start it, or choose another"
        raise LedgerUnavailableError(
            f"MLflow at {_public(tracking_uri)} does not answer: {_short(error)} {remedy} --tracking-uri.",
            transient=scheme != "sqlite",
        ) from error
    raise LedgerUnavailableError(
        f"--tracking-uri {_public(tracking_uri)!r}: expected {', '.join((*DATABASES, *SERVERS))}, "
        f"found {scheme!r}. MLflow's folder of files has no atomic operation, so it cannot hold a sweep."
    )


def _opened(tracking_uri: str) -> MlflowClient:
    client = MlflowClient(tracking_uri=tracking_uri)
    client.search_experiments(max_results=1)
    return client


def _open_sqlite(tracking_uri: str, *, create: bool) -> MlflowClient:
    database = make_url(tracking_uri).database
    if not database or database == ":memory:":
        raise LedgerUnavailableError(f"--tracking-uri {tracking_uri!r}: a sweep needs a database in a file.")
    path = Path(database)
    if not path.exists():
        if not create:
            raise LedgerUnavailableError(
                f"there is no MLflow database {path}; nothing has been recorded there."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
    else:
        _ping_sqlite(path)
    if not create:
        return _opened(tracking_uri)
    # MLflow's migrations of a new database are not safe against another process doing the same.
    with open(path.with_name(f".{path.name}.lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _make_sqlite(path)
        return _opened(tracking_uri)


def _make_sqlite(path: Path) -> None:
    """Make a database under another name first: one whose migrations were cut short can never be opened."""
    fresh = path.with_name(f".{path.name}.new")
    for left in (fresh, fresh.with_name(f"{fresh.name}-journal")):
        left.unlink(missing_ok=True)
    _opened(sqlite_uri(fresh))
    os.replace(fresh, path)


def _ping_sqlite(path: Path) -> None:
    """Look into the file: MLflow would try one that is no database, or may not be read, for most of an hour.

    Raises:
        OSError: It is not a database that can be read; one that is in use can be.
    """
    place = f"file:{quote(str(path.absolute()))}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(place, uri=True, timeout=OPENING_SECONDS)) as database:
            database.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            what = "a folder is in the way" if path.is_dir() else str(error)
            raise OSError(f"{path}: {what}") from error


def _ping_database(tracking_uri: str, scheme: str) -> None:
    """Connect once with a time limit: MLflow by itself would try for minutes."""
    limit = {"postgresql": "connect_timeout", "mysql": "connect_timeout", "mssql": "timeout"}[scheme]
    engine = sqlalchemy.create_engine(tracking_uri, connect_args={limit: OPENING_SECONDS})
    try:
        engine.connect().close()
    finally:
        engine.dispose()


@contextlib.contextmanager
def _environment(**values: str) -> Generator[None, None, None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def translated(doing: str) -> Generator[None, None, None]:
    """Turn every failure of MLflow into `LedgerError`, with whether trying again can help.

    Args:
        doing: What was attempted, for the message.
    """
    try:
        yield
    except MlflowException as error:
        # A value that a column does not take is refused every time; a server has only words for that.
        is_value = isinstance(error.__cause__, DataError) or _REFUSED_VALUE.search(str(error))
        permanent = error.error_code in _PERMANENT or is_value
        raise LedgerError(f"MLflow: {doing} failed: {_short(error)}", transient=not permanent) from error
    except (requests.RequestException, SQLAlchemyError, OSError) as error:
        raise LedgerError(f"MLflow: {doing} failed: {_short(error)}", transient=True) from error
    except ImportError as error:
        # Of an artifact store, whose package is asked for with the first file.
        raise LedgerError(f"MLflow: {doing} failed: {_short(error)}", transient=False) from error
    except Exception as error:
        if not is_of_bucket(error):
            raise
        permanent = _REFUSED_BY_BUCKET.search(f"{type(error).__name__} {error}")
        raise LedgerError(f"MLflow: {doing} failed: {_short(error)}", transient=not permanent) from error


def _short(error: Exception) -> str:
    """Return the first line of a message: MLflow appends statements and links."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _PASSWORD.sub("***@", lines[0])[:500].rstrip(".") + "."


def _public(tracking_uri: str) -> str:
    """Return a URI without its password."""
    try:
        return make_url(tracking_uri).render_as_string(hide_password=True)
    except ArgumentError:
        return tracking_uri


def all_experiments(client: MlflowClient) -> list[Experiment]:
    """Return every active experiment."""
    found: list[Experiment] = []
    token = None
    while True:
        page = client.search_experiments(
            view_type=ViewType.ACTIVE_ONLY, max_results=EXPERIMENTS_PER_PAGE, page_token=token
        )
        found.extend(page)
        token = page.token
        if not token:
            return found


class Artifacts:
    """Files beside runs, by run id and path.

    Where MLflow keeps them in a local folder a file appears whole or not at all; MLflow's own copy could be
    cut short by a kill.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._places: dict[str, str] = {}
        self._lock = threading.Lock()

    def remember(self, run: Run) -> None:
        """Take note of where a run's files are, which MLflow would otherwise be asked for."""
        with self._lock:
            while len(self._places) >= PLACES_REMEMBERED:
                self._places.pop(next(iter(self._places)))
            self._places[run.info.run_id] = str(run.info.artifact_uri)

    def _place(self, run_id: str) -> str:
        if (uri := self._places.get(run_id)) is None:
            run = self._client.get_run(run_id)
            self.remember(run)
            uri = str(run.info.artifact_uri)
        return uri

    def _repository(self, run_id: str) -> Any:
        return get_artifact_repository(self._place(run_id), tracking_uri=self._client.tracking_uri)

    def put(self, run_id: str, path: str, data: bytes) -> None:
        """Write a file; one of that name is replaced."""
        with translated(f"writing {path}"):
            uri = self._place(run_id)
            if is_local_uri(uri):
                self._ask()
                _put_local(Path(local_file_uri_to_path(uri), path), data, self._ask)
                return
            folder, _, name = path.rpartition("/")
            with tempfile.TemporaryDirectory() as temporary:
                local = Path(temporary, name)
                local.write_bytes(data)
                repository = self._repository(run_id)
                sent(lambda: repository.log_artifact(str(local), folder or None), ask=self._ask)

    def _ask(self) -> None:
        ask_fences(self._client)

    def _list(self, run_id: str, folder: str | None) -> list[FileInfo]:
        return sent(lambda: self._client.list_artifacts(run_id, folder))

    def put_verified(self, run_id: str, path: str, data: bytes) -> None:
        """Store a file and read it back.

        Raises:
            LedgerError: What is there is not what was sent.
        """
        self.put(run_id, path, data)
        if self.get(run_id, path) != data:
            raise LedgerError(
                f"MLflow: artifact {path} of run {run_id} is not what was sent.", transient=True
            )

    def paths(self, run_id: str, folder: str) -> list[str]:
        """Return the paths of the files in a folder of a run; none where there is no such folder."""
        with translated(f"listing the files of run {run_id}"):
            uri = self._place(run_id)
            if is_local_uri(uri):
                local = Path(local_file_uri_to_path(uri), folder)
                return [f"{folder}/{path.name}" for path in local.iterdir()] if local.exists() else []
            return [entry.path for entry in self._list(run_id, folder)]

    def read_folder(self, run_id: str, folder: str) -> dict[str, bytes]:
        """Read the files in a folder of a run, by path; none where there is no such folder."""
        with translated(f"reading {folder} of run {run_id}"):
            uri = self._place(run_id)
            if is_local_uri(uri):
                local = Path(local_file_uri_to_path(uri), folder)
                files = local.iterdir() if local.is_dir() else ()
                return {f"{folder}/{file.name}": file.read_bytes() for file in files}
            repository = self._repository(run_id)
            with tempfile.TemporaryDirectory() as temporary:
                paths = [entry.path for entry in sent(lambda: repository.list_artifacts(folder))]
                files = [sent(partial(repository.download_artifacts, path, temporary)) for path in paths]
                return {path: Path(file).read_bytes() for path, file in zip(paths, files, strict=True)}

    def usage(self, run_id: str) -> int:
        """Return the bytes of a run's files; 0 where MLflow does not say."""
        with translated(f"listing the files of run {run_id}"):
            folders, total = [""], 0
            while folders:
                for entry in self._list(run_id, folders.pop() or None):
                    if entry.is_dir:
                        folders.append(entry.path)
                    total += entry.file_size or 0
            return total

    def clear(self, run_id: str, path: str | None = None) -> None:
        """Remove all files of a run, one file, or those in a folder."""
        with translated(f"removing the files of run {run_id}"):
            repository = self._repository(run_id)
            sent(lambda: repository.delete_artifacts(path), ask=self._ask)

    def get(self, run_id: str, path: str) -> bytes | None:
        """Read a file, or return `None` when there is none."""
        with translated(f"reading {path}"):
            uri = self._place(run_id)
            if is_local_uri(uri):
                local = Path(local_file_uri_to_path(uri), path)
                return local.read_bytes() if local.exists() else None
            folder = path.rpartition("/")[0]
            listed = self._list(run_id, folder or None)
            if all(entry.path != path for entry in listed):
                return None
            with tempfile.TemporaryDirectory() as temporary:
                found = sent(
                    lambda: mlflow.artifacts.download_artifacts(
                        run_id=run_id,
                        artifact_path=path,
                        dst_path=temporary,
                        tracking_uri=self._client.tracking_uri,
                    )
                )
                return Path(found).read_bytes()


def _put_local(target: Path, data: bytes, ask: Callable[[], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # Again: writing takes long enough to be stopped in it, and to wake up after the lease.
        ask()
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
