"""Every model of the table at a size for dense Hessians: its options and the shape of its inputs."""

from pathlib import Path

import torch
from torch import Tensor, nn

from trainers.models import MODELS
from trainers.options import Choice

USER_FILE = """
import torch
from torch import nn


class Gated(nn.Module):
    def __init__(self, num_inputs, num_outputs):
        super().__init__()
        self.inside = nn.Linear(num_inputs, 4)
        self.gate = nn.Parameter(0.1 * torch.randn(4))
        self.outside = nn.Linear(4, num_outputs)
        self.register_buffer("shift", torch.tensor(0.1))

    def forward(self, inputs):
        hidden = nn.functional.silu(self.inside(inputs.flatten(1)) + self.shift)
        return self.outside(hidden * torch.sigmoid(self.gate))


def build(input_shape, num_outputs):
    return Gated(input_shape[0], num_outputs)
"""

SMALL: dict[str, tuple[dict[str, object], tuple[int, ...]]] = {
    "mlp": ({"widths": [4, 3], "activation": "gelu"}, (5,)),
    "softmax": ({"bias": False}, (2, 3)),
    "cnn": ({"channels": 2, "num_convolutions": 1, "activation": "softplus"}, (1, 4, 4)),
    "convnet": ({"channels": 1, "batch_norm": True, "extra_dense": True, "dropout": True}, (1, 10, 10)),
    "vgg11": ({"width": 1}, (1, 4, 4)),
    "resnet8": ({"channels": 2}, (2, 6, 6)),
    "resnet18": ({"channels": 1}, (1, 8, 8)),
    "transformer": ({"vocabulary": 7, "hidden": 8, "heads": 2, "feedforward": 6}, (5,)),
    "quadratic": ({"sharp": 10.0, "noise": 2.0}, (1,)),
    "file": ({}, (5,)),
}


YOURS: dict[str, tuple[dict[str, object], tuple[int, ...]]] = {}
"""A model from the command line; alone then (see `conftest.py`)."""


TOKENS: dict[str, int] = {"transformer": 7}
"""Models whose inputs are token numbers, with how many tokens there are."""


def case_names() -> list[str]:
    """Return what the contract suites go through: the table, or a model of somebody's own."""
    return sorted(YOURS or MODELS)


def small_choice(name: str, folder: Path) -> tuple[Choice, tuple[int, ...]]:
    """Return a small model as a choice, with the shape of its inputs."""
    if name in YOURS:
        options, shape = YOURS[name]
        return Choice.of("file", **options), shape
    options, shape = SMALL[name]
    if name == "file":
        path = folder / "my_model.py"
        path.write_text(USER_FILE)
        options = {"path": str(path)}
    return Choice.of(name, **options), shape


def small_inputs(name: str, *shape: int, draw: torch.Generator) -> Tensor:
    """Return float64 inputs of a model: normal, or token numbers."""
    if name in TOKENS:
        return torch.randint(0, TOKENS[name], shape, generator=draw).double()
    return torch.randn(shape, generator=draw, dtype=torch.float64)


def build_model(choice: Choice, shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    entry = MODELS[choice.name]
    return entry.build(shape, num_outputs, choice.resolve("model", entry.options))
