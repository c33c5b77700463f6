"""scikit-learn's digits: 1,797 images of 8 x 8 pixels, the smallest real set. They come with scikit-learn.

Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998, UCI, CC BY 4.0), the part that was its test
set. The first 1,500 are for training here, the rest for testing. Pixels, 0 to 16, are divided by 16.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data.digests import verify
from trainers.data.entry import Dataset, DatasetEntry
from trainers.data.labels import DIGIT_LABELS, label_sizes, relabelled
from trainers.errors import DataError
from trainers.options import OptionValue

NUM_TRAIN, NUM_TEST = 1_500, 297
LARGEST_PIXEL = 16
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Of all pixels, then all labels, a byte each."""


def load(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    """Load the set from the installed scikit-learn; `folder` is not used.

    Raises:
        DataError: scikit-learn is not installed, or its digits are others.
    """
    import torch

    try:
        from sklearn.datasets import load_digits  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DataError(
            "data set 'digits' comes with scikit-learn, which is not installed: pip install scikit-learn."
        ) from error
    bunch: Any = load_digits()
    pixels, labels = np.asarray(bunch.data, np.uint8), np.asarray(bunch.target, np.uint8)
    content = pixels.tobytes() + labels.tobytes()
    verify(content, SHA256, what="the digits of scikit-learn", algorithm="sha256")
    inputs = torch.from_numpy(pixels).reshape(-1, 1, 8, 8).float() / LARGEST_PIXEL
    targets = torch.from_numpy(labels).long()
    data = Dataset(
        train_inputs=inputs[:NUM_TRAIN],
        train_labels=targets[:NUM_TRAIN],
        test_inputs=inputs[NUM_TRAIN:],
        test_labels=targets[NUM_TRAIN:],
        num_outputs=10,
    )
    return relabelled(data, options)


DIGITS = DatasetEntry(
    load=load,
    digest=f"sha256:{SHA256}",
    num_train=NUM_TRAIN,
    num_test=NUM_TEST,
    input_shape=(1, 8, 8),
    num_outputs=10,
    options=DIGIT_LABELS,
    sizes=label_sizes,
)
