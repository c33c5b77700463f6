"""A model of the user's own when it is planned: all that is asked of it, found out once for its data."""

from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor, nn

from trainers.cell import DEFAULT_INIT
from trainers.data.entry import DatasetEntry
from trainers.errors import ConfigError
from trainers.models.demands import examples, require_sound, same_outputs
from trainers.models.derivatives import require_derivatives
from trainers.models.dropout import masked_layers
from trainers.models.normalization import require_mixed
from trainers.objective import Part, require_drawable
from trainers.randomness import global_draws

FROM_TORCH = (
    "random numbers must come from torch's global generator, which follows the cell's seed, not from "
    "numpy.random or random."
)


def accepted(
    build: Callable[[], nn.Module],
    data: DatasetEntry,
    parts: Collection[Part],
    called: str,
    *,
    init: str = DEFAULT_INIT,
) -> nn.Module:
    """Build a model of the user's own, and return it where its cells can be trained.

    Args:
        build: Builds it, as for every cell.
        data: Its data.
        parts: The parts of the Hessian with which its cells take products.
        called: What errors call it.
        init: How its cells draw weights (`trainers.objective.initial_parameters`).

    Raises:
        ConfigError: They cannot be, or would not train what they seem to.
    """
    # As different processes and seeds do.
    module, again, other = (_seeded(build, seed) for seed in (0, 0, 1))
    shape, outputs = data.input_shape, data.num_outputs
    try:
        _require_repeatable(module, again, other)
        require_drawable(module, init)
        require_sound(module, shape, outputs, data.vocabulary)
        _require_same_outputs(module, again, examples(shape, data.vocabulary))
        require_mixed(module, data)
        require_derivatives(module, shape, outputs, parts=parts, vocabulary=data.vocabulary)
        masked_layers(module, shape)
    except ConfigError as error:
        raise ConfigError(f"{called}: {error}") from error
    return module


def _require_repeatable(first: nn.Module, again: nn.Module, other: nn.Module) -> None:
    """Refuse weights that are others with one seed, and shapes that are others with another."""
    if _shapes(other) != _shapes(first):
        raise ConfigError("the shapes of its parameters depend on the seed; expected the same for all cells.")
    values = dict(_values(again))
    for name, one in _values(first):
        two = values.get(name)
        if two is None or one.shape != two.shape or not bool((one.eq(two) | one.ne(one)).all()):
            raise ConfigError(f"{name} is another one each time it is built with one seed; {FROM_TORCH}")


@torch.no_grad()
def _require_same_outputs(first: nn.Module, again: nn.Module, inputs_BX: Tensor) -> None:
    """Refuse what is random and neither a parameter nor a buffer, as a permutation of inputs in a list."""
    outputs = [module.eval()(inputs_BX.clone()) for module in (first, again)]
    if not same_outputs(*outputs):
        raise ConfigError(
            f"its outputs are others each time it is built with one seed, at the same weights; {FROM_TORCH}"
        )


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with global_draws(seed, "init"):
        return build()


def _shapes(module: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(parameter.shape)) for name, parameter in module.named_parameters()]


def _values(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
