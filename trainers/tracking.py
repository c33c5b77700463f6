"""The Dominant subspaces of a pack's lanes over time: who is due, refreshed together, kept by each lane.

Shape legend: N lanes, W block width, P parameters.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainers.eigenspace import Warm, block_width, refresh, relative_residual
from trainers.history import EIGENSPACE_CONVERGED, EIGENSPACE_PRODUCTS, EIGENSPACE_RESIDUAL
from trainers.instruments import Instruments, start_block
from trainers.lane import Lane
from trainers.optimizers.dominant import Dominant


def refresh_dominant(
    instruments: Instruments, lanes: Sequence[Lane], rows: Callable[[Sequence[Lane]], Tensor], step: int
) -> None:
    """Recompute the Dominant subspace of the lanes that are due, in groups of one block width and k.

    Args:
        instruments: What the products are of.
        lanes: All lanes before update number `step`; those that do not project lose their subspace.
        rows: Returns the weights (N, P) of some lanes.
        step: The step.
    """
    groups: dict[tuple[int, bool, object], list[Lane]] = {}
    for lane in lanes:
        if lane.num_steps == step:
            continue
        stage = lane.stage_at(step)
        if not stage.projects or step == stage.start:
            lane.block_WP = lane.values_W = None
        if lane.refreshes_at(step):
            assert stage.k is not None
            groups.setdefault((stage.k, lane.block_WP is None, lane.cell.solver), []).append(lane)
    for (k, _, _), members in groups.items():
        _refresh_group(instruments, members, rows(members), k, step)


def _refresh_group(instruments: Instruments, lanes: list[Lane], params_NP: Tensor, k: int, step: int) -> None:
    solver = lanes[0].cell.solver
    size = lanes[0].cell.holdout_size or len(instruments.train)
    indices = torch.stack([instruments.holdout(lane.cell.holdout_seed, size) for lane in lanes])
    inputs, targets = instruments.train.select(indices)
    num_params = params_NP.shape[1]
    width = block_width(k, instruments.num_outputs, solver.guard, num_params)

    def random_blocks() -> Tensor:
        draws = [start_block(lane.cell.seed, "eigenspace", step) for lane in lanes]
        return torch.stack([torch.randn(width, num_params, generator=draw) for draw in draws]).to(params_NP)

    blocks = [lane.block_WP for lane in lanes if lane.block_WP is not None]
    warm = None
    if blocks:
        floors = torch.tensor([lane.floor for lane in lanes], dtype=torch.float64, device=params_NP.device)
        warm = Warm(block_NWP=torch.stack(blocks), floor_N=floors)
    space = refresh(
        instruments.objective.curvature(params_NP, inputs, targets),
        warm,
        random_blocks,
        k=k,
        tolerance=solver.tolerance,
        max_products=solver.max_products,
        max_cold_products=solver.max_cold_products,
    )
    residuals = relative_residual(space, k)
    for row, lane in enumerate(lanes):
        converged = bool(space.converged_N[row])
        lane.block_WP, lane.values_W = space.basis_NWP[row].clone(), space.values_NW[row].clone()
        lane.floor = float(space.floor_N[row])
        lane.refreshes += 1
        lane.unconverged += not converged
        lane.columns += int(space.products_N[row])
        lane.history.add(
            step,
            {
                EIGENSPACE_RESIDUAL: float(residuals[row]),
                EIGENSPACE_PRODUCTS: float(space.products_N[row]),
                EIGENSPACE_CONVERGED: float(converged),
            },
        )


def dominant_of(lanes: Sequence[Lane], step: int) -> Dominant | None:
    """Return the lanes' Dominant subspaces for update number `step`; `None` when no lane projects."""
    sizes = [lane.stage_at(step).k or 0 for lane in lanes]
    if not any(sizes):
        return None
    bases: list[Tensor | None] = [None] * len(lanes)
    values: list[Tensor | None] = [None] * len(lanes)
    for row, (lane, k) in enumerate(zip(lanes, sizes, strict=True)):
        if k:
            assert lane.block_WP is not None and lane.values_W is not None
            bases[row], values[row] = lane.block_WP[:k], lane.values_W[:k]
    return Dominant(bases=bases, values=values)
