"""Every model of the table goes through the loop: Bulk- and Dom-steps, resumed, alone and in a pack."""

from pathlib import Path

import pytest
import torch

from tests.trainers.models_small import small_choice, small_inputs
from tests.trainers.tolerances import TRAJECTORY
from trainers.cell import Cell, Phase
from trainers.data import Dataset
from trainers.options import Choice
from trainers.training import Trainer

NUM_EXAMPLES = 40
INF = float("inf")
FEW_STEPS = 1e3
"""How much more than a shallow network a deep one with normalisation amplifies rounding."""

DATA_OF = {"quadratic": Choice("signs"), "transformer": Choice.of("sst2-1k", vocabulary=7)}


class Case:
    """A model with data of its shape, in float64."""

    def __init__(self, name: str, folder: Path) -> None:
        self.model, shape = small_choice(name, folder)
        draw = torch.Generator().manual_seed(0)
        inputs = small_inputs(name, NUM_EXAMPLES, *shape, draw=draw)
        labels = torch.randint(0, 10, (NUM_EXAMPLES,), generator=draw)
        self.toy = name == "quadratic"
        if self.toy:
            inputs, labels = inputs.sign(), torch.zeros(NUM_EXAMPLES, 1, dtype=torch.float64)
        self.data = Dataset(
            train_inputs=inputs,
            train_labels=labels,
            test_inputs=inputs[:9],
            test_labels=labels[:9],
            num_outputs=1 if self.toy else 10,
        )

    def cell(self, seed: int = 0, optimizer: str = "adam") -> Cell:
        rate = 0.01
        return Cell(
            model=self.model,
            dataset=DATA_OF.get(self.model.name, Choice("mnist-5k")),
            loss=Choice("output") if self.toy else Choice("cross_entropy"),
            seed=seed,
            batch_size=4,
            holdout_size=20,
            refresh_every=2,
            evaluate_every=4,
            divergence_every=4,
            phases=(
                Phase(lr=rate, until=2),
                Phase(lr=rate, until=6, optimizer=Choice(optimizer), alpha_dom=INF, k=1),
                Phase(lr=rate, until=8, optimizer=Choice("sam"), beta_bulk=INF, k=2),
            ),
        )

    def trained(self, *cells: Cell, stop: int = 8) -> Trainer:
        trainer = Trainer(cells, data=self.data, dtype=torch.float64)
        trainer.advance(stop)
        return trainer


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(request.param, tmp_path)


def test_it_trains_and_resumes_bitwise(case: Case) -> None:
    whole = case.trained(case.cell())
    assert whole.lanes[0].outcome is not None
    assert bool(whole.weights(0).isfinite().all())
    for stop in (1, 3, 5, 7):
        second = Trainer([case.cell()], data=case.data, dtype=torch.float64)
        second.restore([case.trained(case.cell(), stop=stop).state(0)])
        second.advance(8)
        assert torch.equal(second.weights(0), whole.weights(0)), stop
    history = whole.drain(0)
    losses = [loss for loss in history.series["train/loss"] if loss is not None]
    assert losses[-1] != losses[0]
    assert ("test/accuracy" in history.series) != case.toy


def test_a_lane_equals_the_cell_alone(case: Case) -> None:
    # Not Adam, which makes whole steps of gradients that are 0 but for rounding; up to the first step that
    # projects, since deep normalised networks multiply rounding by orders of magnitude a step.
    cells = [case.cell(seed, "momentum") for seed in range(3)]
    together = case.trained(*cells, stop=3)
    for index, cell in enumerate(cells):
        alone = case.trained(cell, stop=3).weights(0)
        torch.testing.assert_close(
            together.weights(index), alone, rtol=0, atol=FEW_STEPS * TRAJECTORY[torch.float64]
        )
