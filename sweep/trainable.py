"""Whether what a plan asks for can be trained: models can be built, and have room for the directions.

Each model is built once for each data set. Torch is imported only where that must be done to know.
"""

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from search_spaces import Space
from search_spaces.axes import AxisSpec
from search_spaces.expansion import GridPoint, describe
from search_spaces.reports import AxisValue
from search_spaces.search import corners
from sweep.plan import Plan
from trainers.canonical import dataset_entry, record_form, stages
from trainers.cell import DEFAULT_INIT, Cell, Condition
from trainers.data import DatasetEntry
from trainers.errors import ConfigError
from trainers.models import MODELS
from trainers.options import Choice
from trainers.probes import PROBES

if TYPE_CHECKING:
    from trainers.objective import Part

OWN = "file"
"""The entry of models of the user's own."""

Kind = tuple[Choice, Choice, str]
"""A model, its data, and how weights are drawn where that may not fit: in models of the user's own."""


def require_trainable(space: Space, plan: Plan) -> None:
    """Find what would fail cell by cell.

    Args:
        space: The space; of a search, the ends and the values of its axes are looked at.
        plan: Its plan.

    Raises:
        ConfigError: A model cannot be built for its data, or a `k` is larger than its number of parameters.
    """
    planned = _ends(space) if space.is_search else plan
    kinds: dict[Kind, tuple[str, int]] = {}
    probed: dict[tuple[int, Choice], int] = {}
    for address, cell in planned.cells.items():
        kind = _kind(cell)
        # The cells of a grid share the object: looking at it once is much faster than comparing.
        seen = (id(cell.probes), cell.dataset)
        if (widest := probed.get(seen)) is None:
            widest = probed[seen] = max(_probed_directions(cell).values(), default=0)
        for phase in cell.phases:
            until = phase.until
            widest = max(widest, phase.k or 0, (until.k or 0) if isinstance(until, Condition) else 0)
        first, most = kinds.get(kind, (address, 0))
        kinds[kind] = (first, max(most, widest))
    for kind, (first, most) in kinds.items():
        _require(kind, most, planned, first if len(kinds) > 1 else None)


def _require(kind: Kind, most: int, plan: Plan, first: str | None) -> None:
    """Look at one kind of cells, none of which asks for more than `most` directions besides the default."""
    model, dataset, init = kind
    data = dataset_entry(dataset)
    if max(most, data.num_outputs) <= _certain_parameters(model, data) and not data.num_in_runs:
        return
    try:
        digests = _digest(model), data.digest
        num_parameters = _num_parameters(model, dataset, init, digests, _parts(kind, plan))
    except ConfigError as error:
        raise ConfigError(str(error) if first is None else f"{_place(plan, first)}: {error}") from error
    if max(most, data.num_outputs) <= num_parameters:
        return
    for address, cell in plan.cells.items():
        if _kind(cell) != kind:
            continue
        for what, k in {**_trained_directions(cell), **_probed_directions(cell)}.items():
            if k > num_parameters:
                raise ConfigError(
                    f"{_place(plan, address)}: {what}: found {k}; must be at most the model's number of "
                    f"parameters, {num_parameters:,}."
                )


def _kind(cell: Cell) -> Kind:
    return cell.model, cell.dataset, cell.init if cell.model.name == OWN else DEFAULT_INIT


def _parts(kind: Kind, plan: Plan) -> tuple["Part", ...]:
    """Return the parts of the Hessian that cells of a model of the user's own take products with."""
    if kind[0].name != OWN:
        return ()
    cells = [cell for cell in plan.cells.values() if _kind(cell) == kind]
    # The cells of a grid share the object.
    probing = {id(cell.probes): cell for cell in cells}.values()
    probes = [probe for cell in probing for probe in record_form(cell)["probes"]]
    found: set[Part] = {part for probe in probes for part in PROBES[probe["name"]].curvature(probe)}
    if any(stage.projects or stage.condition is not None for cell in cells for stage in stages(cell)):
        found.add("hessian")
    return tuple(sorted(found))


