"""The MLP and the CNN: layers, counts, shapes and what is refused."""

import math

import pytest
import torch
from torch import Tensor, nn

from trainers.errors import ConfigError
from trainers.models import ACTIVATIONS, MODELS
from trainers.models.sequential import ACTIVATION_LAYERS
from trainers.options import Choice, OptionValue

MNIST = (1, 28, 28)
CIFAR = (3, 32, 32)


def build(name: str, shape: tuple[int, ...], num_outputs: int = 10, **options: OptionValue) -> nn.Module:
    entry = MODELS[name]
    return entry.build(shape, num_outputs, Choice.of(name, **options).resolve("model", entry.options))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "shape", "options", "expected"),
    [
        ("mlp", MNIST, {}, 89_610),
        ("mlp", CIFAR, {}, 318_410),
        ("mlp", MNIST, {"widths": [200, 200], "activation": "tanh"}, 199_210),
        ("mlp", MNIST, {"widths": []}, 7_850),
        ("cnn", MNIST, {}, 32 * 10 + 32 * (9 * 32 + 1) + 10 * (32 * 7 * 7 + 1)),
        ("cnn", CIFAR, {}, 32 * (27 + 1) + 32 * (9 * 32 + 1) + 10 * (32 * 8 * 8 + 1)),
        ("cnn", CIFAR, {"num_convolutions": 3}, 32 * 28 + 2 * 32 * 289 + 10 * (32 * 4 * 4 + 1)),
        ("cnn", MNIST, {"num_convolutions": 4, "channels": 2}, 2 * 10 + 3 * 2 * 19 + 10 * (2 + 1)),
    ],
)
def test_parameter_counts(
    name: str, shape: tuple[int, ...], options: dict[str, OptionValue], expected: int
) -> None:
    assert count(build(name, shape, **options)) == expected


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("shape", [MNIST, CIFAR, (2, 9, 11)])
def test_output_shapes(name: str, shape: tuple[int, ...], activation: str) -> None:
    outputs = build(name, shape, 7, activation=activation)(torch.randn(3, *shape))
    assert outputs.shape == (3, 7)
    assert outputs.isfinite().all()


def test_layers_of_the_mlp() -> None:
    layers = [type(layer) for layer in build("mlp", MNIST)]
    assert layers == [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def test_layers_of_the_cnn() -> None:
    module = build("cnn", CIFAR, activation="tanh")
    layers = [type(layer) for layer in module]
    block = [nn.Conv2d, nn.Tanh, nn.MaxPool2d]
    assert layers == [*block, *block, nn.Flatten, nn.Linear]
    for convolution in module.modules():
        if isinstance(convolution, nn.Conv2d):
            assert convolution.kernel_size == (3, 3)
            assert convolution.padding == (1, 1)
            assert convolution.stride == (1, 1)


def exact_gelu(inputs: Tensor) -> Tensor:
    return inputs * (1 + torch.erf(inputs / math.sqrt(2))) / 2


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("tanh", lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())),
        ("gelu", exact_gelu),
        ("softplus", lambda x: (1 + x.exp()).log()),
    ],
)
def test_activations(name: str, reference: "nn.Module") -> None:
    inputs = torch.linspace(-5, 5, 101, dtype=torch.float64)
    # 1e-8 tells the exact GELU from its tanh approximation, which is 1e-3 away.
    torch.testing.assert_close(ACTIVATION_LAYERS[name]()(inputs), reference(inputs), rtol=1e-8, atol=1e-8)


def test_every_declared_activation_is_built() -> None:
    assert set(ACTIVATION_LAYERS) == set(ACTIVATIONS)


@pytest.mark.parametrize(("shape", "most"), [(MNIST, 4), (CIFAR, 5), ((1, 1, 8), 0), ((1, 3, 64), 1)])
def test_pooling_that_runs_out_of_pixels_is_refused(shape: tuple[int, ...], most: int) -> None:
    if most:
        assert build("cnn", shape, num_convolutions=most)(torch.zeros(1, *shape)).shape == (1, 10)
    with pytest.raises(ConfigError, match=rf"found {most + 1}; .* at most {most}\."):
        build("cnn", shape, num_convolutions=most + 1)


def test_a_cnn_of_vectors_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"found inputs of shape \(1000,\)"):
        build("cnn", (1000,))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"widths": 100}, r"model\.widths: expected a list, found 100"),
        ("mlp", {"widths": [100, 0]}, r"model\.widths\[1\]: found 0; must be at least 1"),
        ("mlp", {"activation": "rleu"}, r"model\.activation: found 'rleu'; allowed: .*'relu'"),
        ("cnn", {"chanels": 3}, "Did you mean 'channels'"),
        ("cnn", {"num_convolutions": 0}, "must be at least 1"),
    ],
)
def test_bad_options_are_answered(name: str, options: dict[str, OptionValue], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, MNIST, **options)
