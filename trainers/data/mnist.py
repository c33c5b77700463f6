"""MNIST: the whole set from a folder, and MNIST-5k, which ships with the package.

Pixels are divided by 255 and no more (`normalize: scale`); `standardize` centres and scales by the training
set's mean and standard deviation over all pixels.
"""

import hashlib
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.data.entry import Dataset, DatasetEntry
from trainers.errors import DataError
from trainers.options import Option, OptionValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGED = "mnist_5k.xz"
PACKAGED_TRAIN = 5_000
NUM_TEST = 10_000
PIXELS = 28 * 28
SHA256_PACKAGED = "52af3a9ed63ba75314fdd28331c2c92bc0d3ba33c9d8e4f71fd242f9722a5d83"

RAW_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""MD5 sums of the decompressed files of LeCun, Cortes & Burges (1998)."""

OPTIONS = {"normalize": Option(default="scale", allowed=("scale", "standardize"))}


def load_mnist_5k(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    """Read the packaged file; `folder` is not used."""
    import numpy as np

    path = Path(__file__).with_name(PACKAGED)
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error}. Install the package again.") from error
    found = hashlib.sha256(packed).hexdigest()
    if found != SHA256_PACKAGED:
        raise DataError(
            f"data file {path}: expected SHA-256 {SHA256_PACKAGED}, found {found}. Install the package again."
        )
    raw = np.frombuffer(lzma.decompress(packed), np.uint8)
    sizes = [PACKAGED_TRAIN * PIXELS, NUM_TEST * PIXELS, PACKAGED_TRAIN]
    train_images, test_images, train_labels, test_labels = np.split(raw, np.cumsum(sizes))
    return prepare(train_images, train_labels, test_images, test_labels, options)


def load_mnist(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    """Read `folder/MNIST/raw`, where torchvision keeps MNIST too; downloaded by it when absent.

    Raises:
        DataError: The files are damaged, or absent and cannot be downloaded.
    """
    from trainers.data.idx import read_idx

    raw = folder / "MNIST" / "raw"
    if not any((raw / f"{name}{suffix}").is_file() for name in RAW_MD5 for suffix in ("", ".gz")):
        from trainers.data.download import download

        download("MNIST", folder)
    arrays = [read_idx(raw, name, md5) for name, md5 in RAW_MD5.items()]
    return prepare(arrays[0], arrays[1], arrays[2], arrays[3], options)


def prepare(
    train_images: "NDArray[np.uint8]",
    train_labels: "NDArray[np.uint8]",
    test_images: "NDArray[np.uint8]",
    test_labels: "NDArray[np.uint8]",
    options: Mapping[str, OptionValue],
) -> Dataset:
    """Turn bytes into a data set of (1, 28, 28) images."""
    import torch

    train = torch.tensor(train_images).reshape(-1, 1, 28, 28).float() / 255
    test = torch.tensor(test_images).reshape(-1, 1, 28, 28).float() / 255
    if options["normalize"] == "standardize":
        mean, std = train.double().mean(), train.double().std(correction=0)
        train, test = ((train - mean) / std).float(), ((test - mean) / std).float()
    return Dataset(
        train_inputs=train,
        train_labels=torch.tensor(train_labels).long(),
        test_inputs=test,
        test_labels=torch.tensor(test_labels).long(),
        num_outputs=10,
    )


MNIST_5K = DatasetEntry(
    load=load_mnist_5k,
    digest=f"sha256:{SHA256_PACKAGED}",
    num_train=PACKAGED_TRAIN,
    num_test=NUM_TEST,
    input_shape=(1, 28, 28),
    num_outputs=10,
    options=OPTIONS,
)

MNIST = DatasetEntry(
    load=load_mnist,
    digest="md5:" + "+".join(RAW_MD5.values()),
    num_train=60_000,
    num_test=NUM_TEST,
    input_shape=(1, 28, 28),
    num_outputs=10,
    options=OPTIONS,
)
