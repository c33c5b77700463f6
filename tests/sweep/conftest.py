"""A ledger on a SQLite store of its own for every test."""

from pathlib import Path

import pytest
from rich.console import Console

from sweep.ledger import Ledger
from sweep.places import Places
from tests.fresh_database import fresh_database
from tests.sweep.small_sweep import open_ledger
from tests.sweep.trained_grids import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mlflow.db").write_bytes(fresh_database())
    return tmp_path


@pytest.fixture
def ledger(folder: Path) -> Ledger:
    return open_ledger(folder)


@pytest.fixture
def places(folder: Path) -> Places:
    return Places(
        home=folder,
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        storage=str(folder / "storage"),
        data_folder=folder / "data",
    )


@pytest.fixture
def store(folder: Path, ledger: Ledger) -> Store:
    return Store(folder, ledger)


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=120)
