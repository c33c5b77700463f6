"""The multilayer perceptron and the convolutional network of the papers, as `nn.Sequential`s."""

from collections.abc import Mapping
from math import prod
from typing import cast

from torch import nn

from trainers.errors import ConfigError
from trainers.options import OptionValue

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}

POOLING = 2
KERNEL = 3


def mlp(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> nn.Sequential:
    """Hidden layers of `widths` units, each followed by the activation, and a linear output layer.

    The default, two hidden layers of 100, is the "3 layers" of ZS25: 89,610 parameters on MNIST.
    """
    activation = _ACTIVATIONS[str(options["activation"])]
    layers: list[nn.Module] = [nn.Flatten()]
    features = prod(input_shape)
    for width in cast("tuple[int, ...]", options["widths"]):
        layers += [nn.Linear(features, width), activation()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, num_outputs))


def cnn(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> nn.Sequential:
    """`num_convolutions` 3 x 3 convolutions of `channels` channels (padding 1), each followed by the activation
    and 2 x 2 pooling, and a linear output layer.

    Raises:
        ConfigError: The images are too small for that many poolings, or not images.
    """
    if len(input_shape) != 3:
        raise ConfigError(f"model cnn: expected images (channels, height, width), found shape {input_shape}.")
    activation = _ACTIVATIONS[str(options["activation"])]
    width, count = cast(int, options["channels"]), cast(int, options["num_convolutions"])
    channels, rows, columns = input_shape
    layers: list[nn.Module] = []
    for number in range(count):
        if min(rows, columns) < POOLING:
            raise ConfigError(
                f"model.num_convolutions: found {count}; images of {input_shape[1]} x {input_shape[2]} pixels "
                f"allow at most {number}."
            )
        layers += [nn.Conv2d(channels, width, KERNEL, padding=KERNEL // 2), activation(), nn.MaxPool2d(POOLING)]
        channels, rows, columns = width, rows // POOLING, columns // POOLING
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * rows * columns, num_outputs))
