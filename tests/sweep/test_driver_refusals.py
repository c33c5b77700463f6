"""What a search is refused for before anything is changed."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from search_spaces import load_space_text
from sweep.cli import main
from sweep.driver import RunOptions, run_sweep
from sweep.errors import ClusterError, OtherStorageError, StorageUnavailableError
from sweep.places import Places
from tests.integration.faults.killed_writes import SPACE
from trainers.canonical import dataset_entry
from trainers.data import DATASETS, Dataset
from trainers.errors import ConfigError, DataError, DownloadError, SharpflatError

SEARCH = SPACE.partition("axes:")[0] + "search: {cells: 2, axes: {lr: {low: 0.01, high: 0.1}}}\n"


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


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong"), 0),
        (DataError("damaged"), 0),
        (OtherStorageError("another store"), 0),
        (DownloadError("no network"), 2),
        (ClusterError("no node has come"), 2),
        (StorageUnavailableError("no store"), 2),
        (None, 2),
    ],
)
def test_bad_input_is_an_end_where_another_cluster_would_be_begun(
    error: SharpflatError | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise error or ConfigError("wrong")

    given: list[RunOptions] = []
    monkeypatch.setattr(
        "sweep.driver.run_sweep",
        lambda space, places, options, console, *, begun: given.append(options) or refuse(),
    )
    if error is not None:
        monkeypatch.setenv("SWEEP_FAILED_IS_DONE", "1")
    with pytest.raises(SystemExit) as ended:
        main(["run", "demo", "--smoke"])
    assert ended.value.code == code
    assert [options.failed_is_done for options in given] == [error is not None]
