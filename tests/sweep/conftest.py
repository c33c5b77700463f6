"""A ledger on a SQLite store of its own for every test, and a sweep in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from sweep.lease import Lease
from sweep.ledger import Ledger, Sweep
from sweep.places import Places
from sweep.storage import Storage
from tests import known_schema  # noqa: F401
from tests.fresh_database import fresh_database
from tests.sweep.small_sweep import FakeSpace, make_plan, open_ledger
from tests.sweep.trained_grids import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mlflow.db").write_bytes(fresh_database())
    return tmp_path


@pytest.fixture
def ledger(folder: Path) -> Ledger:
    return open_ledger(folder)


@pytest.fixture
def storage(folder: Path) -> Storage:
    return Storage.open(folder / "storage")


@pytest.fixture
def sweep(ledger: Ledger) -> Sweep:
    return ledger.open_sweep(FakeSpace(), make_plan(0.1))


@pytest.fixture
def lease(ledger: Ledger, sweep: Sweep) -> Iterator[Lease]:
    with Lease.acquire(ledger, sweep) as lease:
        yield lease


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
