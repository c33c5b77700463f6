"""What a search is refused for before anything is changed."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from search_spaces import load_space_text
from sweep.driver import RunOptions, run_sweep
from sweep.places import Places
from tests.integration.faults.killed_writes import SPACE
from trainers.canonical import dataset_entry
from trainers.data import DATASETS, Dataset
from trainers.errors import ConfigError, DataError

SEARCH = SPACE.partition("axes:")[0] + "search: {cells: 2, axes: {lr: {low: 0.01, high: 0.1}}}\n"


@pytest.fixture
def places(folder: Path) -> Places:
    return Places(
        home=folder,
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        storage=str(folder / "storage"),
        data_folder=folder / "data",
    )


def test_every_data_set_that_a_search_may_ask_for_is_there_before_anything_is_done(
    folder: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> Dataset:
        raise DataError("mnist is missing")

    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], load=missing))
    dataset_entry.cache_clear()
    axis = "dataset: {path: dataset, values: [mnist-5k, mnist]}"
    space = load_space_text(SEARCH.replace("lr: {low: 0.01, high: 0.1}", axis))
    with pytest.raises(DataError, match="mnist is missing"):
        run_sweep(space, places, RunOptions(name="search"), Console(file=io.StringIO()))
    assert [path.name for path in folder.iterdir()] == ["mlflow.db"]
    dataset_entry.cache_clear()


def test_a_search_is_not_put_in_order(folder: Path, places: Places) -> None:
    options = RunOptions(name="search", first=("lr=0.05",))
    with pytest.raises(ConfigError, match="'search' is a search; it runs what its sampler") as refused:
        run_sweep(load_space_text(SEARCH), places, options, Console(file=io.StringIO()))
    assert refused.value.exit_code == 2
    assert [path.name for path in folder.iterdir()] == ["mlflow.db"]
