"""The CIFAR-10 reader on archives of the real format, and what it refuses."""

import dataclasses
import os
import pickle
import pickletools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision import datasets

from tests.trainers.cifar_archive import (
    ARCHIVE,
    CONSTANT_PIXEL,
    PER_BATCH,
    batch_rows,
    md5,
    pickled,
    write_archive,
)
from trainers.data import DATASETS, cifar10
from trainers.data.cifar10 import BATCHES_FOLDER, CifarSource
from trainers.errors import DataError

STANDARDIZE = {"normalize": "standardize"}
SCALE = {"normalize": "scale"}
FLOAT32 = {"rtol": 1e-6, "atol": 1e-6}
"""Inputs are computed in float64 and rounded once, of magnitude up to about 3."""
NUM_TRAIN = 5 * PER_BATCH


@pytest.fixture
def source(tmp_path: Path) -> CifarSource:
    return write_archive(tmp_path)


def train_rows() -> tuple[NDArray[np.float64], list[int]]:
    batches = [batch_rows(f"data_batch_{number}") for number in range(1, 6)]
    rows = np.concatenate([rows for rows, _ in batches]).astype(np.float64)
    return rows.reshape(-1, 3, 32, 32), [label for _, labels in batches for label in labels]


def test_images_and_labels_in_order(tmp_path: Path, source: CifarSource) -> None:
    data = cifar10.load(tmp_path, SCALE, source=source)
    rows, labels = train_rows()
    assert data.train_inputs.dtype == torch.float32
    assert data.train_labels.dtype == torch.int64
    np.testing.assert_allclose(data.train_inputs.numpy(), rows / 255, **FLOAT32)
    assert data.train_labels.tolist() == labels
    test, test_labels = batch_rows("test_batch")
    np.testing.assert_allclose(data.test_inputs.numpy(), test.reshape(-1, 3, 32, 32) / 255, **FLOAT32)
    assert data.test_labels.tolist() == test_labels
    assert data.num_outputs == 10


@pytest.mark.parametrize("num_train", [None, 7])
def test_standardisation_per_pixel_by_the_full_training_set(
    tmp_path: Path, source: CifarSource, num_train: int | None
) -> None:
    data = cifar10.load(tmp_path, STANDARDIZE, num_train=num_train, source=source)
    train = train_rows()[0] / 255
    test = batch_rows("test_batch")[0].reshape(-1, 3, 32, 32).astype(np.float64) / 255
    mean, std = train.mean(0), train.std(0)
    # numpy's mean of equal numbers is off by rounding: the constant pixel is put aside and held to exactly 0.
    varies = np.ones(mean.shape, bool)
    varies[CONSTANT_PIXEL] = False
    std[~varies] = 1
    for found, stored in ((data.train_inputs, train[:num_train]), (data.test_inputs, test)):
        assert found.shape == stored.shape
        expected = np.where(varies, (stored - mean) / std, 0)
        np.testing.assert_allclose(found.numpy(), expected, **FLOAT32)
        assert (found.numpy()[:, *CONSTANT_PIXEL] == 0).all()


def test_the_archive_is_needed_once(tmp_path: Path, source: CifarSource) -> None:
    first = cifar10.load(tmp_path, SCALE, source=source)
    (tmp_path / ARCHIVE).unlink()
    again = cifar10.load(tmp_path, SCALE, source=source)
    assert torch.equal(first.train_inputs, again.train_inputs)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {BATCHES_FOLDER, ".download.lock"}


