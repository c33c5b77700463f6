"""The training objective as the loop sees it: losses, gradients and curvature products of N lanes at once.

Two implementations with one contract: `trainers.chain` for sequential models (layers written with a lane
dimension) and `trainers.functional` for any other module (`torch.func`). Parameters are one flat vector a
lane, in the order of the module's `named_parameters()`.

Shape legend: N lanes, P parameters, R directions, B examples, X the axes of one example, C outputs.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from trainers.cell import DEFAULT_INIT
from trainers.coordinates import Coordinates
from trainers.errors import ConfigError
from trainers.losses import Loss
from trainers.models.dropout import Masks
from trainers.randomness import global_draws

BlockProduct = Callable[[Tensor], Tensor]
"""Maps a block of directions (N, R, P) to its products (N, R, P)."""


class CurvatureProduct(Protocol):
    """A `BlockProduct` that can write where it is told to: a block's worth of memory is slow to copy."""

    def __call__(self, directions_NRP: Tensor, /, into_NRP: Tensor | None = None) -> Tensor:
        """Return the products, in `into_NRP` where it is given."""
        ...


Part = Literal["hessian", "gauss_newton", "functional"]
"""H, its generalised Gauss-Newton term H_o, or its functional term H_f; H = H_o + H_f (ZS25 section 5)."""


MAGNITUDES = {"weight_g", "original0"}
"""Names that `torch.nn.utils.weight_norm` and its parametrisation give lengths of weights; not they alone."""


def unheard() -> None:
    """Be told that work goes on, and do nothing about it."""


class Objective(Protocol):
    """A model with a loss, over lanes. Nothing here records an autograd graph."""

    num_params: int

    beat: Callable[[], None]
    """Called at each pass over a chunk of examples: a long measurement goes on. A replay calls nothing."""

    replayable: bool
    """Whether which operations a gradient or a product consists of depends on its arguments' shapes alone."""

    def outputs(self, params_NP: Tensor, inputs_NBX: Tensor) -> Tensor:
        """Return the model's outputs, (N, B, C)."""
        ...

    def loss_and_gradient(
        self, params_NP: Tensor, inputs_NBX: Tensor, targets_NBC: Tensor, masks: Masks | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss of each lane (N,) and its gradient (N, P), under masks of dropout."""
        ...

    def examples_at_once(self, params_NP: Tensor, inputs_NBX: Tensor) -> int:
        """Return how many examples like these one gradient may be of, at most; more are too much to keep."""
        ...

    def coordinates(self, inputs_BX: Tensor) -> Coordinates | None:
        """Return coordinates for products on these examples; `None` where they would not be cheaper."""
        ...

    def curvature(
        self,
        params_NP: Tensor,
        inputs_NBX: Tensor,
        targets_NBC: Tensor,
        *,
        part: Part = "hessian",
        coordinates: Coordinates | None = None,
    ) -> CurvatureProduct:
        """Linearise at `params_NP` once and return the product with (a part of) the mean loss's Hessian.

        With the `coordinates` of these examples (then the same for all lanes) directions are in them.
        """
        ...


def build_objective(
    module: nn.Module, loss: Loss, input_shape: Sequence[int], beat: Callable[[], None] = unheard
) -> Objective:
    """Choose the implementation for a module: laned layers where every layer is known, else `torch.func`.

    Args:
        module: The module.
        loss: The loss.
        input_shape: Shape of one example.
        beat: See `Objective`.
    """
    from trainers.chain import ChainObjective
    from trainers.functional import FunctionalObjective
    from trainers.layers.recognition import chain_of

    chain = chain_of(module, input_shape)
    return FunctionalObjective(module, loss, beat) if chain is None else ChainObjective(chain, loss, beat)


def initial_parameters(build: Callable[[], nn.Module], *, init: str, seed: int) -> Tensor:
    """Return the flat initial parameters (P,) float32 of a fresh module.

    Args:
        build: Builds the module; PyTorch's default initialisation draws from the global generator, which is
            seeded here from (seed, "init") and restored.
        init: "pytorch", "xavier" or "kaiming" (normal weights, zero biases).
        seed: The cell's seed.

    Raises:
        ConfigError: The module has no parameters, or some that `init` cannot draw, or building it seeds the
            global generator.
    """
    with global_draws(seed, "init"):
        module = build()
        if init != DEFAULT_INIT:
            require_drawable(module, init)
            scheme = {"xavier": nn.init.xavier_normal_, "kaiming": nn.init.kaiming_normal_}[init]
            for name, parameter in module.named_parameters():
                if parameter.dim() > 1:
                    scheme(parameter)
                elif name.endswith("bias"):
                    # What else has one axis, a normalisation's scale, stays: at 0 nothing would pass it.
                    nn.init.zeros_(parameter)
    return flat_parameters(module)


def in_precision(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Move a module to a device and a real dtype; complex buffers stay complex, in the same precision.

    `Module.to` would cut off their imaginary parts.
    """

    def convert(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(device, dtype.to_complex())
        return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)

    return module._apply(convert)  # pyright: ignore[reportPrivateUsage]


def require_drawable(module: nn.Module, init: str) -> None:
    """Refuse a module with parameters that `init` would take for weights: they have several axes, too.

    Args:
        module: The module.
        init: See `initial_parameters`; by default parameters are what the layers make them.

    Raises:
        ConfigError: It has scales of a normalisation, magnitudes of `weight_norm` or biases with more axes
            than one.
    """
    if init == DEFAULT_INIT:
        return
    for name, parameter in module.named_parameters():
        owner, _, own = name.rpartition(".")
        part = module.get_submodule(owner)
        scales = isinstance(part, (nn.LayerNorm, nn.RMSNorm)) or (own in MAGNITUDES and _normalises(part))
        if parameter.dim() > 1 and (scales or own.endswith("bias")):
            raise ConfigError(
                f"init {init} would draw {name}, of shape {tuple(parameter.shape)}, as it draws weights, "
                f"because it has several axes; leave init at {DEFAULT_INIT} and draw weights in build."
            )


def _normalises(part: nn.Module) -> bool:
    """Whether a module's weight, or a parametrisation, is that of `weight_norm`."""
    if isinstance(part, ParametrizationList):
        return any(type(one).__name__ == "_WeightNorm" for one in part)
    return hasattr(part, "weight_v")


def flat_parameters(module: nn.Module) -> Tensor:
    """Return a module's parameters as one vector (P,) float32, however they lie in memory.

    Raises:
        ConfigError: It has none.
    """
    parts = [parameter.detach().reshape(-1) for parameter in module.parameters()]
    if not parts:
        raise ConfigError("the model has no parameters to train.")
    return torch.cat(parts).float()
