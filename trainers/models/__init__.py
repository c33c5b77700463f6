"""Models: ordinary `torch.nn.Module`s from a literal table, name -> entry.

An `nn.Sequential` of layers that `trainers.layers` knows runs through hand-written laned layers; any other
module runs through `torch.func`. Both give the same numbers; the first is faster.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trainers.options import Option, OptionValue

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A row of `MODELS`.

    Args:
        build: `build(input_shape, num_outputs, options)` returns the module, without fixed random state.
        options: Declared options.
        source_digest: For a user's own entry, a digest of its source; `None` for the project's.
    """

    build: "Callable[[tuple[int, ...], int, Mapping[str, OptionValue]], nn.Module]"
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    source_digest: str | None = None


def _mlp(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> "nn.Module":
    from trainers.models.sequential import mlp

    return mlp(input_shape, num_outputs, options)


def _cnn(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> "nn.Module":
    from trainers.models.sequential import cnn

    return cnn(input_shape, num_outputs, options)


ACTIVATIONS = ("relu", "tanh", "gelu", "softplus")

MODELS: dict[str, ModelEntry] = {
    "mlp": ModelEntry(
        build=_mlp,
        options={
            "widths": Option(default=(100, 100), minimum=1),
            "activation": Option(default="relu", allowed=ACTIVATIONS),
        },
    ),
    "cnn": ModelEntry(
        build=_cnn,
        options={
            "channels": Option(default=32, minimum=1),
            "num_convolutions": Option(default=2, minimum=1),
            "activation": Option(default="relu", allowed=ACTIVATIONS),
        },
    ),
}
