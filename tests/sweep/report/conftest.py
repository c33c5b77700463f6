"""One MLflow store for all tests of the reader and the reports: making the database is what takes time."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from sweep.record import Record, load_record
from tests.fresh_database import fresh_database
from tests.sweep.report.stored_sweep import Point, StoredCell, space_text, store_sweep


class Store:
    """A store that sweeps are put into and read back from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        database = root / "mlflow.db"
        database.write_bytes(fresh_database())
        self.uri = f"sqlite:///{database}"
        self.client = MlflowClient(self.uri)
        self._counter = itertools.count()

    def put(
        self,
        points: Sequence[Point],
        cells: Mapping[str, StoredCell],
        reports: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> str:
        """Store a sweep under a new name, which is returned."""
        name = f"sweep-{next(self._counter)}"
        text = space_text(name, points, reports)
        store_sweep(self.client, name, points, cells, space_text=text, root=self.root, **options)
        return name

    def record(
        self,
        points: Sequence[Point],
        cells: Mapping[str, StoredCell],
        reports: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> Record:
        """Store a sweep and read it back."""
        return load_record(self.uri, self.put(points, cells, reports, **options))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return the store."""
    return Store(tmp_path_factory.mktemp("store"))
