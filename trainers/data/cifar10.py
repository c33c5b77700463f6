"""CIFAR-10, its first 5,000 training images, and CIFAR-100, through `torchvision.datasets`.

The batches are pickles. Each is compared with its published digest before torchvision unpickles it.
"""

import tarfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainers.data.digests import verify
from trainers.data.entry import Dataset, DatasetEntry
from trainers.data.first_use import provide
from trainers.data.labels import LABELS, relabelled
from trainers.data.normalization import Images, PixelSums, normalize_option, normalized
from trainers.errors import DataError
from trainers.options import OptionValue

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10

NUM_TRAIN = 50_000
NUM_TEST = 10_000
NUM_SUBSET = 5_000
IMAGE_SHAPE = (3, 32, 32)
BATCHES_FOLDER = "cifar-10-batches-py"


@dataclass(frozen=True, slots=True, kw_only=True)
class CifarSource:
    """The published archive and its files.

    Args:
        name: The key in `DATASETS`.
        torchvision_class: The class of `torchvision.datasets` that reads it.
        folder: The folder that the archive holds.
        num_classes: Number of classes; of CIFAR-100, the fine ones.
        class_names: Key of the classes' names in `meta`.
        archive: Name and MD5 sum of the archive.
        train: Name and MD5 sum of each training batch, in order.
        test: The same of the test batch.
        meta: The same of the file with the names of the classes.
    """

    name: str = "cifar10"
    torchvision_class: str = "CIFAR10"
    folder: str = BATCHES_FOLDER
    num_classes: int = 10
    class_names: str = "label_names"
    archive: tuple[str, str]
    train: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    meta: tuple[str, str]

    @property
    def files(self) -> dict[str, str]:
        """MD5 sums by path inside the archive."""
        return {f"{self.folder}/{name}": md5 for name, md5 in (*self.train, *self.test, self.meta)}

    @property
    def digest(self) -> str:
        """The address of the exact bytes."""
        return f"md5:{self.archive[1]}"


SOURCE = CifarSource(
    archive=("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    train=(
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
    ),
    test=(("test_batch", "40351d587109b95175f43aff81a1287e"),),
    meta=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
)

SOURCE_100 = CifarSource(
    name="cifar100",
    torchvision_class="CIFAR100",
    folder="cifar-100-python",
    num_classes=100,
    class_names="fine_label_names",
    archive=("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    train=(("train", "16019d7e3df5f24257cddd939b257f8d"),),
    test=(("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),),
    meta=("meta", "7973b15100ade9c7d40fb424638fde48"),
)


def load(
    folder: Path,
    options: Mapping[str, OptionValue],
    *,
    num_train: int | None = None,
    source: CifarSource = SOURCE,
) -> Dataset:
    """Load CIFAR-10 from `folder`, extracting or downloading the archive on first use.

    Args:
        folder: The data folder.
        options: `normalize`; its statistics are those of all training images, however many are kept.
        num_train: How many of the first training images to keep; `None` is all.
        source: What the files are and must hash to.

    Raises:
        DataError: No data and no network, or a damaged file.
    """
    import torch

    provide(
        folder,
        present=lambda: all((folder / path).is_file() for path in source.files),
        fetch=lambda scratch: _fetch(folder, scratch, source),
        missing=(
            f"data set {source.name!r} is not in {folder}: looked for {source.archive[0]} (MD5 "
            f"{source.archive[1]}) and for {source.folder}/ from it. Put the archive there, or set "
            "SHARPFLAT_DATA to the folder that holds it, or run once with a network."
        ),
    )
    for path, md5 in source.files.items():
        verify((folder / path).read_bytes(), md5, what=str(folder / path), algorithm="md5")
    train_images, train_labels = _read(folder, source, train=True)
    test_images, test_labels = _read(folder, source, train=False)
    sums = PixelSums.of(train_images)
    how = str(options["normalize"])
    data = Dataset(
        train_inputs=torch.from_numpy(normalized(train_images[:num_train], how, sums)),
        train_labels=torch.tensor(train_labels[:num_train], dtype=torch.int64),
        test_inputs=torch.from_numpy(normalized(test_images, how, sums)),
        test_labels=torch.tensor(test_labels, dtype=torch.int64),
        num_outputs=source.num_classes,
    )
    return relabelled(data, options)


def _fetch(folder: Path, scratch: Path, source: CifarSource) -> None:
    """Extract the archive in `folder`, or else a downloaded one, into `scratch`.

    Only the files that are expected are taken out, each after its digest, so an archive cannot put anything
    elsewhere.
    """
    name, md5 = source.archive
    archive = folder / name
    if not archive.is_file():
        from torchvision import datasets
        from torchvision.datasets.utils import download_url

        download_url(getattr(datasets, source.torchvision_class).url, str(scratch), filename=name, md5=md5)
        archive = scratch / name
    verify(archive.read_bytes(), md5, what=str(archive), algorithm="md5")
    (scratch / source.folder).mkdir()
    with tarfile.open(archive, "r:gz") as opened:
        for path, file_md5 in source.files.items():
            try:
                member = opened.extractfile(path)
            except KeyError:
                member = None
            if member is None:
                raise DataError(f"{archive}: expected to hold {path}, which is not in it.")
            content = member.read()
            verify(content, file_md5, what=f"{path} in {archive}", algorithm="md5")
            (scratch / path).write_bytes(content)


def _reader(source: CifarSource) -> "type[TorchvisionCIFAR10]":
    """Return torchvision's reader, told which files to expect."""
    from torchvision import datasets

    class Reader(datasets.CIFAR10):
        base_folder = source.folder
        tgz_md5 = source.archive[1]
        train_list = [list(item) for item in source.train]
        test_list = [list(item) for item in source.test]
        meta = {"filename": source.meta[0], "key": source.class_names, "md5": source.meta[1]}

    return Reader


def _read(folder: Path, source: CifarSource, *, train: bool) -> tuple[Images, list[int]]:
    """Return images (n, 3, 32, 32) and labels."""
    with warnings.catch_warnings():
        # The published pickles describe their dtype as numpy did in 2009, which some versions of 2.4 report.
        warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed", category=Warning)
        opened: Any = _reader(source)(root=str(folder), train=train, download=False)
    return np.ascontiguousarray(opened.data.transpose(0, 3, 1, 2)), list(opened.targets)


def _load_all(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    return load(folder, options)


def _load_100(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    return load(folder, options, source=SOURCE_100)


def _load_first(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    return load(folder, options, num_train=NUM_SUBSET)


CIFAR10 = DatasetEntry(
    load=_load_all,
    digest=SOURCE.digest,
    num_train=NUM_TRAIN,
    num_test=NUM_TEST,
    input_shape=IMAGE_SHAPE,
    num_outputs=SOURCE.num_classes,
    options={"normalize": normalize_option("standardize"), **LABELS},
)
CIFAR10_5K = DatasetEntry(
    load=_load_first,
    digest=SOURCE.digest,
    num_train=NUM_SUBSET,
    num_test=NUM_TEST,
    input_shape=IMAGE_SHAPE,
    num_outputs=SOURCE.num_classes,
    options={"normalize": normalize_option("standardize"), **LABELS},
)
CIFAR100 = DatasetEntry(
    load=_load_100,
    digest=SOURCE_100.digest,
    num_train=NUM_TRAIN,
    num_test=NUM_TEST,
    input_shape=IMAGE_SHAPE,
    num_outputs=SOURCE_100.num_classes,
    options={"normalize": normalize_option("standardize"), **LABELS},
)
