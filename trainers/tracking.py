"""The Dominant subspaces of a pack's lanes over time: who is due, refreshed together, kept by each lane.

Shape legend: N lanes, W block width, P parameters, C parameters in the holdout's coordinates.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainers.coordinates import Coordinates
from trainers.eigenspace import Warm, block_width, relative_residual
from trainers.history import EIGENSPACE_CONVERGED, EIGENSPACE_PRODUCTS, EIGENSPACE_RESIDUAL
from trainers.instruments import Examples, Instruments, start_block
from trainers.lane import Lane
from trainers.magnitude import refresh_leading
from trainers.optimizers.dominant import Dominant, Subspace


def refresh_dominant(
    instruments: Instruments, lanes: Sequence[Lane], rows: Callable[[Sequence[Lane]], Tensor], step: int
) -> bool:
    """Recompute the Dominant subspace of the lanes that are due, in groups of one block width and k.

    Args:
        instruments: What the products are of.
        lanes: All lanes before update number `step`; those that do not project lose their subspace.
        rows: Returns the weights (N, P) of some lanes.
        step: The step.

    Returns:
        Whether any lane was due.
    """
    groups: dict[tuple[object, ...], list[Lane]] = {}
    for lane in lanes:
        if lane.num_steps == step:
            continue
        stage = lane.stage_at(step)
        if not stage.projects or step == stage.start:
            lane.block_WC = lane.values_W = None
        if lane.refreshes_at(step):
            kind = (stage.k, lane.block_WC is None, lane.cell.solver, lane.cell.holdout_seed)
            groups.setdefault(kind, []).append(lane)
    for members in groups.values():
        _refresh_group(instruments, members, rows(members), step)
    return bool(groups)


def _refresh_group(instruments: Instruments, lanes: list[Lane], params_NP: Tensor, step: int) -> None:
    cell, k = lanes[0].cell, lanes[0].stage_at(step).k
    assert k is not None
    solver, examples = cell.solver, _examples(instruments, lanes[0])
    coordinates = _coordinates(examples, k)
    size = params_NP.shape[1] if coordinates is None else coordinates.size
    width = block_width(k, instruments.num_outputs, solver.guard, size)

    def random_blocks() -> Tensor:
        draws = [start_block(lane.cell.seed, "eigenspace", step) for lane in lanes]
        return torch.stack([torch.randn(width, size, generator=draw) for draw in draws]).to(params_NP)

    blocks = [lane.block_WC for lane in lanes if lane.block_WC is not None]
    warm = None
    if blocks:
        floors = torch.tensor([lane.floor for lane in lanes], dtype=torch.float64)
        block = blocks[0].unsqueeze(0) if len(blocks) == 1 else torch.stack(blocks)
        warm = Warm(block_NWP=block, floor_N=floors)
    space = refresh_leading(
        solver.order,
        instruments.objective.curvature(params_NP, *examples.for_lanes(len(lanes)), coordinates=coordinates),
        warm,
        random_blocks,
        k=k,
        tolerance=solver.tolerance,
        max_products=solver.max_products,
        max_cold_products=solver.max_cold_products,
    )
    residuals, floors = relative_residual(space, k).tolist(), space.floor_N.tolist()
    counts, all_converged = space.products_N.tolist(), space.converged_N.tolist()
    for row, lane in enumerate(lanes):
        converged = bool(all_converged[row])
        lane.block_WC, lane.values_W = _own(space.basis_NWP, row), space.values_NW[row].clone()
        lane.floor = floors[row]
        lane.refreshes += 1
        lane.unconverged += not converged
        lane.columns += counts[row]
        lane.history.add(
            step,
            {
                EIGENSPACE_RESIDUAL: residuals[row],
                EIGENSPACE_PRODUCTS: float(counts[row]),
                EIGENSPACE_CONVERGED: float(converged),
            },
        )


def dominant_of(instruments: Instruments, lanes: Sequence[Lane], step: int) -> Dominant | None:
    """Return the lanes' Dominant subspaces for update number `step`; `None` when no lane projects."""
    most = max(lane.stage_at(step).k or 0 for lane in lanes)
    return Dominant(subspaces_of(instruments, lanes, step), most=most) if most else None


def subspaces_of(instruments: Instruments, lanes: Sequence[Lane], step: int) -> list[Subspace | None]:
    """Return each lane's Dominant subspace for update number `step`; `None` where it does not project."""
    subspaces: list[Subspace | None] = [None] * len(lanes)
    for row, lane in enumerate(lanes):
        if k := lane.stage_at(step).k:
            assert lane.block_WC is not None and lane.values_W is not None
            coordinates = _coordinates(_examples(instruments, lane), k)
            held = k
            if coordinates is not None and lane.cell.solver.order == "algebraic":
                held = _held(lane.values_W[:k], coordinates)
            subspaces[row] = Subspace(
                basis_KC=lane.block_WC[:held], values_K=lane.values_W[:held], coordinates=coordinates
            )
    return subspaces


def _held(values_K: Tensor, coordinates: Coordinates) -> int:
    """Return how many of the Hessian's k largest eigenpairs lie in the coordinates.

    What the coordinates leave out is null, so it comes before negative eigenvalues. Any null vectors may be
    taken; those orthogonal to what is projected change nothing, so they need not be made.
    """
    left_out = coordinates.num_params - coordinates.size
    return max(len(values_K) - int((values_K < 0).sum()), len(values_K) - left_out)


def _examples(instruments: Instruments, lane: Lane) -> Examples:
    size = lane.cell.holdout_size or len(instruments.train)
    return instruments.holdout_examples(lane.cell.holdout_seed, size)


def _coordinates(examples: Examples, k: int) -> Coordinates | None:
    """Return the coordinates to track k directions in: none where those are too few for so many."""
    coordinates = examples.coordinates
    return None if coordinates is None or coordinates.size < k else coordinates


def _own(blocks_NWP: Tensor, row: int) -> Tensor:
    """One lane's part, on a CPU in memory of its own: the bits of products depend on where it begins."""
    alone = len(blocks_NWP) == 1 or blocks_NWP.device.type != "cpu"
    return blocks_NWP[row] if alone else blocks_NWP[row].clone()
