"""Models: ordinary `torch.nn.Module`s from a literal table, name -> entry.

An `nn.Sequential` of layers that `trainers.layers` knows runs through hand-written laned layers; any other
module runs through `torch.func`. Both give the same numbers; the first is faster.

A module of your own needs no row here: `model: {name: file, path: my_model.py, function: build}` calls
`build(input_shape, num_outputs)` of that file, see `trainers.models.user`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from trainers.data.entry import DatasetEntry
from trainers.models import fitting
from trainers.models.fitting import Fit
from trainers.models.user import source_digest
from trainers.options import Option, OptionValue

if TYPE_CHECKING:
    from torch import nn

Build = Callable[[tuple[int, ...], int, Mapping[str, OptionValue]], "nn.Module"]
"""`build(input_shape, num_outputs, options)` returns the module, without fixed random state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A row of `MODELS`.

    Args:
        function: The builder, a `Build`, as "module:name": planning reads this table and needs no torch.
        options: Declared options.
        fit: Refuses data that the model does not take; `None` where only the builder knows.
        takes_tokens: Whether its inputs are token numbers, fewer than the option `vocabulary`.
        source_digest: For code of the user's, a digest of its source, which then stands for `path`.
    """

    function: str
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    fit: Fit | None = None
    takes_tokens: bool = False
    source_digest: Callable[[Mapping[str, OptionValue]], str] | None = None

    @property
    def build(self) -> Build:
        """The builder."""
        module, _, name = self.function.partition(":")
        return getattr(import_module(f"trainers.models.{module}"), name)

    def require(self, data: DatasetEntry, options: Mapping[str, OptionValue]) -> None:
        """Raise `ConfigError` where the model with these options is known not to take such data."""
        if self.fit is not None:
            self.fit(data.input_shape, data.num_outputs, options)
        if self.takes_tokens:
            fitting.tokens(data.vocabulary, options)


ACTIVATIONS = ("relu", "tanh", "gelu", "softplus")
_ACTIVATION = Option(default="relu", allowed=ACTIVATIONS)

MODELS: dict[str, ModelEntry] = {
    "mlp": ModelEntry(
        function="sequential:mlp",
        fit=fitting.anything,
        options={"widths": Option(default=(100, 100), minimum=1), "activation": _ACTIVATION},
    ),
    "softmax": ModelEntry(
        function="sequential:softmax", fit=fitting.anything, options={"bias": Option(default=True)}
    ),
    "cnn": ModelEntry(
        function="sequential:cnn",
        fit=fitting.pooled_image,
        options={
            "channels": Option(default=32, minimum=1),
            "num_convolutions": Option(default=2, minimum=1),
            "activation": _ACTIVATION,
        },
    ),
    "convnet": ModelEntry(
        function="images:convnet",
        fit=fitting.convnet_image,
        options={
            "channels": Option(default=32, minimum=1),
            "batch_norm": Option(default=False),
            "extra_dense": Option(default=False),
            "dropout": Option(default=False, later=True),
        },
    ),
    "vgg11": ModelEntry(
        function="images:vgg11",
        fit=fitting.image,
        options={"width": Option(default=64, minimum=1), "activation": _ACTIVATION},
    ),
    "resnet8": ModelEntry(
        function="images:resnet8", fit=fitting.image, options={"channels": Option(default=16, minimum=1)}
    ),
    "resnet18": ModelEntry(
        function="images:resnet18", fit=fitting.image, options={"channels": Option(default=64, minimum=1)}
    ),
    "transformer": ModelEntry(
        function="transformer:transformer",
        fit=fitting.sequence,
        takes_tokens=True,
        options={
            "vocabulary": Option(default=4096, minimum=2),
            "hidden": Option(default=64, minimum=1),
            "heads": Option(default=8, minimum=1),
            "num_layers": Option(default=2, minimum=1),
            "feedforward": Option(default=256, minimum=1),
        },
    ),
    "quadratic": ModelEntry(
        function="quadratic:quadratic",
        fit=fitting.sign,
        options={"sharp": Option(default=1000.0), "noise": Option(default=100.0)},
    ),
    "file": ModelEntry(
        function="user:build",
        options={"path": Option(default=""), "function": Option(default="build")},
        source_digest=source_digest,
    ),
}
