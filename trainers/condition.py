"""Phases that end on a condition: the moving average of chi_k, and what it has come to so far."""

import torch
from torch import Tensor

from trainers.history import SWITCH_CHI, SWITCH_CONVERGED, SWITCH_EMA, SWITCH_STAGE
from trainers.instruments import Instruments, alignment, start_block
from trainers.lane import SWITCH, Lane

EMA = "ema"


def check_condition(instruments: Instruments, lane: Lane, params_P: Tensor, step: int) -> bool:
    """Measure chi_k of a lane whose stage ends on a condition, and end the stage when it is met.

    Gradient and Hessian are those of the condition's own examples (`trainers.cell.Condition`), and its
    eigenspace is its own, so that neither probes nor a projecting stage have a say in when it is met.

    Returns:
        Whether it is met.
    """
    condition = lane.stage_at(step).condition
    assert condition is not None and condition.k is not None and condition.holdout_size is not None
    memory = lane.remembered(SWITCH)
    indices = instruments.holdout(condition.holdout_seed, condition.holdout_size)
    space = instruments.leading(
        params_P,
        indices,
        k=condition.k,
        tolerance=condition.tolerance,
        memory=memory,
        draw=start_block(lane.cell.seed, "switch", step),
    )
    chi = alignment(space.basis_KP, instruments.gradient(params_P, indices))
    before = float(memory[EMA]) if EMA in memory else 0.0
    average = condition.ema * before + (1 - condition.ema) * chi
    lane.history.add(step, {SWITCH_CHI: chi, SWITCH_EMA: average, SWITCH_CONVERGED: float(space.converged)})
    if average > condition.chi_above:
        lane.end_stage(step)
        lane.history.add(step, {SWITCH_STAGE: float(lane.stages.index(lane.stage_at(step)))})
        return True
    memory[EMA] = torch.tensor([average], dtype=torch.float64)
    lane.remember(SWITCH, memory)
    return False
