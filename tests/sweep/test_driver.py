"""A whole run of a small grid by its driver, with packs trained in this process in Ray's place."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from rich.console import Console

from search_spaces import load_space_text
from sweep import names, training
from sweep.driver import EXIT_DONE, RunOptions, run_sweep
from sweep.places import Places
from tests.integration.faults.killed_writes import SPACE, HereCluster, packs_here
from tests.integration.faults.records import assert_clean


def test_a_request_that_was_repeated_on_its_way_leaves_one_run_a_cell(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "Cluster", HereCluster)
    monkeypatch.setattr(training, "run_packs", packs_here(SimpleNamespace(note=lambda _: None)))  # type: ignore[arg-type]
    create_run, made = MlflowClient.create_run, list[str]()

    def twice(client: MlflowClient, *arguments: Any, **named: Any) -> Any:
        # The first answer is lost, and whoever is on the way asks again.
        lost = create_run(client, *arguments, **named)
        if named["tags"][names.TAG_ROLE] != names.ROLE_CELL:
            return lost
        made.append(lost.info.run_id)
        return create_run(client, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    places = Places(
        home=folder,
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        storage=str(folder / "storage"),
        data_folder=folder / "data",
    )
    said = io.StringIO()
    code = run_sweep(load_space_text(SPACE), places, RunOptions(name="writes"), Console(file=said))
    assert code == EXIT_DONE, said.getvalue()
    assert len(made) == 2
    assert_clean(folder / "mlflow.db")
