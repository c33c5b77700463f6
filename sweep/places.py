"""Where things are: `results/` (or `$SWEEP_HOME`) and what explicit options put elsewhere.

Everything is absolute before anything starts, because Ray changes the working folder of its workers.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainers.errors import ConfigError

_SQLITE = re.compile(r"sqlite(\+pysqlite)?:///")
_QUOTED = str.maketrans({"%": "%25", "?": "%3F", "#": "%23"})
"""What is not itself in a database's URI, which SQLAlchemy decodes up to a question mark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The places of one command.

    Args:
        home: Folder under which everything without an explicit place lies.
        tracking_uri: MLflow: `sqlite:///…`, `postgresql://…` or the address of a server.
        storage: Checkpoint store: a folder or the URI of a pyarrow filesystem.
        data_folder: Where data sets are kept.
        given: The options of the command line that put something elsewhere; for what is said to type next.
    """

    home: Path
    tracking_uri: str
    storage: str
    data_folder: Path
    given: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def resolve(
        cls, *, tracking_uri: str | None = None, storage: str | None = None, data_folder: str | None = None
    ) -> "Places":
        """Fill in what was not given.

        Raises:
            ConfigError: `tracking_uri` is a folder; MLflow keeps runs in a database or behind a server.
        """
        home = Path(os.environ.get("SWEEP_HOME") or "results").expanduser().absolute()
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(home / "mlflow.db")
        if "://" not in uri:
            raise ConfigError(
                f"--tracking-uri: found {uri!r}; expected sqlite:///path/to/mlflow.db, postgresql://… or http(s)://…"
            )
        place = storage or os.environ.get("SWEEP_STORAGE") or str(home / "storage")
        if "://" not in place:
            place = str(Path(place).expanduser().absolute())
        data = data_folder or os.environ.get("SHARPFLAT_DATA")
        places = cls(
            home=home,
            tracking_uri=_absolute_sqlite(uri),
            storage=place,
            data_folder=Path(data).expanduser().absolute() if data else home / "data",
        )
        options = (
            ("--tracking-uri", tracking_uri, places.tracking_uri),
            ("--storage", storage, places.storage),
            ("--data", data_folder, str(places.data_folder)),
        )
        return replace(places, given={name: where for name, asked, where in options if asked})

    @property
    def artifacts(self) -> Path:
        """Artifacts of an embedded MLflow."""
        return self.home / "artifacts"

    def reports(self, name: str) -> Path:
        """Folder of a sweep's reports; below that of all reports, whatever the sweep's name is."""
        return self.home / "reports" / _as_one_folder(name)


def _as_one_folder(name: str) -> str:
    """Quote what leads elsewhere, and the percent sign for it; every other name is that of its folder."""
    if name in (".", ".."):
        return name.replace(".", "%2E")
    return name.replace("%", "%25").replace("/", "%2F")


def sqlite_uri(path: Path) -> str:
    """Return the URI of an SQLite database, whatever characters its path has."""
    quoted = str(path).translate(_QUOTED)
    # Both are the same to SQLAlchemy. Of the former MLflow makes the folder, and does not decode its name.
    return f"sqlite:///{quoted}" if quoted == str(path) else f"sqlite+pysqlite:///{quoted}"


def sqlite_path(tracking_uri: str) -> Path | None:
    """Return the file of an SQLite database as SQLAlchemy reads its URI, `None` for anything else."""
    if not _SQLITE.match(tracking_uri):
        return None
    # A command that is told of a server, or of no database at all, does not wait for this import.
    from sqlalchemy.engine import make_url

    database = make_url(tracking_uri).database
    return Path(database).expanduser().absolute() if database and database != ":memory:" else None


def _absolute_sqlite(uri: str) -> str:
    path = sqlite_path(uri)
    if path is None:
        return uri
    _, mark, options = uri.partition("?")
    return f"{sqlite_uri(path)}{mark}{options}"
