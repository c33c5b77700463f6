"""What the papers claim, on MNIST-5k: after a while of SGD, the loss falls in the Bulk alone."""

import dataclasses
import math
from pathlib import Path

import pytest

from tests.trainers.tolerances import KEPT, STOPPED
from trainers.cell import Cell, Phase
from trainers.data import DATASETS, Dataset
from trainers.history import TRAIN_LOSS
from trainers.options import Choice
from trainers.training import Trainer

LR, SWITCH, STEPS = 0.05, 200, 800
SETTLED = SWITCH + 50
"""Drops are counted from here: at the switch itself Dom-SGD first runs down the valley's wall."""

WINDOW_STEPS = 50
"""The loss is averaged over so many steps at both ends, since minibatch noise moves it."""


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    data = DATASETS["mnist-5k"].load(Path("unused"), {"normalize": "scale"})
    # The accuracy is not what is tested, and most of an evaluation's time.
    return dataclasses.replace(data, test_inputs=data.test_inputs[:100], test_labels=data.test_labels[:100])


def drop(trainer: Trainer, index: int) -> float:
    """The averaged training loss soon after the switch less the one at the end."""
    history = trainer.drain(index)
    losses = {
        step: loss
        for step, loss in zip(history.steps, history.series[TRAIN_LOSS], strict=True)
        if loss is not None
    }
    early = [loss for step, loss in losses.items() if SETTLED <= step <= SETTLED + WINDOW_STEPS]
    late = [loss for step, loss in losses.items() if step >= STEPS - WINDOW_STEPS]
    return sum(early) / len(early) - sum(late) / len(late)


@pytest.mark.parametrize("seed", [1, 2])
def test_dom_sgd_stops_and_bulk_sgd_goes_on_like_sgd(mnist: Dataset, seed: int) -> None:
    cells = [
        Cell(
            model=Choice("mlp"),
            dataset=Choice("mnist-5k"),
            phases=(
                Phase(lr=LR, until=SWITCH),
                Phase(lr=LR, alpha_dom=alpha_dom, beta_bulk=beta_bulk, until=STEPS),
            ),
            seed=seed,
            evaluate_every=25,
        )
        for alpha_dom, beta_bulk in ((1.0, 1.0), (1.0, math.inf), (math.inf, 1.0))
    ]
    trainer = Trainer(cells, data=mnist)
    trainer.advance(STEPS)
    assert [lane.outcome and lane.outcome.status for lane in trainer.lanes] == ["completed"] * 3
    sgd, dom, bulk = (drop(trainer, index) for index in range(3))
    assert sgd > 0.02, "the loss must still fall for the ratios to mean anything"
    assert dom / sgd <= STOPPED, (sgd, dom, bulk)
    assert KEPT[0] <= bulk / sgd <= KEPT[1], (sgd, dom, bulk)
