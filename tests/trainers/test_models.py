"""The MLP and the CNN: layers, counts, shapes and what is refused."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.models_small import SMALL, USER_FILE
from trainers.canonical import cell_id
from trainers.cell import Cell, Phase
from trainers.errors import ConfigError
from trainers.models import ACTIVATIONS, MODELS
from trainers.models.normalization import BatchNormalization
from trainers.models.sequential import ACTIVATION_LAYERS
from trainers.objective import initial_parameters
from trainers.options import Choice, OptionValue
from trainers.training import Trainer

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
        ("softmax", MNIST, {}, 7_850),
        ("softmax", MNIST, {"bias": False}, 7_840),
        ("convnet", CIFAR, {}, 1_250_858),
        ("resnet8", CIFAR, {}, 78_042),
        ("resnet18", CIFAR, {}, 11_181_642),
        ("vgg11", CIFAR, {}, 9_225_610),
        ("transformer", (32,), {}, 4096 * 64 + 32 * 64 + 2 * 49_984 + 128 + 65 * 10),
        ("quadratic", (1,), {}, 2),
        ("cnn", MNIST, {}, 32 * 10 + 32 * (9 * 32 + 1) + 10 * (32 * 7 * 7 + 1)),
        ("cnn", CIFAR, {}, 32 * (27 + 1) + 32 * (9 * 32 + 1) + 10 * (32 * 8 * 8 + 1)),
        ("cnn", CIFAR, {"num_convolutions": 3}, 32 * 28 + 2 * 32 * 289 + 10 * (32 * 4 * 4 + 1)),
        ("cnn", MNIST, {"num_convolutions": 4, "channels": 2}, 2 * 10 + 3 * 2 * 19 + 10 * (2 + 1)),
    ],
)
def test_parameter_counts(
    name: str, shape: tuple[int, ...], options: dict[str, OptionValue], expected: int
) -> None:
    num_outputs = 1 if name == "quadratic" else 10
    assert count(build(name, shape, num_outputs, **options)) == expected


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


def test_resnet18_is_torchvisions() -> None:
    """With the same weights and one pass, in training mode, as its batch normalisation means it here."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    theirs, ours = resnet18(num_classes=10).double().train(), build("resnet18", CIFAR).double()
    mine = dict(ours.named_parameters())
    assert {name: value.shape for name, value in theirs.named_parameters()} == {
        name: value.shape for name, value in mine.items()
    }
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            mine[name].copy_(value)
        images = torch.randn(4, *CIFAR, dtype=torch.float64)
        torch.testing.assert_close(ours(images), theirs(images))


def test_batch_normalization_is_torchs() -> None:
    inputs = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = nn.BatchNorm2d(3).double().train()
    torch.testing.assert_close(BatchNormalization(3).double()(inputs), theirs(inputs))


def test_a_transformer_ignores_padding() -> None:
    module = build("transformer", (6,), 2, vocabulary=9, hidden=8, heads=2, feedforward=8).double()
    sentence = torch.tensor([[3.0, 5.0, 2.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    with torch.no_grad():
        expected = module(sentence)
        module.get_parameter("tokens")[0] += 7.0
        torch.testing.assert_close(module(sentence), expected)
        assert not torch.allclose(module(sentence.flip(1)), expected)
    assert module(torch.zeros(1, 6, dtype=torch.float64)).isfinite().all()


def test_attention_is_torchs() -> None:
    hidden, heads = 8, 2
    module = build("transformer", (6,), 2, vocabulary=9, hidden=hidden, heads=heads, feedforward=8).double()
    layer = module.get_submodule("layers.0")
    theirs = nn.MultiheadAttention(hidden, heads, batch_first=True).double()
    state = layer.state_dict()
    theirs.load_state_dict(
        {
            "in_proj_weight": state["attention_in.weight"],
            "in_proj_bias": state["attention_in.bias"],
            "out_proj.weight": state["attention_out.weight"],
            "out_proj.bias": state["attention_out.bias"],
        }
    )
    values = torch.randn(3, 6, hidden, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] + [False] * 5])
    expected = theirs(values, values, values, key_padding_mask=~mask)[0]
    found = layer.attention_out(layer._attend(layer.attention_in(values), mask))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (None, {}, "cannot be read"),
        ("def build(shape, outputs):\n    return 3", {}, "returned int; expected"),
        ("def other(shape, outputs):\n    return 3", {}, "has no 'build'"),
        ("def build(shape, outputs):\n    raise OSError('no')", {}, r"failed: OSError\('no'\)"),
        (
            "def build(shape, outputs):\n    return {}['width']",
            {},
            r"build of .* failed: KeyError\('width'\)",
        ),
        ("{}['width']", {}, r"model\.py failed: KeyError\('width'\)"),
        ("import torch\nbuild = lambda s, o: torch.nn.BatchNorm2d(3)", {}, "keeps running averages"),
    ],
)
def test_bad_model_files_are_answered(
    source: str | None, options: dict[str, OptionValue], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.py"
    if source is not None:
        path.write_text(source)
    with pytest.raises(ConfigError, match=message):
        build("file", MNIST, path=str(path), **options)


def test_a_model_file_is_addressed_by_its_content(tmp_path: Path) -> None:
    def address(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        phases = (Phase(lr=0.1, until=3),)
        return cell_id(
            Cell(model=Choice.of("file", path=str(path)), dataset=Choice("mnist-5k"), phases=phases)
        )

    assert address("one.py", USER_FILE) == address("two.py", USER_FILE)
    assert address("one.py", USER_FILE) != address("three.py", USER_FILE + "# changed")
    with pytest.raises(ConfigError, match="name the Python file"):
        cell_id(Cell(model=Choice("file"), dataset=Choice("mnist-5k"), phases=(Phase(lr=0.1, until=3),)))


def test_a_model_file_that_changed_after_planning_is_not_built(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    source = (
        "from torch import nn\ndef build(shape, outputs):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, outputs))\n"
    )
    path.write_text(source)
    phases = (Phase(lr=0.1, until=3),)
    planned = Cell(model=Choice.of("file", path=str(path)), dataset=Choice("mnist-5k"), phases=phases)
    address = cell_id(planned)
    path.write_text(source + "# changed")
    with pytest.raises(ConfigError, match=r"model\.py has changed since .*; plan it again, in a new process"):
        Trainer([planned])
    code = f"from trainers.canonical import *; from trainers.cell import *; print(cell_id({planned!r}))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() != address
    path.write_text(source)
    assert Trainer([planned]).lanes[0].cell_id == address


@pytest.mark.parametrize("name", ["resnet8", "transformer"])
def test_an_initialisation_leaves_the_scale_of_what_normalises(name: str) -> None:
    choice, shape = SMALL[name]
    torch.manual_seed(0)
    module = build(name, shape, num_outputs=3, **choice)
    vector = initial_parameters(lambda: build(name, shape, 3, **choice), init="kaiming", seed=0)
    nn.utils.vector_to_parameters(vector, module.parameters())
    for part, parameter in module.named_parameters():
        if parameter.dim() == 1:
            assert torch.equal(parameter, torch.full_like(parameter, not part.endswith("bias"))), part
    inputs = torch.randint(1, 7, (6, *shape)).float()
    assert float(module(inputs).detach().std(0).min()) > 0
