"""What passes through a multilayer perceptron are held against: flops of its matrix products."""

from torch import nn


def _sizes(module: nn.Module) -> list[int]:
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return [sum(parameter.numel() for parameter in layer.parameters()) for layer in layers]


def flops_a_column(module: nn.Module, holdout_size: int) -> float:
    """Return the floor of the Hessian of `holdout_size` examples times one vector, as the targets define it.

    Forward along the direction and back: 2 + 2 flops a parameter of the first layer and example, twice that
    for the others. A pass takes these for the first layer, whose inputs have no tangents: x W'^T and g'^T x.
    For each of the others it takes half as much again, 12 flops a parameter in six products (x' W^T + x W'^T,
    g' W + g W', g'^T x + g^T x'), so no pass over all parameters comes down to this floor. One in fewer
    coordinates may, since it leaves out inputs that are 0.
    """
    first, *others = _sizes(module)
    return 4.0 * holdout_size * (first + 2 * sum(others))


def flops_a_step(module: nn.Module, batch_size: int) -> float:
    """Return the flops of a step of SGD: forward, and back to the weights and all but the first inputs."""
    first, *others = _sizes(module)
    return batch_size * (4.0 * first + 6.0 * sum(others))
