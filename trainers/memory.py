"""How much memory a pack takes, as a function of its cells' shape: how many lanes a device has room for.

A pack's peak is what its lanes keep from step to step and the largest of three activities: a step, a refresh
of the Dominant subspaces, an evaluation; on a GPU, where they keep their memory to be replayed, all of them.
Each is counted in tensors of the sizes that the code allocates;
the model is held against measured peaks by a test, and errs on the side of too much.

Shape legend: P parameters, W block width, A elements that one example leaves behind in a forward pass.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trainers.canonical import dataset_entry, stages
from trainers.cell import Cell
from trainers.chain import SAVED_BYTES, TANGENT_BYTES, ExampleSizes, directions_at_once, example_sizes
from trainers.coordinates import WORTH_A_ROTATION
from trainers.data import DatasetEntry
from trainers.eigenspace import block_width
from trainers.evaluation import chunk_size
from trainers.functional import PASS_BYTES, part_elements
from trainers.instruments import SOLVER
from trainers.krylov import BLOCKS_IN_SEARCH_SPACE
from trainers.lane import Lane
from trainers.layers import Layer
from trainers.layers.dense import Dense, Flatten
from trainers.layers.recognition import chain_of
from trainers.models import MODELS
from trainers.probes.energies import DIRECTIONS_AT_ONCE, is_exact
from trainers.tracking import IDLE_PERIODS

FLOAT = 4
"""Bytes of a float32."""

USABLE = 0.9
"""Share of the free memory that is planned with: an allocator loses some to fragments."""

WORKSPACE_BYTES = 2**28
"""What libraries take on a GPU besides the tensors: matrix and convolution workspaces, compiled kernels."""

VECTORS_OF_A_STEP = 6
"""Gradient, direction, what the projection gives, and room for three more."""

BLOCKS_OF_A_REFRESH = 2 * BLOCKS_IN_SEARCH_SPACE + 6
"""Search space and images; what is kept of both at a restart, the residuals and a result. Of a refresh that
ends with its first block a GPU keeps six: block and images, and the halves of the block's numbers."""

VECTORS_OF_QUADRATURE = 10
"""Of each random vector besides its Lanczos basis: start, last and image, in float64 too, and others."""

VECTORS_OF_ENERGIES = 8
"""Of each direction that is multiplied at a time: laid out for products, three images, and one of them in
float64 and squared."""

OPTIMIZER_VECTORS = {"momentum": 2, "adam": 4}
"""State of the base optimisers before and after a step; none has any other."""


COPIES_OF_ACTIVATIONS = 2.5
"""How often a gradient keeps each activation: outputs, what layers save besides, gradients on their way."""

