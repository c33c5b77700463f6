"""Other labels for the same inputs (GRD18 appendix B): permuted at random, or even against odd digits.

And what order labels are in.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np

from trainers.data.entry import Dataset
from trainers.options import Option, OptionValue

_SEED = Option(default=0, minimum=0, later=True, when=("labels", "random"))

LABELS: dict[str, Option] = {
    "labels": Option(default="given", allowed=("given", "random"), later=True),
    "labels_seed": _SEED,
}
"""Options of every classification set."""

DIGIT_LABELS: dict[str, Option] = {
    "labels": Option(default="given", allowed=("given", "random", "parity"), later=True),
    "labels_seed": _SEED,
}
"""Options of sets whose classes are digits."""


FEWER_CHANGES = 10
"""Labels come in runs where they change so many times less often than in random order."""


def in_runs(labels: np.ndarray) -> bool:
    """Return whether classes, (n,) or shares (n, C), stand beside their own kind, as in a sorted file."""
    classes = labels if labels.ndim == 1 else labels.argmax(1)
    shares = np.unique(classes, return_counts=True)[1] / len(classes)
    in_random_order = (len(classes) - 1) * (1 - (shares**2).sum())
    return bool(np.count_nonzero(np.diff(classes)) * FEWER_CHANGES < in_random_order)


def label_sizes(options: Mapping[str, OptionValue]) -> Mapping[str, int]:
    """Return the sizes of a data set that these labels change."""
    return {"num_outputs": 2} if options.get("labels") == "parity" else {}


def relabelled(data: Dataset, options: Mapping[str, OptionValue]) -> Dataset:
    """Return a data set with the labels that its options ask for.

    "random" permutes the training labels by `labels_seed`, which keeps how often each occurs; the test labels
    stay, so that accuracy is at chance. "parity" makes them the digit modulo 2.
    """
    how = options.get("labels", "given")
    if how == "parity":
        return replace(
            data, train_labels=data.train_labels % 2, test_labels=data.test_labels % 2, num_outputs=2
        )
    if how == "random":
        import torch

        from trainers.randomness import generator

        draw = generator(cast(int, options["labels_seed"]), "labels")
        order = torch.randperm(len(data.train_labels), generator=draw)
        return replace(data, train_labels=data.train_labels[order])
    return data
