"""What is asked of a module of the user's own: to be a function of its parameters and of examples alone.

Found out by looking at it and by running it on two examples, before anything is trained.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainers.errors import ConfigError
from trainers.models.normalization import normalizes_over_examples, refuse_running_averages

EXAMPLES = 2
"""As many as it takes to tell the axis of the examples from one of theirs."""

ROUNDING = 1e-3
"""How far outputs may be off, relative to the largest: kernels depend on the number of examples."""


def require_sound(
    module: nn.Module, input_shape: tuple[int, ...], num_outputs: int, vocabulary: int | None = None
) -> None:
    """Raise `ConfigError` where a module cannot be trained here, or would not train what it seems to.

    Args:
        module: The module; a pass in training mode has left nothing behind in one that is sound.
        input_shape: Shape of one example.
        num_outputs: Outputs for one example.
        vocabulary: Where the inputs are token numbers, how many there are; `None` where nobody knows.
    """
    _require_parameters(module)
    refuse_running_averages(module)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    inputs = examples(input_shape, vocabulary)
    with _modes_of(module), torch.no_grad():
        module.eval()
        _require_outputs(module, inputs, num_outputs, vocabulary)
        _require_one_way_to_parameters(module, inputs)
        module.train()
        # Modules are trained in evaluation mode: what fails in the other one does not matter. Other weights,
        # because a memory may be at rest where it is: vectors of spectral_norm are iterated as it is built.
        with torch.random.fork_rng(devices=[]), _other_weights(module), suppress(Exception):
            module(inputs.clone())
    for name, buffer in module.named_buffers():
        if name not in before or not torch.equal(before[name].nan_to_num(), buffer.nan_to_num()):
            raise ConfigError(
                f"buffer {name} is changed by a pass; expected a module without memory, whose outputs depend "
                "on its parameters and its inputs alone."
            )


def examples(input_shape: tuple[int, ...], vocabulary: int | None) -> Tensor:
    """Return inputs to try a module with; of token numbers they hold the first and the last.

    Args:
        input_shape: Shape of one.
        vocabulary: As in `require_sound`.
    """
    if vocabulary is not None:
        upward = torch.arange(torch.Size(input_shape).numel()).view(input_shape) % vocabulary
        return torch.stack([upward, vocabulary - 1 - upward]).float()
    # Not negative and below 1: where a module asks for token numbers, they are all 0.
    return torch.rand(EXAMPLES, *input_shape, generator=torch.Generator().manual_seed(0))


def _require_parameters(module: nn.Module) -> None:
    if next(module.parameters(), None) is None:
        raise ConfigError("it has no parameters to train.")
    for name, parameter in module.named_parameters():
        if parameter.is_complex():
            raise ConfigError(
                f"parameter {name} is complex; weights are real here: keep both of its parts in an axis of "
                "length 2, and use torch.view_as_complex."
            )
        if not parameter.requires_grad:
            raise ConfigError(
                f"parameter {name} does not require a gradient; all parameters are trained here, so what is "
                "to stay as it is must be a buffer (register_buffer)."
            )
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:  # pyright: ignore[reportPrivateUsage]
            raise ConfigError(
                f"parameter {name} has a hook on its gradient, which would not be called: gradients are "
                "taken by torch.func. To mask one, make the mask a buffer and multiply by it in forward."
            )


def _require_outputs(module: nn.Module, inputs: Tensor, num_outputs: int, vocabulary: int | None) -> None:
    """Run a module, and hold its outputs and what it leaves of its inputs against what is expected."""
    given, version = inputs.clone(), inputs._version  # pyright: ignore[reportPrivateUsage]
    outputs = _outputs(module, inputs, num_outputs, vocabulary)
    written = inputs._version != version  # pyright: ignore[reportPrivateUsage]
    if written or not torch.equal(inputs, given):
        raise ConfigError(
            "its forward pass changes its inputs in place, and the data set with them; expected one that "
            "makes new tensors, as torch.relu(inputs) does and inputs.relu_() does not."
        )
    if normalizes_over_examples(module):
        return
    for index in range(len(inputs)):
        alone = _outputs(module, inputs[index : index + 1], num_outputs, vocabulary)
        if not same_outputs(alone[0], outputs[index], size=outputs):
            raise ConfigError(
                "its outputs for an example are others when it is alone: they depend on the examples beside "
                "it (a softmax or statistics over axis 0, layers without batch_first), or on chance; of all "
                "layers only trainers.models.normalization.BatchNormalization may look at several examples."
            )


def same_outputs(found: Tensor, expected: Tensor, size: Tensor | None = None) -> bool:
    """Whether outputs are the same but for rounding, relative to the largest of `size` or `expected`."""
    largest = (expected if size is None else size).nan_to_num(0, 0, 0).abs().max()
    return torch.allclose(found, expected, rtol=0, atol=ROUNDING * float(largest), equal_nan=True)


def _require_one_way_to_parameters(module: nn.Module, inputs: Tensor) -> None:
    """Refuse a forward pass that has a parameter from elsewhere than from the modules that own it.

    Cells give it their weights by name (`torch.func.functional_call`); what holds the tensor itself would go
    on with the template's, which are never trained.
    """
    with _other_weights(module):
        weights = {name: parameter.clone() for name, parameter in module.named_parameters()}
        try:
            expected = module(inputs.clone())
        except Exception:
            # What asks something of its weights, a matrix to be positive definite, may raise anything at
            # others; then nothing can be told.
            return
    try:
        found = functional_call(module, weights, (inputs.clone(),))
    except Exception as error:
        told = str(error).partition("\n")[0]
        raise ConfigError(
            f"its outputs cannot be computed by torch.func: {type(error).__name__}: {told}"
        ) from error
    if not same_outputs(found, expected):
        raise ConfigError(
            "it reads a parameter otherwise than by its name, from a list, a closure or another attribute, "
            "and would read there one that is never trained; to share a parameter, assign it to both modules."
        )


def _outputs(module: nn.Module, inputs: Tensor, num_outputs: int, vocabulary: int | None) -> Tensor:
    tokens = "" if vocabulary is None else f" with token numbers up to {vocabulary - 1}"
    try:
        outputs = module(inputs)
    except Exception as error:
        taken = f"{tuple(inputs.shape[1:])}{tokens}"
        raise ConfigError(f"it takes no inputs of shape {taken}, as the data has: {error!r}.") from error
    found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if found != (expected := (len(inputs), num_outputs)):
        what = "1 example" if len(inputs) == 1 else f"{len(inputs)} examples"
        raise ConfigError(f"expected outputs of shape {expected} for {what}, found {found}.")
    return outputs


@contextmanager
def _other_weights(module: nn.Module) -> Generator[None]:
    """Move all parameters for a while, as training does."""
    generator = torch.Generator().manual_seed(0)
    kept = [(parameter, parameter.clone()) for parameter in module.parameters()]
    for parameter, value in kept:
        noise = torch.rand(value.shape, generator=generator, dtype=value.dtype).to(value.device)
        parameter.copy_(value * (0.5 + noise) + 0.01 * noise)
    try:
        yield
    finally:
        for parameter, value in kept:
            parameter.copy_(value)


@contextmanager
def _modes_of(module: nn.Module) -> Generator[None]:
    """Leave each part in the mode in which it is."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
