"""The Dominant subspaces of a pack's lanes over time: who is due, refreshed together, kept by each lane.

Shape legend: N lanes, W block width, P parameters, C parameters in the holdout's coordinates.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainers.coordinates import Coordinates
from trainers.eigenpairs import Eigenspace, Warm
from trainers.eigenspace import block_width, random_rows
from trainers.first_block import Operator, WarmBlock
from trainers.history import EIGENSPACE_CONVERGED, EIGENSPACE_PRODUCTS, EIGENSPACE_RESIDUAL
from trainers.instruments import Examples, Instruments, start_block
from trainers.lane import Lane
from trainers.magnitude import refresh_leading
from trainers.objective import CurvatureProduct
from trainers.optimizers import OPTIMIZERS
from trainers.optimizers.dominant import Dominant, Subspace
from trainers.rows import in_one_place, together

IDLE_PERIODS = 16
"""A group that was not refreshed for so many periods of its slowest lane is dropped, with the memory that it
has on a GPU: lanes that begin one by one make a group with each."""


class Tracker:
    """Recomputes Dominant subspaces.

    Args:
        instruments: What the products are of.
    """

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._groups: dict[tuple[object, ...], _Group] = {}

    def begin(
        self, lanes: Sequence[Lane], rows: Callable[[Sequence[Lane]], Tensor], step: int
    ) -> "list[_Group]":
        """Begin to recompute the Dominant subspace of the lanes that are due, in groups of one block width.

        A GPU is at it for a while, and what it finds may take the place of the blocks that the lanes have:
        each beginning is to be finished, also where lanes have ended meanwhile.

        Args:
            lanes: All lanes before update number `step`; those that do not project lose their subspace.
            rows: Returns the weights (N, P) of some lanes.
            step: The step.

        Returns:
            The groups, for `finish`.
        """
        due: dict[tuple[object, ...], list[Lane]] = {}
        for lane in lanes:
            if lane.num_steps == step:
                continue
            stage = lane.stage_at(step)
            if not stage.projects or step == stage.start:
                lane.block_WC = lane.values_W = lane.num_held = None
            if stage.projects and lane.refreshes_at(step):
                assert stage.k is not None
                examples = _examples(self._instruments, lane)
                coordinates = _coordinates(examples, stage.k)
                size = self._instruments.objective.num_params if coordinates is None else coordinates.size
                width = block_width(stage.k, self._instruments.num_outputs, lane.cell.solver.guard, size)
                kind = (width, lane.block_WC is None, lane.cell.solver, lane.cell.holdout_seed, coordinates)
                due.setdefault(kind, []).append(lane)
        alive = {id(lane) for lane in lanes if step < lane.num_steps}
        self._groups = {key: group for key, group in self._groups.items() if group.serves(alive, step)}
        groups: list[_Group] = []
        for kind, members in due.items():
            key = (*kind, *map(id, members))
            group = self._groups.get(key) or _Group(self._instruments, members, step)
            if members[0].block_WC is not None:
                self._groups[key] = group
            group.launch(rows(members), step)
            groups.append(group)
        return groups

    def finish(self, groups: "Sequence[_Group]", step: int) -> None:
        """Give the lanes of groups that have begun their subspaces."""
        for group in groups:
            group.finish(step)

    def note(self, groups: "Sequence[_Group]", step: int) -> None:
        """Record what finishing them took: later, when a GPU has something to do meanwhile."""
        for group in groups:
            group.note(step)


class _Group:
    """Lanes with one block width, holdout and solver, that are refreshed together."""

    def __init__(self, instruments: Instruments, lanes: Sequence[Lane], step: int) -> None:
        self._instruments, self._lanes = instruments, lanes
        self._stages = [lane.stage_at(step) for lane in lanes]
        self._solver = lanes[0].cell.solver
        self._examples = _examples(instruments, lanes[0])
        assert self._stages[0].k is not None
        self._coordinates = _coordinates(self._examples, self._stages[0].k)
        self._block = WarmBlock(
            k=[stage.k or 0 for stage in self._stages],
            tolerance=self._solver.tolerance,
            replayable=instruments.objective.replayable,
        )
        self._used = step
        self._params_NP: Tensor | None = None
        self._warm: Warm | None = None
        self._operator: Operator | None = None
        self._found: Eigenspace | None = None
        self._going_on: list[bool] = []

    def serves(self, alive: set[int], step: int) -> bool:
        """Whether all of its lanes train on (by id), in the stages in which it was made, and still meet."""
        period = max(lane.cell.refresh_every for lane in self._lanes)
        return step - self._used <= IDLE_PERIODS * period and all(
            id(lane) in alive and lane.stage_at(step) == stage
            for lane, stage in zip(self._lanes, self._stages, strict=True)
        )

    def _linearise(self, params_NP: Tensor) -> CurvatureProduct:
        return self._instruments.objective.curvature(
            params_NP, *self._examples.for_lanes(len(params_NP)), coordinates=self._coordinates
        )

    def launch(self, params_NP: Tensor, step: int) -> None:
        """Begin a refresh at these weights; its basis may take the place of the lanes' blocks."""
        self._params_NP, self._used, self._warm = params_NP, step, self._left_behind()
        if self._warm is not None and self._solver.order == "algebraic":
            self._operator = self._block.begin(self._linearise, params_NP, self._warm)
        else:
            self._operator = Operator(
                product=self._linearise(params_NP),
                of_lanes=lambda rows: self._linearise(params_NP[rows]),
            )

    def _left_behind(self) -> Warm | None:
        """Return what the last refresh has left; `None` before the first."""
        blocks = [lane.block_WC for lane in self._lanes if lane.block_WC is not None]
        if not blocks:
            return None
        floors = torch.tensor([lane.floor for lane in self._lanes], dtype=torch.float64)
        return Warm(block_NWP=together(blocks), floor_N=floors)

    def finish(self, step: int) -> None:
        """Recompute the subspaces of the lanes that have not ended since the launch."""
        params_NP, operator = self._params_NP, self._operator
        assert params_NP is not None and operator is not None, "nothing has been launched"
        lanes = self._lanes
        counts = [stage.k or 0 for stage in self._stages]
        size = params_NP.shape[1] if self._coordinates is None else self._coordinates.size
        width = block_width(counts[0], self._instruments.num_outputs, self._solver.guard, size)

        def random_blocks() -> Tensor:
            draws = [start_block(lane.cell.seed, "eigenspace", step) for lane in lanes]
            return torch.stack([random_rows(width, size, draw) for draw in draws]).to(params_NP)

        space = refresh_leading(
            self._solver.order,
            operator,
            self._warm,
            random_blocks,
            k=counts,
            tolerance=self._solver.tolerance,
            max_products=self._solver.max_products,
            max_cold_products=self._solver.max_cold_products,
        )
        self._operator = self._params_NP = self._warm = None
        self._found, self._going_on = space, [lane.outcome is None for lane in lanes]
        held = _held(space.values_NW, counts, self._coordinates, self._solver.order)
        floors = space.floor_N.tolist()
        self._give(self._block.keep(space.basis_NWP))
        values = space.values_NW.unbind(0)
        for row, lane in enumerate(lanes):
            if self._going_on[row]:
                lane.values_W, lane.num_held, lane.floor = values[row], held[row], floors[row]
            else:
                # What it had may have been overwritten.
                lane.block_WC = lane.values_W = lane.num_held = None

    def _give(self, block_NWC: Tensor) -> None:
        """Give each lane its block, unless all have it because it stays in its place."""
        known = [lane.block_WC for lane in self._lanes if lane.block_WC is not None]
        there = in_one_place(known) if len(known) == len(self._lanes) else None
        if there is not None and there.data_ptr() == block_NWC.data_ptr():
            return
        blocks = block_NWC.unbind(0)
        if len(blocks) > 1 and block_NWC.device.type == "cpu":
            # In memory of their own: on a CPU the bits of products depend on where they begin.
            blocks = tuple(block.clone() for block in blocks)
        for lane, block, going_on in zip(self._lanes, blocks, self._going_on, strict=True):
            if going_on:
                lane.block_WC = block

    def note(self, step: int) -> None:
        """Record the last refresh."""
        space = self._found
        assert space is not None, "nothing has been finished"
        self._found = None
        residuals, products = space.relative_N.tolist(), space.products_N.tolist()
        converged = space.converged_N.tolist()
        for row, lane in enumerate(self._lanes):
            if not self._going_on[row]:
                continue
            lane.refreshes += 1
            lane.unconverged += not converged[row]
            lane.columns += products[row]
            lane.history.add(
                step,
                {
                    EIGENSPACE_RESIDUAL: residuals[row],
                    EIGENSPACE_PRODUCTS: float(products[row]),
                    EIGENSPACE_CONVERGED: float(converged[row]),
                },
            )


