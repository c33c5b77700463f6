"""MNIST, its shipped subset MNIST-5k, and FashionMNIST, which has the same format.

Pixels are divided by 255. `normalize: standardize` then takes one mean and one standard deviation over all
pixels of the full training set (0.1307 and 0.3081 for MNIST): pixel by pixel, a corner that is inked in one
image would become a value in the hundreds.
"""

import functools
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from trainers.data import idx
from trainers.data.digests import verify
from trainers.data.entry import Dataset, DatasetEntry
from trainers.data.first_use import provide
from trainers.data.labels import DIGIT_LABELS, LABELS, label_sizes, relabelled
from trainers.data.normalization import PixelSums, normalize_option, normalized
from trainers.errors import DataError
from trainers.options import OptionValue

NUM_TRAIN = 60_000
NUM_TEST = 10_000
NUM_SHIPPED = 5_000
IMAGE_SHAPE = (1, 28, 28)
NUM_CLASSES = 10

SHIPPED_FILE = "mnist_5k.idx.xz"
SHIPPED_SHA256 = "02f365ab8df2439ca4dc73777c0c93253f83b63f25fcb7a0641e08d786570a5b"
"""Of the decompressed content, which does not depend on the version of the compressor."""

PARTS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

Arrays = tuple[idx.Values, idx.Values, idx.Values, idx.Values]
"""Training images and labels, test images and labels, as stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdxSource:
    """Where a data set of four IDX files comes from.

    Args:
        name: The key in `DATASETS`.
        torchvision_class: The class of `torchvision.datasets` that downloads it; also its folder's name.
        md5s: The MD5 sum of each of `PARTS`.
        of_archives: Whether these are sums of the `.gz` archives; otherwise of their content.
    """

    name: str
    torchvision_class: str
    md5s: tuple[str, str, str, str]
    of_archives: bool

    @property
    def digest(self) -> str:
        """The address of the exact bytes."""
        return "md5:" + "+".join(self.md5s)


MNIST_SOURCE = IdxSource(
    name="mnist",
    torchvision_class="MNIST",
    md5s=(
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    of_archives=False,
)

MNIST_SUMS = PixelSums(
    count=NUM_TRAIN * 28 * 28,
    values=np.array(1_567_298_545, np.int64),
    squares=np.array(342_590_800_147, np.int64),
)
"""Over all 60,000 training images, so that `standardize` does to MNIST-5k what it does to MNIST."""

FASHION_SOURCE = IdxSource(
    name="fashion-mnist",
    torchvision_class="FashionMNIST",
    md5s=(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    of_archives=True,
)


def load_shipped(path: Path | None, options: Mapping[str, OptionValue]) -> Dataset:
    """Load MNIST-5k from `path`; `None` is the file in the package.

    Raises:
        DataError: The file is missing, damaged or another version.
    """
    arrays = shipped_arrays() if path is None else _read_shipped(path)
    return _dataset(arrays, MNIST_SUMS, options)


@functools.cache
def shipped_arrays() -> Arrays:
    """Read and verify the file in the package, once a process; nobody can write to the arrays.

    Raises:
        DataError: The file is missing, damaged or another version.
    """
    return _read_shipped(Path(str(files("trainers.data") / SHIPPED_FILE)))


def _read_shipped(where: Path) -> Arrays:
    try:
        content = lzma.decompress(where.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise DataError(
            f"{where}: cannot be read ({error}). It belongs to the package: install it again, or make it "
            "with python -m trainers.data.build_mnist_5k --source FOLDER."
        ) from error
    verify(content, SHIPPED_SHA256, what=f"the content of {where}", algorithm="sha256")
    train_images, train_labels, test_images, test_labels = idx.parse_records(content, origin=str(where))
    return train_images, train_labels, test_images, test_labels


def read_source(raw: Path, source: IdxSource) -> Arrays:
    """Read and verify the four files in the folder `raw`: training images and labels, test images and labels.

    Raises:
        DataError: A file is missing or damaged.
    """
    arrays: list[idx.Values] = []
    for name, md5 in zip(PARTS, source.md5s, strict=True):
        found = idx.find_file(raw, name, archive_only=source.of_archives)
        if found is None:
            looked_for = f"{name}.gz" if source.of_archives else f"{name} or {name}.gz"
            raise DataError(f"{raw}: expected to hold {looked_for}, which is not there.")
        arrays.append(idx.read_file(found, md5=md5, archive_md5=source.of_archives))
    return arrays[0], arrays[1], arrays[2], arrays[3]


def load_source(folder: Path, options: Mapping[str, OptionValue], source: IdxSource) -> Dataset:
    """Load a whole data set from `folder`, downloading it on first use.

    Raises:
        DataError: No data and no network, or a damaged file.
    """
    raw = folder / source.torchvision_class / "raw"

    def present() -> bool:
        return all(idx.find_file(raw, name, archive_only=source.of_archives) for name in PARTS)

    def fetch(scratch: Path) -> None:
        from torchvision import datasets

        getattr(datasets, source.torchvision_class)(root=str(scratch), download=True)

    provide(
        folder,
        present=present,
        fetch=fetch,
        missing=(
            f"data set {source.name!r} is not in {folder}: looked for {raw}/{PARTS[0]}.gz and the three "
            "that belong to it. Put them there, or set SHARPFLAT_DATA to the folder that holds "
            f"{source.torchvision_class}/raw, or run once with a network."
        ),
    )
    arrays = read_source(raw, source)
    return _dataset(arrays, PixelSums.of(arrays[0]).pooled(), options)


def _dataset(arrays: Arrays, sums: PixelSums, options: Mapping[str, OptionValue]) -> Dataset:
    import torch

    train_images, train_labels, test_images, test_labels = arrays
    how = str(options["normalize"])
    data = Dataset(
        train_inputs=torch.from_numpy(normalized(train_images[:, None], how, sums)),
        train_labels=torch.from_numpy(train_labels.astype(np.int64)),
        test_inputs=torch.from_numpy(normalized(test_images[:, None], how, sums)),
        test_labels=torch.from_numpy(test_labels.astype(np.int64)),
        num_outputs=NUM_CLASSES,
    )
    return relabelled(data, options)


def _load_mnist_5k(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    return load_shipped(None, options)


def _load_mnist(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    return load_source(folder, options, MNIST_SOURCE)


def _load_fashion(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    return load_source(folder, options, FASHION_SOURCE)


MNIST_5K = DatasetEntry(
    load=_load_mnist_5k,
    digest=f"sha256:{SHIPPED_SHA256}",
    num_train=NUM_SHIPPED,
    num_test=NUM_TEST,
    input_shape=IMAGE_SHAPE,
    num_outputs=NUM_CLASSES,
    options={"normalize": normalize_option("scale"), **DIGIT_LABELS},
    sizes=label_sizes,
)
MNIST = DatasetEntry(
    load=_load_mnist,
    digest=MNIST_SOURCE.digest,
    num_train=NUM_TRAIN,
    num_test=NUM_TEST,
    input_shape=IMAGE_SHAPE,
    num_outputs=NUM_CLASSES,
    options={"normalize": normalize_option("scale"), **DIGIT_LABELS},
    sizes=label_sizes,
)
FASHION_MNIST = DatasetEntry(
    load=_load_fashion,
    digest=FASHION_SOURCE.digest,
    num_train=NUM_TRAIN,
    num_test=NUM_TEST,
    input_shape=IMAGE_SHAPE,
    num_outputs=NUM_CLASSES,
    options={"normalize": normalize_option("scale"), **LABELS},
)
