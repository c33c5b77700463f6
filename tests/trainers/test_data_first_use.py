"""Downloads on first use: once, whole or not at all, and with one clear message when they fail.

torchvision is imported where it is used, because the processes that are started here import this module.
"""

import multiprocessing
import os
import socket
import time
from pathlib import Path

import pytest

from trainers.data import DATASETS
from trainers.data.first_use import STALLED_SECONDS, provide
from trainers.errors import DataError

MISSING = "data set 'x' is not there."


def fetch_slowly(folder: Path, scratch: Path) -> None:
    with (folder / "fetches").open("a") as log:
        log.write(f"{os.getpid()}\n")
    (scratch / "x").mkdir()
    with (scratch / "x" / "data").open("w") as file:
        for _ in range(10):
            file.write("half and ")
            file.flush()
            time.sleep(0.02)


def provide_once(folder: Path) -> int:
    """Provide the data from a process of its own; return the length that this process then sees."""
    provide(
        folder,
        present=lambda: (folder / "x" / "data").is_file(),
        fetch=lambda scratch: fetch_slowly(folder, scratch),
        missing=MISSING,
    )
    return (folder / "x" / "data").stat().st_size


def test_of_several_processes_one_downloads(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        sizes = pool.map(provide_once, [tmp_path] * 8, chunksize=1)
    assert sizes == [len("half and ") * 10] * 8
    assert len((tmp_path / "fetches").read_text().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"x", "fetches", ".download.lock"}


@pytest.mark.parametrize(
    "error", [OSError("no route"), RuntimeError("every mirror failed"), TimeoutError("slow")]
)
def test_a_failed_download_leaves_nothing(tmp_path: Path, error: Exception) -> None:
    def fetch(scratch: Path) -> None:
        (scratch / "half").write_text("half")
        raise error

    with pytest.raises(DataError, match=rf"{MISSING} The download failed: {error}") as raised:
        provide(tmp_path, present=lambda: False, fetch=fetch, missing=MISSING)
    assert raised.value.transient, "the network may come back"
    assert {path.name for path in tmp_path.iterdir()} == {".download.lock"}


def test_a_mistake_in_the_code_is_not_a_failed_download(tmp_path: Path) -> None:
    def fetch(scratch: Path) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        provide(tmp_path, present=lambda: False, fetch=fetch, missing=MISSING)


def test_downloads_cannot_stall_for_ever(tmp_path: Path) -> None:
    during: list[float | None] = []
    before = socket.getdefaulttimeout()
    provide(
        tmp_path,
        present=lambda: False,
        fetch=lambda scratch: during.append(socket.getdefaulttimeout()),
        missing=MISSING,
    )
    assert during == [STALLED_SECONDS]
    assert socket.getdefaulttimeout() == before


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")

    def fetch(scratch: Path) -> None:
        (scratch / "mine").write_text("other")
        (scratch / "new").write_text("fetched")

    provide(tmp_path, present=lambda: (tmp_path / "new").is_file(), fetch=fetch, missing=MISSING)
    assert (tmp_path / "mine").read_text() == "kept"
    assert (tmp_path / "new").read_text() == "fetched"


def test_a_folder_that_cannot_be_made_is_a_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        provide(
            tmp_path / "file" / "data", present=lambda: False, fetch=lambda scratch: None, missing=MISSING
        )


@pytest.mark.parametrize(("name", "cls"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_no_data_and_no_network_is_one_message(
    name: str, cls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    # The discard port of this machine: nothing listens there, and no name has to be resolved.
    monkeypatch.setattr(getattr(datasets, cls), "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DataError) as raised:
        DATASETS[name].load(tmp_path, {"normalize": "scale"})
    for said in (name, str(tmp_path), "train-images-idx3-ubyte.gz", "SHARPFLAT_DATA", "refused"):
        assert said in str(raised.value)
    assert {path.name for path in tmp_path.iterdir()} == {".download.lock"}


def test_constants_of_fashion_mnist_are_torchvisions() -> None:
    from torchvision import datasets

    from trainers.data.mnist import FASHION_SOURCE, PARTS

    assert list(zip([f"{part}.gz" for part in PARTS], FASHION_SOURCE.md5s, strict=True)) == [
        tuple(item) for item in datasets.FashionMNIST.resources
    ]