def dominant_of(
    instruments: Instruments, lanes: Sequence[Lane], step: int, *, shares: bool = False
) -> Dominant | None:
    """Return the lanes' Dominant subspaces for update number `step`; `None` when no lane projects."""
    stages = [lane.stage_at(step) for lane in lanes]
    most = max(stage.k or 0 for stage in stages)
    if not most:
        return None
    inverts = any(OPTIMIZERS[stage.optimizer.name].dominant_only for stage in stages)
    return Dominant(subspaces_of(instruments, lanes, step), most=most, inverts=inverts, shares=shares)


def subspaces_of(instruments: Instruments, lanes: Sequence[Lane], step: int) -> list[Subspace | None]:
    """Return each lane's Dominant subspace for update number `step`; `None` where it does not project."""
    subspaces: list[Subspace | None] = [None] * len(lanes)
    for row, lane in enumerate(lanes):
        if k := lane.stage_at(step).k:
            assert lane.block_WC is not None and lane.values_W is not None
            coordinates = _coordinates(_examples(instruments, lane), k)
            if lane.num_held is None:
                values = lane.values_W.unsqueeze(0)
                lane.num_held = _held(values, [k], coordinates, lane.cell.solver.order)[0]
            subspaces[row] = Subspace(
                block_WC=lane.block_WC,
                values_W=lane.values_W,
                count=lane.num_held,
                coordinates=coordinates,
            )
    return subspaces


def _held(values_NW: Tensor, counts: Sequence[int], coordinates: Coordinates | None, order: str) -> list[int]:
    """Return how many of the Hessian's k largest eigenpairs of each lane lie in the coordinates.

    What the coordinates leave out is null, so it comes before negative eigenvalues. Any null vectors may be
    taken; those orthogonal to what is projected change nothing, so they need not be made.
    """
    if coordinates is None or order != "algebraic" or float(values_NW[:, max(counts) - 1].min()) >= 0:
        return list(counts)
    left_out = coordinates.num_params - coordinates.size
    wanted = torch.arange(values_NW.shape[1]) < torch.tensor(counts).unsqueeze(1)
    negative = ((values_NW < 0) & wanted).sum(1).tolist()
    return [count - min(below, left_out) for count, below in zip(counts, negative, strict=True)]


def _examples(instruments: Instruments, lane: Lane) -> Examples:
    size = lane.cell.holdout_size or len(instruments.train)
    return instruments.holdout_examples(lane.cell.holdout_seed, size)


def _coordinates(examples: Examples, k: int) -> Coordinates | None:
    """Return the coordinates to track k directions in: none where those are too few for so many."""
    coordinates = examples.coordinates
    return None if coordinates is None or coordinates.size < k else coordinates
