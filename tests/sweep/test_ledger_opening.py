"""What a ledger is opened on: what is missing, in the way or deaf is said at once."""

import socket
import sys
import time
from pathlib import Path

import pytest

from sweep.errors import LedgerUnavailableError
from sweep.ledger import Ledger


def test_a_database_without_its_driver_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(LedgerUnavailableError, match=r"\*\*\*@nowhere.*'psycopg2'.*not installed") as caught:
        Ledger.open("postgresql+psycopg2://u:secret@nowhere/db")
    assert "secret" not in str(caught.value)


def test_a_reader_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailableError, match="no MLflow database"):
        Ledger.open(f"sqlite:///{tmp_path / 'none.db'}", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["results/mlruns", "file:///tmp/mlruns", "gopher://x", "sqlite://"])
def test_what_cannot_hold_a_sweep_is_refused(uri: str) -> None:
    with pytest.raises(LedgerUnavailableError, match="tracking-uri"):
        Ledger.open(uri)


def test_a_server_that_is_not_there_is_said_so_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(LedgerUnavailableError, match="does not answer") as away:
        Ledger.open(f"http://127.0.0.1:{port}")
    assert away.value.transient, "it may come back"
    assert time.monotonic() - begun < 60, "MLflow by itself would try for minutes"


@pytest.mark.parametrize(
    ("content", "said"), [(b"x" * 4096, "not a database"), (None, "a folder is in the way")]
)
def test_what_is_no_database_is_said_at_once(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    for create in (False, True):
        begun = time.monotonic()
        with pytest.raises(LedgerUnavailableError, match=said):
            Ledger.open(f"sqlite:///{path}", create=create)
        # MLflow by itself would try again for most of an hour.
        assert time.monotonic() - begun < 60
    assert content is None or path.read_bytes() == content


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.ledger.connection.OPENING_SECONDS", 1)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        begun = time.monotonic()
        with pytest.raises(LedgerUnavailableError, match="does not answer"):
            Ledger.open(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        assert time.monotonic() - begun < 10
