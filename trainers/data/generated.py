"""Data sets that are drawn, not read: sine regression, Gaussian mixtures, and the signs of the 2-d quadratic.

They are functions of their options. Training and test sets come from one generator, training first.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from trainers.data.entry import Dataset, DatasetEntry
from trainers.errors import ConfigError
from trainers.options import Option, OptionValue

if TYPE_CHECKING:
    from torch import Tensor

NUM_TEST = 1_000

_NUM_TRAIN = Option(default=1_000, minimum=1)
_SEED = Option(default=0, minimum=0)


def load_sine(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    """Draw y = sin(pi x) + noise, x uniform in [-1, 1): one period (GRD18 table 1), for testing too."""
    import torch

    from trainers.randomness import generator

    num_train = cast(int, options["num_train"])
    draw = generator(cast(int, options["seed"]), "sine")
    inputs = 2 * torch.rand(num_train + NUM_TEST, 1, generator=draw) - 1
    noise = cast(float, options["noise"]) * torch.randn(inputs.shape, generator=draw)
    return _split(inputs, torch.sin(torch.pi * inputs) + noise, num_train, 1)


def load_mixture(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    """Draw a mixture of Gaussians N(mu_c, sigma^2 I) of equal shares (GRD18 section 3 and appendix E).

    The means are random unit vectors; with `orthogonal` made orthonormal, as the paper's calculation has
    them. Class c has the examples c, c + k, c + 2 k, ...
    """
    import torch

    from trainers.randomness import generator

    num_train, classes = cast(int, options["num_train"]), cast(int, options["classes"])
    draw = generator(cast(int, options["seed"]), "mixture")
    means = torch.randn(classes, cast(int, options["dimension"]), generator=draw)
    if options["orthogonal"]:
        means = torch.linalg.qr(means.mT)[0].mT.contiguous()
    means = means / means.norm(dim=1, keepdim=True)
    labels = torch.arange(num_train + NUM_TEST) % classes
    noise = torch.randn(len(labels), means.shape[1], generator=draw)
    return _split(means[labels] + cast(float, options["sigma"]) * noise, labels, num_train, classes)


def load_signs(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    """Return alternating signs (SAY25 section A.2), for batches of one.

    The paper draws a sign for each step; an epoch of many signs in random order comes close to that, and
    their mean is exactly 0, as the full loss wants it.
    """
    import torch

    signs = 1.0 - 2.0 * (torch.arange(cast(int, options["num_train"]) + 2) % 2).unsqueeze(1)
    return _split(signs, torch.zeros_like(signs), len(signs) - 2, 1)


def _split(inputs: "Tensor", labels: "Tensor", num_train: int, num_outputs: int) -> Dataset:
    return Dataset(
        train_inputs=inputs[:num_train],
        train_labels=labels[:num_train],
        test_inputs=inputs[num_train:],
        test_labels=labels[num_train:],
        num_outputs=num_outputs,
    )


def _sign_sizes(options: Mapping[str, OptionValue]) -> Mapping[str, Any]:
    if (num_train := cast(int, options["num_train"])) % 2:
        raise ConfigError(
            f"dataset.num_train: found {num_train}; must be even, so that the mean of the signs is 0."
        )
    return _train_size(options)


def _train_size(options: Mapping[str, OptionValue]) -> Mapping[str, Any]:
    return {"num_train": options["num_train"]}


def _mixture_sizes(options: Mapping[str, OptionValue]) -> Mapping[str, Any]:
    classes, dimension = cast(int, options["classes"]), cast(int, options["dimension"])
    if options["orthogonal"] and classes > dimension:
        raise ConfigError(
            f"dataset.classes: found {classes}; there are at most {dimension} orthogonal means in as many "
            "dimensions (dataset.dimension)."
        )
    return {
        "num_train": options["num_train"],
        "input_shape": (dimension,),
        "num_outputs": classes,
    }


SINE = DatasetEntry(
    load=load_sine,
    digest="generated:sine:1",
    num_train=1_000,
    num_test=NUM_TEST,
    input_shape=(1,),
    num_outputs=1,
    classifies=False,
    options={"num_train": _NUM_TRAIN, "noise": Option(default=0.1, minimum=0.0), "seed": _SEED},
    sizes=_train_size,
)
GAUSSIAN_MIXTURE = DatasetEntry(
    load=load_mixture,
    digest="generated:gaussian-mixture:1",
    num_train=1_000,
    num_test=NUM_TEST,
    input_shape=(1_000,),
    num_outputs=2,
    options={
        "num_train": _NUM_TRAIN,
        "dimension": Option(default=1_000, minimum=1),
        "classes": Option(default=2, minimum=2),
        "sigma": Option(default=0.02, minimum=0.0),
        "orthogonal": Option(default=False),
        "seed": _SEED,
    },
    sizes=_mixture_sizes,
)
SIGNS = DatasetEntry(
    load=load_signs,
    digest="generated:signs:1",
    num_train=10_000,
    num_test=2,
    input_shape=(1,),
    num_outputs=1,
    classifies=False,
    options={"num_train": Option(default=10_000, minimum=2)},
    sizes=_sign_sizes,
)
