"""Hints: what is said to type next can be typed as it stands."""

import math
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweep.costs import Cost
from sweep.forecast import accuracy_text
from sweep.invocation import READS, TRAINS, going_on, hint
from sweep.names import Status
from sweep.places import Places
from sweep.single import find_cell
from trainers.errors import ConfigError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in (
        "MLFLOW_TRACKING_URI",
        "SWEEP_STORAGE",
        "SHARPFLAT_DATA",
        "RAY_JOB_CONFIG_JSON_ENV_VAR",
        "SLURM_JOB_ID",
        "SWEEP_DASHBOARD",
        "SWEEP_FAILED_IS_DONE",
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_program_off_the_path_is_called_from_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/sweep"])
    assert hint("ui") == ".venv/bin/sweep ui"
    monkeypatch.setattr(sys, "argv", [str(here / "my venv" / "bin" / "sweep")])
    assert hint("ui") == "'my venv/bin/sweep' ui"


def test_a_program_on_the_path_is_called_by_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(program(here / "bin" / "sweep"))])
    assert hint("resume", "my sweep") == "sweep resume 'my sweep'"


def test_a_name_is_one_word_and_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep"])
    assert hint("resume", "it's #1", "--cell", "abcd") == """sweep resume 'it'"'"'s #1' --cell abcd"""
    given = Places.resolve(tracking_uri="http://mlflow").given
    assert hint("resume", "--yes", "--cell", "abcd", given=given) == (
        "sweep resume --cell abcd --tracking-uri http://mlflow -- --yes"
    )
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert hint("stop", "-x y") == "sweep stop -- '-x y'"


def test_another_program_on_the_path_is_not_meant(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(here / "bin" / "sweep")
    monkeypatch.setattr(sys, "argv", [str(here / "other" / "sweep")])
    assert hint("ui") == "other/sweep ui"


def test_a_module_is_called_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/sweep/__main__.py"])
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert hint("ui") == "/usr/bin/python3 -m sweep ui"


def test_places_that_were_given_are_given_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep"])
    given = Places.resolve(tracking_uri="sqlite:///my.db", storage="store").given
    uri = f"--tracking-uri sqlite:///{here}/my.db"
    assert hint("report", "demo", given=given, options=READS) == f"sweep report demo {uri}"
    assert hint("resume", "demo", given=given, options=TRAINS) == (
        f"sweep resume demo {uri} --storage {here}/store"
    )
    assert Places.resolve().given == {}


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@host/mlflow", "postgresql://me:***@host/mlflow"),
        ("postgresql://me:sec@ret@host/mlflow", "postgresql://me:***@host/mlflow"),
        ("postgresql://me:s/ec@r/et@host/mlflow", "postgresql://me:***@host/mlflow"),
        ("postgresql://me:1/2@host:5432/mlflow?x=a@b", "postgresql://me:***@host:5432/mlflow?x=a@b"),
        ("postgresql://me@home.org:se:cret@host/mlflow", "postgresql://me@home.org:***@host/mlflow"),
        ("postgresql://:secret@host/mlflow", "postgresql://:***@host/mlflow"),
        ("https://me:s@e/cr@et@host:5000/mlflow", "https://me:***@host:5000/mlflow"),
        ("http://me:123@host:5000", "http://me:***@host:5000"),
        ("s3://key:sec/ret@bucket/path", "s3://key:***@bucket/path"),
        ("abfs://box@me.dfs.core.windows.net/x?sig=a%2Fb", "abfs://box@me.dfs.core.windows.net/x?sig=***"),
        ("abfs://box/x?client_secret=s&client_id=c", "abfs://box/x?client_secret=***&client_id=c"),
    ],
)
def test_nothing_of_a_password_is_shown(uri: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep"])
    given = Places.resolve(tracking_uri=uri).given
    assert shlex.split(hint("ui", given=given)) == ["sweep", "ui", "--tracking-uri", shown]


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:5000/of@us",
        "http://host:5000",
        "https://me@host/x",
        "postgresql://host:5432/mlflow",
        "sqlite:////home/a:b@c/mlflow.db",
        "s3://bucket/a:b@c",
        "s3://bucket/x?endpoint_override=http%3A%2F%2Fhere%3A3900&region=token",
        "postgresql://host/mlflow?sslmode=require",
    ],
)
def test_what_is_no_password_is_shown(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep"])
    given = Places.resolve(tracking_uri=uri).given
    assert shlex.split(hint("ui", given=given)) == ["sweep", "ui", "--tracking-uri", uri]


def test_in_a_job_of_a_cluster_the_reader_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/app/sweep/__main__.py"])
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    given = {"--tracking-uri": "http://mlflow:5000"}
    assert hint("resume", "demo", given=given) == "sweep resume demo"
    # What trains does so there, where `sweep submit` has told the job how the cluster is reached.
    monkeypatch.setenv("SWEEP_DASHBOARD", "http://127.0.0.1:8265")
    given |= {"--storage": "s3://bucket", "--address": "auto"}
    told = going_on("resume", "demo", "--lanes", "2", given=given, options=(*TRAINS, "--address"))
    places = "--tracking-uri http://mlflow:5000 --storage s3://bucket --address http://127.0.0.1:8265"
    assert told == f"sweep resume demo --lanes 2 {places}"
    assert hint("report", "demo", given=given) == "sweep report demo"
    # A RayJob's cluster goes with it.
    monkeypatch.setenv("SWEEP_FAILED_IS_DONE", "1")
    assert going_on("resume", "demo") == "kubectl, deleting the RayJob and applying it again"


def test_on_a_login_node_of_slurm_nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep"])
    assert going_on("resume", "demo") == "sweep resume demo"
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    told = going_on("resume", "demo")
    assert told == "sbatch, with the batch script again (in an interactive job: sweep resume demo)"
    assert hint("status", "demo") == "sweep status demo", "what only looks does so anywhere"


def test_what_says_a_command_says_how_it_is_called_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/sweep"])
    with pytest.raises(ConfigError, match=r"`\.venv/bin/sweep plan SPACE --json` lists"):
        find_cell("00000000", "sqlite:///none.db", "demo", smoke=True, overrides=())
    run = SimpleNamespace(status=Status.COMPLETED, cost=Cost(seconds=1.0, work={"kind": 1}).to_text())
    told = accuracy_text({"a": math.nan}, {"a": run})  # type: ignore[dict-item]
    assert "`.venv/bin/sweep plan SPACE --probe 10` measures" in told
