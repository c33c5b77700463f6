"""What the benchmarks of single steps share: cells that do nothing but step, and a hand-written loop."""

import math
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.problems import BATCH, LR, MODEL_CHOICES, WARM_UP
from trainers.cell import Cell, Phase
from trainers.data import Dataset
from trainers.models import MODELS
from trainers.options import Choice

NEVER = 10**9
"""A period or a number of steps beyond any measurement."""


def stepping_cell(
    model: str, *, bulk_k: int | None = None, holdout_size: int = 500, seed: int = 0, refresh_every: int = 10
) -> Cell:
    """Return a cell of plain SGD, or of Bulk-SGD after `WARM_UP` steps of SGD, that is never evaluated."""
    phases = [Phase(lr=LR, until=NEVER)]
    if bulk_k is not None:
        phases = [
            Phase(lr=LR, until=WARM_UP),
            Phase(lr=LR, alpha_dom=math.inf, k=bulk_k, until=NEVER),
        ]
    return Cell(
        model=MODEL_CHOICES[model],
        # The data set is handed over; the name only has to be one that is known.
        dataset=Choice.of("mnist-5k"),
        phases=tuple(phases),
        seed=seed,
        batch_size=BATCH,
        holdout_size=holdout_size,
        refresh_every=refresh_every,
        evaluate_every=NEVER,
        divergence_every=NEVER,
    )


def hand_written_loop(model: str, data: Dataset, device: str) -> Callable[[int], None]:
    """Return plain SGD as one writes it in PyTorch, with all data on the device: takes so many steps."""
    choice = MODEL_CHOICES[model]
    entry = MODELS[choice.name]
    shape = tuple(data.train_inputs.shape[1:])
    module = entry.build(shape, data.num_outputs, choice.resolve("model", entry.options)).to(device)
    optimizer = torch.optim.SGD(module.parameters(), lr=LR)
    inputs = data.train_inputs.to(device)
    targets = nn.functional.one_hot(data.train_labels, data.num_outputs).float().to(device)
    order = torch.randperm(len(inputs), device=device)
    per_epoch, step = len(inputs) // BATCH, 0

    def take(count: int) -> None:
        nonlocal order, step
        for _ in range(count):
            number = step % per_epoch
            if number == 0:
                order = torch.randperm(len(inputs), device=device)
            batch = order[number * BATCH : (number + 1) * BATCH]
            loss = 0.5 * (module(inputs[batch]) - targets[batch]).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1

    return take
