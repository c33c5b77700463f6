"""Softmax regression, the MLP and the CNN, as chains of layers that can be laned by hand."""

from collections.abc import Mapping
from math import prod
from typing import cast

from torch import nn

from trainers.models.fitting import pooled_image
from trainers.options import OptionValue

ACTIVATION_LAYERS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}

KERNEL_SIZE = 3
POOL_SIZE = 2


def mlp(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> nn.Sequential:
    """Build a multilayer perceptron: linear layers with an activation between any two.

    The default, two hidden layers of 100, is the "3 layers" of ZS25: 89,610 parameters on MNIST.

    Args:
        input_shape: Shape of one example; it is flattened.
        num_outputs: Width of the last layer.
        options: `widths` of the hidden layers, and `activation`.
    """
    widths = cast("tuple[int, ...]", options["widths"])
    activation = ACTIVATION_LAYERS[str(options["activation"])]
    layers: list[nn.Module] = [nn.Flatten()]
    num_inputs = prod(input_shape)
    for width in widths:
        layers += [nn.Linear(num_inputs, width), activation()]
        num_inputs = width
    layers.append(nn.Linear(num_inputs, num_outputs))
    return nn.Sequential(*layers)


def softmax(
    input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]
) -> nn.Sequential:
    """Build softmax regression (GRD18): a linear layer, with or without `bias`; the loss has the softmax."""
    linear = nn.Linear(prod(input_shape), num_outputs, bias=bool(options["bias"]))
    return nn.Sequential(nn.Flatten(), linear)


def cnn(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> nn.Sequential:
    """Build a convolutional network: 3 x 3 convolutions, activations and 2 x 2 pooling, then a linear layer.

    Args:
        input_shape: (channels, height, width).
        num_outputs: Width of the linear layer.
        options: `num_convolutions`, `channels` of each, and `activation`.

    Raises:
        ConfigError: The inputs are not images, or too small for so many poolings.
    """
    pooled_image(input_shape, num_outputs, options)
    num_convolutions = cast(int, options["num_convolutions"])
    channels = cast(int, options["channels"])
    activation = ACTIVATION_LAYERS[str(options["activation"])]
    num_channels, height, width = input_shape
    layers: list[nn.Module] = []
    for _ in range(num_convolutions):
        layers += [
            nn.Conv2d(num_channels, channels, KERNEL_SIZE, padding=KERNEL_SIZE // 2),
            activation(),
            nn.MaxPool2d(POOL_SIZE),
        ]
        num_channels, height, width = channels, height // POOL_SIZE, width // POOL_SIZE
    layers += [nn.Flatten(), nn.Linear(num_channels * height * width, num_outputs)]
    return nn.Sequential(*layers)