ORDERS = 3 * 8
"""Bytes an example takes of each lane: the order of an epoch, while it is drawn and moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """A pack's peak.

    Args:
        shared_bytes: Of the data and of what is done for one lane after the other.
        lane_bytes: Of each lane.
    """

    shared_bytes: int
    lane_bytes: int

    def peak_bytes(self, lanes: int) -> int:
        """Return the peak of a pack."""
        return self.shared_bytes + lanes * self.lane_bytes

    def lanes_in(self, free_bytes: int) -> int:
        """Return how many lanes fit into so much free memory; at least 1, which is tried in any case."""
        room = int(USABLE * free_bytes) - WORKSPACE_BYTES - self.shared_bytes
        return max(1, room // self.lane_bytes)


def footprint(cell: Cell, *, device_type: str = "cuda", periods: Collection[int] = ()) -> Footprint:
    """Return the footprint of packs of cells like this one; of a pack, take the largest of its cells.

    Args:
        cell: One of them.
        device_type: Where they are trained.
        periods: How often lanes beside it refresh their subspaces, `refresh_every` of each.
    """
    dataset = dataset_entry(cell.dataset)
    data = dataset.under(cell.dataset.resolve("dataset", dataset.options))
    entry = MODELS[cell.model.name]
    module = entry.build(data.input_shape, data.num_outputs, cell.model.resolve("model", entry.options))
    lane = Lane.of(cell)
    size = sum(parameter.numel() for parameter in module.parameters())
    inputs, features = math.prod(data.input_shape), activation_elements(module, data.input_shape)
    rules = {stage.optimizer.name for stage in lane.stages}
    whole = any(stage.full_batch for stage in lane.stages)
    evaluated, tested = (
        min(examples, chunk_size(examples, inputs)) for examples in (data.num_train, data.num_test)
    )
    batch = evaluated if whole else cell.batch_size
    kept = size * (1 + max(OPTIMIZER_VECTORS.get(rule, 0) for rule in rules))
    step = VECTORS_OF_A_STEP * size + batch * (inputs + int(COPIES_OF_ACTIVATIONS * features))
    refresh, further, shared = 0, 0, (data.num_train + data.num_test) * (inputs + data.num_outputs)
    chain = chain_of(module, data.input_shape)
    at_zero = torch.zeros(1, size), torch.zeros(1, 1, *data.input_shape)
    sizes = None if chain is None else example_sizes(chain, *at_zero)
    laned = sizes is not None
    projecting = [stage.k for stage in lane.stages if stage.projects and stage.k is not None]
    if projecting:
        examples = cell.holdout_size or data.num_train
        width = block_width(max(projecting), data.num_outputs, cell.solver.guard, size)
        block = width * _tracked_size(chain, inputs, examples, size)
        kept += block
        refresh = size + BLOCKS_OF_A_REFRESH * block
        if sizes is not None:
            at_once = directions_at_once(width, device_type)
            chunk = sizes.chunk(examples, at_once, device_type)
            refresh += chunk * _passing_bytes(sizes, features, at_once) // FLOAT
            # Of a pack whose passes over all examples fit together, those over other chunks are kept too.
            further = SAVED_BYTES * (examples - chunk) // examples if sizes.are_kept(examples, 1) else 0
    shared += _measuring_bytes(lane, sizes, features, data, device_type) // FLOAT
    counts = [stage.condition.k or 0 for stage in lane.stages if stage.condition is not None]
    widest = max((block_width(k, data.num_outputs, SOLVER.guard, size) for k in counts), default=0)
    # Of conditions one at a time is remembered.
    kept += widest * size
    for probe in lane.probes:
        if "k" in probe.options:
            width = block_width(int(probe.options["k"]), data.num_outputs, SOLVER.guard, size)
            since = probe.options.get("since")
            kept += (width + width * (len(since) if isinstance(since, tuple) else 1)) * size
            widest = max(widest, width)
    finding = max(BLOCKS_OF_A_REFRESH * widest, widest + _energy_vectors(lane, size))
    shared += (finding + _quadrature_vectors(lane, size)) * size
    evaluation = 3 * size + int(COPIES_OF_ACTIVATIONS * max(evaluated, tested) * features)
    peak = max(step, refresh, evaluation)
    if device_type == "cuda":
        # What is replayed keeps its memory to itself.
        groups = num_gatherings(cell.refresh_every, periods)
        peak, further = step + groups * refresh + evaluation, groups * further
    lane_bytes = FLOAT * (kept + peak) + ORDERS * data.num_train
    shared_bytes = FLOAT * shared + further + (0 if laned else PASS_BYTES)
    return Footprint(shared_bytes=shared_bytes, lane_bytes=lane_bytes)


def lanes_for(cells: Sequence[Cell], free_bytes: int, *, device_type: str = "cuda") -> int:
    """Return how many lanes a pack may have, whichever of these cells are in it."""
    periods: dict[tuple[object, ...], set[int]] = {}
    alike: dict[tuple[object, ...], Cell] = {}
    for cell in cells:
        alike.setdefault(_footprint_key(cell), cell)
        beside = periods.setdefault(cell.shape, set())
        if any(stage.projects for stage in stages(cell)):
            beside.add(cell.refresh_every)
    return min(
        footprint(cell, device_type=device_type, periods=periods[cell.shape]).lanes_in(free_bytes)
        for cell in alike.values()
    )


def _footprint_key(cell: Cell) -> tuple[object, ...]:
    """Return what decides a footprint: neither seeds nor rates nor lengths."""
    work = frozenset(
        (stage.optimizer, stage.k, until and (until.k, until.holdout_size))
        for stage in stages(cell)
        for until in (stage.condition,)
    )
    return (cell.shape, cell.solver, cell.refresh_every, cell.probes, work)


def num_gatherings(period: int, periods: Collection[int]) -> int:
    """Return in how many groups a lane is refreshed (`trainers.tracking`): with whoever is due at the time.

    Args:
        period: The lane's.
        periods: Those of the lanes beside it, counted from the same step.

    Returns:
        The number of groups that may hold memory: those that meet too seldom for it are dropped before.
    """
    # Each step at which someone is due is a multiple of the periods of all who are, and of no other.
    everyone = {period, *periods}
    multiples, most = {period}, IDLE_PERIODS * max(everyone)
    for other in everyone:
        common = {math.lcm(multiple, other) for multiple in multiples}
        multiples |= {multiple for multiple in common if multiple <= most}
    slowest = {multiple: max(one for one in everyone if multiple % one == 0) for multiple in multiples}
    return sum(multiple <= IDLE_PERIODS * period for multiple, period in slowest.items())


@torch.no_grad()
def activation_elements(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the elements of the outputs of all of a module's parts for one example."""
    parts = part_elements(module.eval(), torch.zeros(1, *input_shape))
    return sum(elements for part, elements in parts if not isinstance(part, nn.Flatten))