class Marker:
    """Unpickling one of these leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled_before_its_digest_is_right(tmp_path: Path) -> None:
    marker = tmp_path / "code ran"
    payload = pickle.dumps(Marker(marker))
    good = write_archive(tmp_path / "good")
    # The hostile archive itself has the expected sum, and one member does not.
    bad = write_archive(tmp_path / "bad", payloads={"data_batch_3": payload})
    source = dataclasses.replace(good, archive=bad.archive)
    with pytest.raises(DataError, match=rf"data_batch_3 in .*{md5(payload)}"):
        cifar10.load(tmp_path / "bad", SCALE, source=source)
    # The member is exchanged after extraction.
    cifar10.load(tmp_path / "good", SCALE, source=good)
    for name in ("data_batch_3", "test_batch", "batches.meta"):
        member = tmp_path / "good" / BATCHES_FOLDER / name
        before = member.read_bytes()
        member.write_bytes(payload)
        with pytest.raises(DataError) as raised:
            cifar10.load(tmp_path / "good", SCALE, source=good)
        for said in (str(member), good.files[f"{BATCHES_FOLDER}/{name}"], md5(payload)):
            assert said in str(raised.value)
        member.write_bytes(before)
    assert not marker.exists()
    pickle.loads(payload)
    assert marker.exists(), "the payload would have shown itself"


def test_a_damaged_archive_is_refused_and_kept(tmp_path: Path, source: CifarSource) -> None:
    archive = tmp_path / ARCHIVE
    content = archive.read_bytes()[:-10]
    archive.write_bytes(content)
    with pytest.raises(DataError) as raised:
        cifar10.load(tmp_path, SCALE, source=source)
    for said in (str(archive), source.archive[1], md5(content)):
        assert said in str(raised.value)
    assert archive.read_bytes() == content
    assert not (tmp_path / BATCHES_FOLDER).exists()


def test_an_archive_without_a_batch_is_refused(tmp_path: Path, source: CifarSource) -> None:
    longer = dataclasses.replace(source, train=(*source.train, ("data_batch_6", "0" * 32)))
    with pytest.raises(DataError, match="expected to hold cifar-10-batches-py/data_batch_6"):
        cifar10.load(tmp_path, SCALE, source=longer)


def test_no_data_and_no_network_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The discard port of this machine: nothing listens there, and no name has to be resolved.
    monkeypatch.setattr(datasets.CIFAR10, "url", f"http://127.0.0.1:9/{ARCHIVE}")
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "not there yet"
    with pytest.raises(DataError) as raised:
        DATASETS["cifar10-5k"].load(folder, STANDARDIZE)
    message = str(raised.value)
    for said in (str(folder), ARCHIVE, cifar10.SOURCE.archive[1], "SHARPFLAT_DATA", "refused"):
        assert said in message
    assert "\n" not in message
    assert {path.name for path in folder.iterdir()} == {".download.lock"}


def test_constants_are_torchvisions() -> None:
    reader = datasets.CIFAR10
    assert cifar10.SOURCE.archive == (reader.filename, reader.tgz_md5)
    assert [list(item) for item in cifar10.SOURCE.train] == reader.train_list
    assert [list(item) for item in cifar10.SOURCE.test] == reader.test_list
    assert cifar10.SOURCE.meta == (reader.meta["filename"], reader.meta["md5"])
    assert reader.base_folder == BATCHES_FOLDER


def test_the_subset_keeps_the_first_5000() -> None:
    whole, subset = DATASETS["cifar10"], DATASETS["cifar10-5k"]
    assert (whole.num_train, subset.num_train) == (50_000, 5_000)
    assert whole.num_test == subset.num_test == 10_000
    assert whole.options["normalize"].default == subset.options["normalize"].default == "standardize"


def test_the_subset_entry_cuts_at_its_number(
    tmp_path: Path, source: CifarSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "NUM_SUBSET", 11)
    monkeypatch.setattr(cifar10.load, "__kwdefaults__", {"num_train": None, "source": source})
    assert len(DATASETS["cifar10-5k"].load(tmp_path, SCALE).train_inputs) == 11
    assert len(DATASETS["cifar10"].load(tmp_path, SCALE).train_inputs) == NUM_TRAIN


def test_the_pickles_are_as_old_as_the_published_ones() -> None:
    content = pickled({"data": np.zeros((1, 2), np.uint8)})
    operations = [(operation.name, value) for operation, value, _ in pickletools.genops(content)]
    assert ("GLOBAL", "numpy.core.multiarray _reconstruct") in operations
    dtype = operations.index(("GLOBAL", "numpy dtype"))
    described = [value for name, value in operations[dtype:] if name in ("BINUNICODE", "BININT1")]
    assert described[:3] == ["u1", 0, 1]


def test_two_folders_are_independent(tmp_path: Path, source: CifarSource) -> None:
    other = tmp_path / "with spaces and ünïcode"
    other.mkdir()
    shutil.copy(tmp_path / ARCHIVE, other / ARCHIVE)
    assert len(cifar10.load(other, SCALE, source=source).train_inputs) == NUM_TRAIN
    assert not (tmp_path / BATCHES_FOLDER).exists()
