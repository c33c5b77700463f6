"""CIFAR-100 from a small archive of the real format."""

import dataclasses
import io
import tarfile
from pathlib import Path

import numpy as np
from torchvision import datasets

from tests.trainers.cifar_archive import PER_BATCH, batch_rows, md5, pickled
from trainers.data import DATASETS, cifar10
from trainers.data.cifar10 import SOURCE_100, CifarSource


def write_archive(folder: Path) -> CifarSource:
    members: dict[str, bytes] = {}
    for name in ("train", "test"):
        rows, coarse = batch_rows(name)
        fine = [99 - label for label in coarse]
        members[name] = pickled({"data": rows, "coarse_labels": coarse, "fine_labels": fine})
    members["meta"] = pickled({"fine_label_names": [f"class {number}" for number in range(100)]})
    with tarfile.open(folder / SOURCE_100.archive[0], "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{SOURCE_100.folder}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    content = (folder / SOURCE_100.archive[0]).read_bytes()
    return dataclasses.replace(
        SOURCE_100,
        archive=(SOURCE_100.archive[0], md5(content)),
        train=(("train", md5(members["train"])),),
        test=(("test", md5(members["test"])),),
        meta=("meta", md5(members["meta"])),
    )


def test_images_and_fine_labels_in_order(tmp_path: Path) -> None:
    data = cifar10.load(tmp_path, {"normalize": "scale"}, source=write_archive(tmp_path))
    rows, coarse = batch_rows("train")
    assert data.num_outputs == 100
    assert data.train_labels.tolist() == [99 - label for label in coarse]
    assert data.train_inputs.shape == (PER_BATCH, 3, 32, 32)
    expected = rows.reshape(-1, 3, 32, 32) / 255
    np.testing.assert_allclose(data.train_inputs.numpy(), expected, rtol=1e-6)
    assert len(data.test_labels) == PER_BATCH


def test_constants_are_torchvisions() -> None:
    theirs = datasets.CIFAR100
    assert (theirs.filename, theirs.tgz_md5) == SOURCE_100.archive
    assert theirs.base_folder == SOURCE_100.folder
    assert [tuple(item) for item in theirs.train_list] == list(SOURCE_100.train)
    assert [tuple(item) for item in theirs.test_list] == list(SOURCE_100.test)
    assert (theirs.meta["filename"], theirs.meta["md5"]) == SOURCE_100.meta
    assert theirs.meta["key"] == SOURCE_100.class_names
    assert DATASETS["cifar100"].num_outputs == 100
