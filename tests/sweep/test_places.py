"""Where things are, in folders of any name: SQLAlchemy decodes the path in a database's URI."""

import os
from pathlib import Path

import pytest

from sweep import completion
from sweep.ledger import Ledger
from sweep.places import Places, sqlite_path
from sweep.stored import stored_sha256, stored_sweeps
from tests.sweep.small_sweep import FakeSpace, make_plan

ODD = ["plain", "a b", "50%done", "50%25done", "h%41", "q?a", "q#a", "q?mode=ro", "größe", "me@host:1", "a+b"]


@pytest.fixture(autouse=True)
def told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "SWEEP_STORAGE", "SHARPFLAT_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ODD)
def test_a_home_of_any_name_has_its_own_database(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / name
    home.mkdir()
    os.rename(folder / "mlflow.db", home / "mlflow.db")
    monkeypatch.setenv("SWEEP_HOME", str(home))
    places = Places.resolve()
    assert sqlite_path(places.tracking_uri) == home / "mlflow.db"
    assert stored_sweeps(places.tracking_uri) == []
    ledger = Ledger.open(places.tracking_uri, artifacts_root=places.artifacts)
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1), name="kept")
    ledger.write_plan(sweep, FakeSpace(), make_plan(0.1))
    assert stored_sweeps(places.tracking_uri) == ["kept"]
    assert stored_sha256(places.tracking_uri, "kept") == FakeSpace().sha256
    assert list((home / "artifacts").rglob("cells.parquet"))
    assert completion.complete_sweep("ke") == ["kept"]
    assert [path.name for path in folder.iterdir()] == [name], "nothing is left beside it"
    # What is said to type next means the same again, as does a relative path.
    assert Places.resolve(tracking_uri=places.tracking_uri).tracking_uri == places.tracking_uri
    monkeypatch.chdir(home)
    assert Places.resolve(tracking_uri="sqlite:///mlflow.db").tracking_uri == places.tracking_uri


def test_a_database_is_made_in_a_home_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "h%41?b"
    monkeypatch.setenv("SWEEP_HOME", str(home))
    assert stored_sweeps(Places.resolve().tracking_uri) == []
    Ledger.open(Places.resolve().tracking_uri)
    assert (home / "mlflow.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [home.name]


def test_what_is_no_database_in_a_file_is_left_as_it_is() -> None:
    for uri in ("http://host:5000/a%20b?c", "postgresql://me:a%40b@host/mlflow", "sqlite:///:memory:"):
        assert sqlite_path(uri) is None
        assert Places.resolve(tracking_uri=uri).tracking_uri == uri
    uri = "sqlite:////a.db?timeout=9"
    assert Places.resolve(tracking_uri=uri).tracking_uri == uri


def test_reports_are_below_the_folder_of_reports_whatever_a_sweep_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    places = Places.resolve()
    plain = ["demo", "my sweep", "lr=0.1", "größe", ".hidden", "...", "first-second.html", "a~b+c@d"]
    for name in plain:
        assert places.reports(name) == tmp_path / "reports" / name
    led_away = ["/tmp/x", "../x", "..", ".", "a/b", "a%2Fb", "/", "%2E%2E"]
    folders = [places.reports(name) for name in led_away]
    assert len({os.path.normpath(folder) for folder in folders}) == len(led_away)
    assert all(Path(os.path.normpath(folder)).parent == tmp_path / "reports" for folder in folders)
