"""Dropout as this project means it: in the gradients of training steps, and nowhere else.

A step takes the gradient of a thinned network (Srivastava et al. 2014). Its masks are a function of (seed,
step), so a resumed run repeats them, and SAM's two gradients of one step share them. Losses, accuracies,
probes and Hessians are those of the whole network: they stay functions of the weights and the data.

A mask is a buffer of the layer, 1 by default; `torch.func` runs the module with each lane's own in its place.

Shape legend: N lanes, B examples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainers.errors import ConfigError
from trainers.randomness import generator

Masks = Mapping[str, Tensor]
"""By the name of a layer's buffer, (N, B, *features)."""

DrawMasks = Callable[[int], Masks]
"""Returns the masks of the next so many examples of a step."""


class Dropout(nn.Module):
    """y = mask x; a training step's mask is 0 with probability `rate`, else 1 / (1 - rate).

    Args:
        rate: At least 0 and below 1.
    """

    mask: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout rate: expected at least 0 and below 1, found {rate!r}.")
        self.rate = rate
        self.register_buffer("mask", torch.ones(()), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply inputs of shape (examples, ...) by the mask."""
        return inputs * self.mask


@dataclass(frozen=True, slots=True)
class MaskedLayer:
    """A layer of dropout: its buffer's name, its rate and the shape of one example's mask."""

    buffer: str
    rate: float
    shape: torch.Size


def masked_layers(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[MaskedLayer, ...]:
    """Return a module's layers of dropout, with the shapes that inputs of this shape have there.

    Raises:
        ConfigError: A pass goes through one of them more than once.
    """
    found: list[MaskedLayer] = []

    def note(name: str, layer: Dropout) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor], outputs: Tensor) -> None:
            found.append(MaskedLayer(f"{name}.mask", layer.rate, outputs.shape[1:]))

        return hook

    layers = {name: part for name, part in module.named_modules() if isinstance(part, Dropout)}
    if not layers:
        return ()
    hooks = [layer.register_forward_hook(note(name, layer)) for name, layer in layers.items()]
    parameter = next(module.parameters())
    with torch.no_grad():
        module(parameter.new_zeros(1, *input_shape))
    for hook in hooks:
        hook.remove()
    names = [layer.buffer for layer in found]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"{max(names, key=names.count)} would be the mask of several places in the forward pass; use one "
            "Dropout for each place."
        )
    return tuple(found)


def masks_of_step(layers: Sequence[MaskedLayer], seeds: Sequence[int], step: int, like: Tensor) -> DrawMasks:
    """Return a function that draws the masks of one step, examples in order.

    Args:
        layers: The layers of dropout; without any there are no masks.
        seeds: One a lane.
        step: The step.
        like: Has the masks' floating point type and device.
    """
    generators = [generator(seed, "dropout", step) for seed in seeds] if layers else []

    def draw(layer: MaskedLayer, examples: int) -> Tensor:
        chances = [torch.rand(examples, *layer.shape, generator=one) for one in generators]
        return (torch.stack(chances) >= layer.rate).to(like) / (1 - layer.rate)

    return lambda examples: {layer.buffer: draw(layer, examples) for layer in layers}
