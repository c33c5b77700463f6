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


class Objective(Protocol):
    """A model with a loss, over lanes. Nothing here records an autograd graph."""

    num_params: int

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


def build_objective(module: nn.Module, loss: Loss, input_shape: Sequence[int]) -> Objective:
    """Choose the implementation for a module: laned layers where every layer is known, else `torch.func`.

    Args:
        module: The module.
        loss: The loss.
        input_shape: Shape of one example.
    """
    from trainers.chain import ChainObjective
    from trainers.functional import FunctionalObjective
    from trainers.layers.recognition import chain_of

    chain = chain_of(module, input_shape)
    return FunctionalObjective(module, loss) if chain is None else ChainObjective(chain, loss)


def initial_parameters(build: Callable[[], nn.Module], *, init: str, seed: int) -> Tensor:
    """Return the flat initial parameters (P,) float32 of a fresh module.

    Args:
        build: Builds the module; PyTorch's default initialisation draws from the global generator, which is
            seeded here from (seed, "init") and restored.
        init: "pytorch", "xavier" or "kaiming" (normal weights, zero biases).
        seed: The cell's seed.

    Raises:
        ConfigError: The module has no parameters, or building it seeds the global generator.
    """
    with global_draws(seed, "init"):
        module = build()
        if init != "pytorch":
            scheme = {"xavier": nn.init.xavier_normal_, "kaiming": nn.init.kaiming_normal_}[init]
            for name, parameter in module.named_parameters():
                if parameter.dim() > 1:
                    scheme(parameter)
                elif name.endswith("bias"):
                    # What else has one axis, a normalisation's scale, stays: at 0 nothing would pass it.
                    nn.init.zeros_(parameter)
    return flat_parameters(module)


def flat_parameters(module: nn.Module) -> Tensor:
    """Return a module's parameters as one vector (P,) float32, however they lie in memory.

    Raises:
        ConfigError: It has none.
    """
    parts = [parameter.detach().reshape(-1) for parameter in module.parameters()]
    if not parts:
        raise ConfigError("the model has no parameters to train.")
    return torch.cat(parts).float()