def _place(plan: Plan, address: str) -> str:
    return describe(plan.grids[plan.first_points[address]], plan.axes_of(address))


def _trained_directions(cell: Cell) -> Mapping[str, int]:
    """Return the dimensions of the subspaces that training follows, by what they are called."""
    found = {"k": max((stage.k or 0 for stage in stages(cell)), default=0)}
    conditions = [stage.condition.k or 0 for stage in stages(cell) if stage.condition is not None]
    return found | {"until.k": max(conditions, default=0)}


def _probed_directions(cell: Cell) -> Mapping[str, int]:
    return {
        f"k of probe {probe['name']!r}": probe["k"] for probe in record_form(cell)["probes"] if "k" in probe
    }


def _certain_parameters(model: Choice, data: DatasetEntry) -> int:
    """Return how many parameters a model has at least, as far as that is known without building it."""
    if model.name == "mlp":
        widths = cast("tuple[int, ...]", model.resolve("model", MODELS[model.name].options)["widths"])
        layers = (math.prod(data.input_shape), *widths, data.num_outputs)
        return sum((inputs + 1) * outputs for inputs, outputs in pairwise(layers))
    # The others end in a layer with a row an output; the toy does not, and of the user's own nobody knows.
    return 0 if model.name in (OWN, "quadratic") else data.num_outputs


def _digest(model: Choice) -> str:
    """Return what tells a file from what it was before."""
    entry = MODELS[model.name]
    digest = entry.source_digest
    return "" if digest is None else digest(model.resolve("model", entry.options))


@lru_cache(maxsize=256)
def _num_parameters(
    model: Choice, dataset: Choice, init: str, digests: tuple[str, str], parts: tuple["Part", ...]
) -> int:
    """Build a model and count its parameters; of the user's own, see that it can be trained.

    Args:
        model: The model.
        dataset: Its data.
        init: How the weights of one of the user's own are drawn.
        digests: Of their sources, so that what has changed is looked at again.
        parts: The parts of its Hessian with which products are asked for.
    """
    import torch

    from trainers.models.acceptance import accepted
    from trainers.models.normalization import require_mixed

    entry, data = MODELS[model.name], dataset_entry(dataset)
    options = model.resolve("model", entry.options)

    def build() -> torch.nn.Module:
        return entry.build(data.input_shape, data.num_outputs, options)

    if model.name == OWN:
        module = accepted(build, data, parts, f"model {model}", init=init)
    else:
        # Ours need no memory to be counted.
        with torch.device("meta"):
            module = build()
        require_mixed(module, data)
    return sum(parameter.numel() for parameter in module.parameters())


def ends_of(space: Space) -> Iterator[GridPoint]:
    """Yield the configurations at both ends of a search's axes, with every value that is listed.

    Raises:
        ConfigError: A value makes no valid cell at either end; a search passes over other combinations.
    """
    ends = corners(space.search)
    refused: dict[tuple[str, AxisValue] | None, list[ConfigError]] = {}
    for corner in ends:
        for varied, values in _varied(space, corner):
            try:
                yield from space.sampled(values)
            except ConfigError as error:
                refused.setdefault(varied, []).append(error)
    for errors in refused.values():
        if len(errors) == len(ends):
            raise errors[0]


def _ends(space: Space) -> Plan:
    plan = Plan(space.name)
    for point in ends_of(space):
        plan.add(point)
    return plan


def _varied(
    space: Space, corner: Mapping[str, AxisValue]
) -> Iterator[tuple[tuple[str, AxisValue] | None, dict[str, AxisValue]]]:
    """Yield the corner, and it with each value that is listed: the axis and value, and the configuration."""
    yield None, dict(corner)
    for name, axis in space.search.axes.items():
        for label in axis.labels if isinstance(axis, AxisSpec) else ():
            yield (name, label), {**corner, name: label}
