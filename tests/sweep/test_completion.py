"""The shell's completion, asked as a shell asks: names of spaces, sweeps and cells, without delay."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweep import completion
from sweep.ledger import Ledger
from tests.sweep.small_sweep import FakeSpace, make_cell, make_plan
from trainers.canonical import cell_id


def complete(folder: Path, words: str, index: int) -> list[str]:
    """What bash would offer for the word at `index`."""
    environment = {
        **os.environ,
        "SWEEP_HOME": str(folder),
        "COMP_WORDS": words,
        "COMP_CWORD": str(index),
        "_SWEEP_COMPLETE": "complete_bash",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    code = "import sys; sys.argv = ['sweep']; from sweep.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_is_offered_commands_spaces_and_options(folder: Path) -> None:
    (folder / "zs25-mine.yaml").write_text("")
    assert complete(folder, "sweep re", 1) == ["resume", "retry", "report"]
    offered = complete(folder, "sweep run zs25-", 2)
    assert {"zs25-fig1", "zs25-table1", "zs25-mine.yaml"} <= set(offered)
    assert all(name.startswith("zs25-") for name in offered)
    assert complete(folder, "sweep search demo --sampler t", 4) == ["tpe"]


def test_sweeps_and_cells_are_those_of_the_database(
    ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    kept = ledger.open_sweep(FakeSpace(), make_plan(0.1), name="kept")
    gone = ledger.open_sweep(FakeSpace(), make_plan(0.2), name="keen")
    cell = make_cell()
    ledger.start_cell(kept, cell_id=cell_id(cell), cell=cell, axes={"lr": 0.1})
    assert completion.complete_sweep("ke") == ["keen", "kept"]
    ledger.delete_sweep(gone)
    assert completion.complete_sweep("ke") == ["kept"] and completion.complete_sweep("x") == []
    assert completion.complete_cell(cell_id(cell)[:4]) == [cell_id(cell)]


def test_without_a_database_nothing_is_offered_and_nothing_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path / "none"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert completion.complete_sweep("") == [] and not (tmp_path / "none").exists()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "mlflow.db").write_text("no database")
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path / "broken"))
    assert completion.complete_sweep("") == []


def test_it_imports_nothing_that_takes_seconds() -> None:
    heavy = "{'mlflow', 'ray', 'torch', 'pandas', 'optuna'}"
    code = f"import sys, sweep.cli; print(sorted({heavy} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
