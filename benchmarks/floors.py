"""The arithmetic that a multilayer perceptron cannot do without, in flops."""

from torch import nn


def _sizes(module: nn.Module) -> list[int]:
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return [sum(parameter.numel() for parameter in layer.parameters()) for layer in layers]


def flops_a_column(module: nn.Module, holdout_size: int) -> float:
    """Return the floor of the Hessian of `holdout_size` examples times one vector.

    Forward along the direction and back: 2 + 2 flops a parameter of the first layer and example, twice that
    for the others, whose inputs and gradients have tangents too.
    """
    first, *others = _sizes(module)
    return 4.0 * holdout_size * (first + 2 * sum(others))


def flops_a_step(module: nn.Module, batch_size: int) -> float:
    """Return the floor of a step of SGD: forward, and back to the weights and all but the first inputs."""
    first, *others = _sizes(module)
    return batch_size * (4.0 * first + 6.0 * sum(others))
