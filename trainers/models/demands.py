"""What is asked of a module of the user's own: to be a function of its parameters and of examples alone.

Found out by looking at it and by running it on two examples, before anything is trained.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from trainers.errors import ConfigError
from trainers.models.normalization import refuse_running_averages

EXAMPLES = 2
"""As many as it takes to tell the axis of the examples from one of theirs."""


def require_sound(module: nn.Module, input_shape: tuple[int, ...], num_outputs: int) -> None:
    """Raise `ConfigError` where a module cannot be trained here, or would not train what it seems to.

    Args:
        module: The module; a pass in training mode has left nothing behind in one that is sound.
        input_shape: Shape of one example.
        num_outputs: Outputs for one example.
    """
    _require_parameters(module)
    refuse_running_averages(module)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    inputs = _examples(input_shape)
    with _modes_of(module), torch.no_grad():
        module.eval()
        _require_outputs(module, inputs, num_outputs)
        module.train()
        # Modules are trained in evaluation mode: what fails in the other one does not matter.
        with torch.random.fork_rng(devices=[]), suppress(Exception):
            module(inputs.clone())
    for name, buffer in module.named_buffers():
        if name not in before or not torch.equal(before[name].nan_to_num(), buffer.nan_to_num()):
            raise ConfigError(
                f"buffer {name} is changed by a pass; expected a module without memory, whose outputs depend "
                "on its parameters and its inputs alone."
            )


def _examples(input_shape: tuple[int, ...]) -> Tensor:
    # Not negative and below 1: where a module asks for token numbers, they are all 0.
    return torch.rand(EXAMPLES, *input_shape, generator=torch.Generator().manual_seed(0))


def _require_parameters(module: nn.Module) -> None:
    if next(module.parameters(), None) is None:
        raise ConfigError("it has no parameters to train.")
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            raise ConfigError(
                f"parameter {name} does not require a gradient; all parameters are trained here, so what is "
                "to stay as it is must be a buffer (register_buffer)."
            )


def _require_outputs(module: nn.Module, inputs: Tensor, num_outputs: int) -> None:
    """Run a module, and hold its outputs and what it leaves of its inputs against what is expected."""
    given, version = inputs.clone(), inputs._version  # pyright: ignore[reportPrivateUsage]
    shape = tuple(inputs.shape[1:])
    try:
        outputs = module(inputs)
    except Exception as error:
        raise ConfigError(f"it takes no inputs of shape {shape}, as the data has: {error!r}.") from error
    written = inputs._version != version  # pyright: ignore[reportPrivateUsage]
    if written or not torch.equal(inputs, given):
        raise ConfigError(
            "its forward pass changes its inputs in place, and the data set with them; expected one that "
            "makes new tensors, as torch.relu(inputs) does and inputs.relu_() does not."
        )
    found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if found != (expected := (len(inputs), num_outputs)):
        raise ConfigError(f"expected outputs of shape {expected} for {len(inputs)} examples, found {found}.")


@contextmanager
def _modes_of(module: nn.Module) -> Generator[None]:
    """Leave each part in the mode in which it is."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def require_derivatives(
    module: nn.Module, input_shape: tuple[int, ...], num_outputs: int, *, curvature: bool
) -> None:
    """Raise `ConfigError` where a module's gradients or products with its Hessian cannot be taken.

    Some layers of PyTorch have no derivatives of second order, or none in forward mode, or cannot be run for
    several lanes at once; which, depends on its version.

    Args:
        module: A sound module.
        input_shape: Shape of one example.
        num_outputs: Outputs for one example.
        curvature: Whether products are asked for, too.
    """
    from trainers.losses import LOSSES
    from trainers.objective import build_objective

    objective = build_objective(module, LOSSES["mse"].build({"scale": "half_sum"}), input_shape)
    params = nn.utils.parameters_to_vector(module.parameters()).detach().unsqueeze(0)
    inputs = _examples(input_shape).unsqueeze(0)
    what = "gradient"
    try:
        at = params, inputs, inputs.new_zeros(1, EXAMPLES, num_outputs)
        objective.loss_and_gradient(*at)
        if curvature:
            what = "Hessian"
            objective.curvature(*at)(params.unsqueeze(0))
    except Exception as error:
        # What follows the first line is for those who build torch.
        told = str(error).partition("\n")[0]
        raise ConfigError(
            f"its {what} cannot be computed by torch.func: {type(error).__name__}: {told}"
        ) from error
