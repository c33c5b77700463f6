"""Other labels for the same inputs (GRD18 appendix B): permuted at random, or even against odd digits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

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
