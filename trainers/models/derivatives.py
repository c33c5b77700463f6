"""Whether torch has the derivatives of a module of the user's own that its cells ask for, and they are right.

Found out by taking them for two examples, before anything is trained.
"""

import copy
from collections.abc import Collection

import torch
from torch import Tensor, nn

from trainers.errors import ConfigError
from trainers.losses import LOSSES
from trainers.models.demands import examples
from trainers.objective import Part, build_objective, flat_parameters

ASYMMETRY = {torch.float64: 1e-5, torch.float32: 1e-3}
"""How far u.Hv and v.Hu may be apart, relative to the norms of the products. One row of 50,000 that the
gradient leaves out makes 1e-4; deep networks in float32 are found to round to 3e-6, at most."""

_NAMES = {"hessian": "Hessian", "gauss_newton": "Gauss-Newton matrix", "functional": "functional Hessian"}


def require_derivatives(
    module: nn.Module,
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    parts: Collection[Part] = (),
    vocabulary: int | None = None,
) -> None:
    """Raise `ConfigError` where a module's outputs, gradients or products with its Hessian cannot be taken.

    Some layers of PyTorch have no derivatives of second order, or none in forward mode, or cannot be run for
    several lanes at once; which, depends on its version. Others have a gradient that is not that of the loss:
    its derivative is then no symmetric matrix.

    Args:
        module: A sound module.
        input_shape: Shape of one example.
        num_outputs: Outputs for one example.
        parts: The parts of the Hessian with which products are asked for.
        vocabulary: Where the inputs are token numbers, how many there are.
    """
    inputs = examples(input_shape, vocabulary)
    objective = build_objective(module, LOSSES["mse"].build({"scale": "half_sum"}), input_shape)
    targets = inputs.new_zeros(1, len(inputs), num_outputs)
    at = flat_parameters(module).unsqueeze(0), inputs.unsqueeze(0), targets
    what = "outputs"
    asymmetries: dict[Part, float] = {}
    try:
        objective.outputs(*at[:2])
        what = "gradient"
        objective.loss_and_gradient(*at)
        for what in parts:
            asymmetries[what] = _asymmetry(module, inputs, num_outputs, what)
    except Exception as error:
        # What follows the first line is for those who build torch.
        told = str(error).partition("\n")[0]
        name = _NAMES.get(what, what)
        raise ConfigError(
            f"its {name} cannot be computed by torch.func: {type(error).__name__}: {told}"
        ) from error
    for part, asymmetry in asymmetries.items():
        if not _is_rounding(asymmetry, module, inputs, num_outputs, part):
            raise ConfigError(
                f"its {_NAMES[part]} is not symmetric: its gradient is not that of its loss, as where an "
                "embedding's padding_idx leaves a row out; mask the padding in forward instead."
            )


def _asymmetry(module: nn.Module, inputs_BX: Tensor, num_outputs: int, part: Part) -> float:
    """Return |u.Hv - v.Hu| over |Hu| + |Hv| for two random directions."""
    shape = inputs_BX.shape[1:]
    objective = build_objective(module, LOSSES["mse"].build({"scale": "half_sum"}), shape)
    params_1P = flat_parameters(module).to(inputs_BX).unsqueeze(0)
    targets_1BC = inputs_BX.new_zeros(1, len(inputs_BX), num_outputs)
    draw = torch.Generator().manual_seed(0)
    directions_12P = torch.randn(1, 2, params_1P.shape[1], generator=draw).to(inputs_BX)
    product = objective.curvature(params_1P, inputs_BX.unsqueeze(0), targets_1BC, part=part)
    (u, v), (of_u, of_v) = directions_12P[0].double(), product(directions_12P)[0].double()
    return float((u @ of_v - v @ of_u).abs() / (of_u.norm() + of_v.norm()))


def _is_rounding(
    asymmetry: float, module: nn.Module, inputs_BX: Tensor, num_outputs: int, part: Part
) -> bool:
    """Whether an asymmetry in float32 comes of rounding, by that in float64 where the module runs in it."""
    if not asymmetry > ASYMMETRY[torch.float64]:
        return True
    try:
        exact = _asymmetry(copy.deepcopy(module).double(), inputs_BX.double(), num_outputs, part)
    except Exception:
        # A user's module may raise anything where it is made for float32 alone, and is held to that then.
        return asymmetry <= ASYMMETRY[torch.float32]
    return not exact > ASYMMETRY[torch.float64]
