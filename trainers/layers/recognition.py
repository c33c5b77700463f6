"""Which modules of PyTorch are chains of layers with a lane dimension.

`chain_of` recognises an `nn.Sequential` of known layers and answers `None` for anything else.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from trainers.layers import Layer
from trainers.layers.activation import GELU, RELU, SOFTPLUS, TANH, Activation
from trainers.layers.convolution import Convolution
from trainers.layers.dense import Dense, Flatten
from trainers.layers.pooled_convolution import LARGEST_PATCH, PooledConvolution
from trainers.layers.pooling import ActivatedPool, MaxPool

KNOWN_LAYERS = (
    nn.Linear,
    nn.Conv2d,
    nn.MaxPool2d,
    nn.Flatten,
    nn.ReLU,
    nn.Tanh,
    nn.GELU,
    nn.Softplus,
)

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def chain_of(module: nn.Module, input_shape: Sequence[int]) -> tuple[Layer, ...] | None:
    """Return the laned layers of a sequential module, or `None` where it is not certain what they compute.

    A subclass may compute anything, and so may a layer with hooks or with parameters that are made of others,
    so only the very classes of `torch.nn` count as known, as they were made.

    Args:
        module: Any module.
        input_shape: Shape of one example.
    """
    if type(module) is not nn.Sequential or not _as_made(module):
        return None
    layers: list[Layer] = []
    for child in cast("Sequence[nn.Module]", module):
        layer = _layer_of(child) if type(child) in KNOWN_LAYERS and _as_made(child) else None
        if layer is None:
            return None
        layers.append(layer)
    if not _take_each_other(layers, len(input_shape)):
        return None
    num_params = sum(layer.num_params for layer in layers)
    if num_params == 0 or num_params != sum(parameter.numel() for parameter in module.parameters()):
        # Nothing to train, or a layer that occurs twice and so has its parameters only once.
        return None
    leading = layers[1:] if isinstance(layers[0], Flatten) else layers
    if not leading or not isinstance(leading[0], (Dense, Convolution)):
        return None
    return _joined(layers)


def _as_made(part: nn.Module) -> bool:
    """Whether a part has no hooks, its class's forward pass, and no parameters but its class's, in order."""
    if any(getattr(part, hooks) for hooks in _HOOKS) or "forward" in vars(part):
        return False
    own = [name for name, _ in part.named_parameters(recurse=False)]
    return own in (["weight", "bias"], ["weight"]) if isinstance(part, (nn.Linear, nn.Conv2d)) else not own


def _take_each_other(layers: Sequence[Layer], axes: int) -> bool:
    """Whether dense layers take vectors, and convolutions and pooling images, of examples with these axes."""
    for layer in layers:
        taken = 1 if isinstance(layer, Dense) else 3 if isinstance(layer, (Convolution, MaxPool)) else axes
        if axes != taken:
            return False
        axes = 1 if isinstance(layer, Flatten) else axes
    return True


def _joined(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers, an activation and the pooling after it as one, and a first convolution with them."""
    joined: list[Layer] = []
    for layer in layers:
        before = joined[-1] if joined else None
        if isinstance(layer, MaxPool) and isinstance(before, Activation):
            joined[-1] = ActivatedPool(before, layer)
        else:
            joined.append(layer)
    match joined:
        case [Convolution() as first, ActivatedPool() as pool, *rest] if first.patch_size <= LARGEST_PATCH:
            return PooledConvolution(first, pool), *rest
        case _:
            return tuple(joined)


def _layer_of(child: nn.Module) -> Layer | None:
    match child:
        case nn.Linear():
            return Dense(child.in_features, child.out_features, _has_bias(child))
        case nn.Conv2d() if _plain_convolution(child):
            return Convolution(
                child.in_channels,
                child.out_channels,
                child.kernel_size[0],
                cast("tuple[int, ...]", child.padding)[0],
                _has_bias(child),
            )
        case nn.MaxPool2d() if _plain_pooling(child):
            return MaxPool(cast(int, child.kernel_size))
        case nn.Flatten(start_dim=1, end_dim=-1):
            return Flatten()
        case nn.ReLU():
            return RELU
        case nn.Tanh():
            return TANH
        case nn.GELU(approximate="none"):
            return GELU
        case nn.Softplus(beta=1, threshold=20):
            return SOFTPLUS
        case _:
            return None


def _has_bias(layer: nn.Linear | nn.Conv2d) -> bool:
    # torch declares it as always there.
    return cast("Tensor | None", layer.bias) is not None


def _plain_convolution(layer: nn.Conv2d) -> bool:
    padding = layer.padding
    return (
        layer.stride == (1, 1)
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and layer.kernel_size[0] == layer.kernel_size[1]
        and not isinstance(padding, str)
        and padding[0] == padding[1]
    )


def _plain_pooling(layer: nn.MaxPool2d) -> bool:
    return (
        isinstance(layer.kernel_size, int)
        and layer.stride == layer.kernel_size
        and layer.padding == 0
        and layer.dilation == 1
        and not layer.ceil_mode
        and not layer.return_indices
    )
