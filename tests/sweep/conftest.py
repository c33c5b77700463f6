"""A ledger on a SQLite store of its own for every test."""

from pathlib import Path

import pytest

from sweep.ledger import Ledger
from tests.sweep.small_sweep import open_ledger


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A fresh database: MLflow's migrations take seconds."""
    folder = tmp_path_factory.mktemp("template")
    open_ledger(folder)
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def folder(tmp_path: Path, template: bytes) -> Path:
    (tmp_path / "mlflow.db").write_bytes(template)
    return tmp_path


@pytest.fixture
def ledger(folder: Path) -> Ledger:
    return open_ledger(folder)