def _tracked_size(chain: Sequence[Layer] | None, inputs: int, examples: int, size: int) -> int:
    """Return the most coordinates that a tracked direction can have (`trainers.coordinates`)."""
    first = None if chain is None else chain[1] if isinstance(chain[0], Flatten) else chain[0]
    if isinstance(first, Dense) and examples * WORTH_A_ROTATION <= inputs:
        # Where fewer inputs than these are used, they are the coordinates, and no more than twice as many.
        return size - first.num_outputs * max(0, inputs - WORTH_A_ROTATION * examples)
    return size


def _passing_bytes(sizes: ExampleSizes, features: int, directions: int) -> int:
    """Return what one example takes in one lane while products with so many directions are at it."""
    at_work = directions * sizes.tangent_bytes + int(FLOAT * COPIES_OF_ACTIVATIONS * features)
    return sizes.kept_bytes + at_work


def _quadrature_vectors(lane: Lane, size: int) -> int:
    """Return the vectors of the largest spectral density among a lane's probes."""
    densities = [probe.options for probe in lane.probes if probe.name == "spectrum"]
    return max(
        (
            options["vectors"] * (min(options["lanczos_steps"], size) + VECTORS_OF_QUADRATURE)
            for options in densities
        ),
        default=0,
    )


def _energy_vectors(lane: Lane, size: int) -> int:
    """Return the vectors of the largest measurement of energies among a lane's probes."""
    most = 0
    for options in (probe.options for probe in lane.probes if probe.name == "energies"):
        exact = is_exact(options, size)
        directions = size if exact else options["samples"]
        at_work = VECTORS_OF_ENERGIES * min(directions, DIRECTIONS_AT_ONCE)
        # Random ones are there three times while what is Dominant is taken out of them.
        most = max(most, directions + max(0 if exact else 2 * directions, at_work))
    return most


def _measuring_bytes(
    lane: Lane, sizes: ExampleSizes | None, features: int, data: DatasetEntry, device_type: str
) -> int:
    """Return what the examples of conditions and probes take, one lane and one measurement at a time."""
    examples = [probe.options["holdout_size"] for probe in lane.probes if "holdout_size" in probe.options]
    of_gradients = [probe.options["holdout_size"] for probe in lane.probes if probe.name == "overlap"]
    of_gradients += [
        stage.condition.holdout_size or 0 for stage in lane.stages if stage.condition is not None
    ]
    most, selected = max([*examples, *of_gradients], default=0), FLOAT * math.prod(data.input_shape)
    if sizes is None or not most:
        return most * selected
    # Of the widths that products may have, one direction leaves most room for activations, many for tangents.
    chunk = sizes.chunk(most, 1, device_type)
    products = chunk * _passing_bytes(sizes, features, 1) + TANGENT_BYTES[device_type]
    products += sizes.kept_bytes * (most - chunk) if sizes.are_kept(most, 1) else 0
    piece = min(max(of_gradients, default=0), sizes.at_once)
    gradient = piece * (selected + int(FLOAT * COPIES_OF_ACTIVATIONS * features))
    return max(most * selected + products, gradient)
