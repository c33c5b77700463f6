"""Cells with probes on made data in float64, what they record, and the dense reference at their start."""

from typing import Any

import torch

from tests.trainers.loop_reference import Reference
from tests.trainers.small_cells import made_data, sgd, small_cell
from trainers.cell import Cell, Phase, Probe
from trainers.options import Choice
from trainers.training import Trainer

DATA = made_data(torch.float64)
TINY = Choice.of("mlp", widths=(5,), activation="tanh")
HOLDOUT = {"holdout_size": 60, "tolerance": 1e-9}

Series = dict[str, dict[int, float]]
"""Values by name and step."""


def probe(name: str, every: int = 5, **options: Any) -> Probe:
    return Probe(name=name, every=every, options=Choice.of(name, **options).options)


def probed(*probes: Probe, phases: tuple[Phase, ...] = (sgd(10),), **fields: Any) -> Cell:
    return small_cell(*phases, probes=probes, **({"model": TINY} | fields))


def recorded(trainer: Trainer, index: int = 0) -> Series:
    history = trainer.drain(index)
    return {
        name: {step: value for step, value in zip(history.steps, values, strict=True) if value is not None}
        for name, values in history.series.items()
    }


def measured(cell: Cell) -> tuple[Series, Trainer]:
    trainer = Trainer([cell], data=DATA, dtype=torch.float64)
    trainer.advance(cell.num_steps)
    return recorded(trainer), trainer


def start(cell: Cell) -> Reference:
    """The reference at step 0."""
    return Reference(cell, DATA)
