"""Distances, sketches and recorded weights against the weights themselves."""

import pytest
import torch

from tests.trainers.probes.probed import DATA, measured, probe, probed, recorded
from tests.trainers.small_cells import bulk, sgd
from tests.trainers.tolerances import PROBED_FLOAT64, STANDARD_ERRORS
from trainers.cell import Cell, Condition, Phase
from trainers.options import Choice
from trainers.training import Trainer


def weights_at(cell: Cell, step: int) -> torch.Tensor:
    trainer = Trainer([cell], data=DATA, dtype=torch.float64)
    trainer.advance(step)
    return trainer.weights(0).clone()


def test_distances_from_the_switch_and_from_a_step() -> None:
    cell = probed(probe("distance"), probe("distance", since=7), phases=(sgd(8), bulk(20)))
    series, _ = measured(cell)
    at = {step: weights_at(cell, step) for step in (0, 5, 8, 10, 15, 20)}

    def apart(left: int, right: int) -> float:
        return float((at[left] - at[right]).norm())

    expected = {0: 0.0, 5: apart(5, 0), 10: apart(10, 8), 15: apart(15, 8), 20: apart(20, 8)}
    assert series["distance/from_switch"] == pytest.approx(expected, **PROBED_FLOAT64)
    since = {10: 0.0, 15: apart(15, 10), 20: apart(20, 10)}
    assert series["distance/since_7"] == pytest.approx(since, **PROBED_FLOAT64)


def test_the_switch_is_where_a_condition_puts_it() -> None:
    condition = Condition(chi_above=0.1, ema=0.5, every=1, at_most=19, k=4, holdout_size=60)
    cell = probed(probe("distance", every=1), phases=(Phase(lr=0.05, until=condition), bulk(20)))
    series, trainer = measured(cell)
    (switch,) = trainer.lanes[0].switches
    zeros = [step for step, value in series["distance/from_switch"].items() if value == 0]
    assert zeros == [0, switch] if switch else [0]


def test_sketches_tell_how_far_apart_two_runs_are() -> None:
    size = 200
    cells = [
        probed(probe("sketch", size=size), phases=(Phase(lr=0.05, until=10, optimizer=Choice(name)),))
        for name in ("sgd", "gd")
    ]
    runs = [measured(cell) for cell in cells]
    left, right = (
        torch.tensor([series[f"sketch/{row + 1}"][10] for row in range(size)]) for series, _ in runs
    )
    truth = float((runs[0][1].weights(0) - runs[1][1].weights(0)).norm())
    found = float((left - right).norm())
    assert truth > 0
    assert abs(found / truth - 1) < STANDARD_ERRORS / (2 * size) ** 0.5
    other = recorded_sketch(seed=1)
    assert other != [series["sketch/1"][0] for series, _ in runs][0]


def recorded_sketch(seed: int) -> float:
    trainer = Trainer([probed(probe("sketch", size=1, seed=seed))], data=DATA, dtype=torch.float64)
    trainer.advance(10)
    return recorded(trainer)["sketch/1"][0]


def test_small_models_are_recorded_whole() -> None:
    cell = probed(probe("weights"), model=Choice.of("mlp", widths=(1,)))
    series, _ = measured(cell)
    found = [series[f"weights/{index + 1}"][10] for index in range(len(weights_at(cell, 10)))]
    assert found == weights_at(cell, 10).tolist()
