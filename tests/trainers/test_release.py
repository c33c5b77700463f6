"""What has been dropped is gone at once, without Python looking for cycles: a GPU's memory hangs on it."""

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.trainers.small_cells import CURVATURE, bulk, made_data, sgd, small_cell
from trainers.cell import Cell
from trainers.lane import OPTIMIZER
from trainers.options import Choice
from trainers.tracking import IDLE_PERIODS
from trainers.training import Trainer

DATA = made_data()


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def trained(cells: list[Cell], steps: int) -> Trainer:
    trainer = Trainer(cells, data=DATA)
    trainer.advance(steps)
    return trainer


@pytest.mark.parametrize(
    "model", [Choice.of("mlp", widths=(8,)), Choice.of("cnn", channels=2), Choice.of("vgg11", width=1)]
)
def test_a_trainer_leaves_nothing(model: Choice) -> None:
    cells = [small_cell(sgd(3), bulk(40), model=model, seed=seed, probes=CURVATURE) for seed in range(2)]
    trainer = trained(cells, 12)
    groups = list(trainer._tracker._groups.values())
    steps = [prepared.steps.examples for prepared in trainer._stepper._prepared.values()]
    assert groups and steps
    kept = [
        trainer,
        trainer._stepper,
        trainer._train,
        trainer._objective,
        trainer._params_NP,
        *groups,
        *steps,
    ]
    left = [weakref.ref(one) for one in kept]
    del trainer, groups, steps, kept
    assert [one() for one in left if one() is not None] == []


def test_steps_and_groups_of_a_stage_go_with_it() -> None:
    trainer = trained([small_cell(bulk(12), bulk(40, lr=0.01), seed=seed) for seed in range(2)], 11)
    [prepared] = trainer._stepper._prepared.values()
    before = weakref.ref(prepared.steps.examples)
    del prepared
    groups = [weakref.ref(group) for group in trainer._tracker._groups.values()]
    assert before() is not None and groups
    trainer.advance(25)
    assert before() is None and [group for group in groups if group() is not None] == []


def test_an_ended_lane_keeps_no_memory_of_the_others() -> None:
    """Of its base optimiser and its eigenspace, whether it is completed, diverges or is stopped."""
    momentum = Choice.of("momentum", beta=0.9)
    phases = [bulk(10), bulk(40, lr=1.0), bulk(40), bulk(40)]
    cells = [
        small_cell(replace(phase, optimizer=momentum), seed=seed, divergence_factor=2.0)
        for seed, phase in enumerate(phases)
    ]
    trainer = trained(cells, 31)
    trainer.stop(2, "asked for")
    assert [lane.outcome and lane.outcome.status for lane in trainer.lanes] == [
        "completed", "diverged", "stopped", None
    ]  # fmt: skip
    for index in range(3):
        lane = trainer.lanes[index]
        assert lane.remembered(OPTIMIZER) and lane.block_WC is not None
        for tensor in (*lane.memory.values(), lane.block_WC, trainer.weights(index)):
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_a_group_whose_lanes_no_longer_meet_goes() -> None:
    """Two lanes with other periods meet every 35 steps; one that begins later makes a group with each."""
    often, seldom = small_cell(bulk(400), refresh_every=5), small_cell(bulk(400), refresh_every=7, seed=1)
    trainer = trained([often, seldom], 72)
    assert sorted(len(group._lanes) for group in trainer._tracker._groups.values()) == [1, 1, 2]
    late = [small_cell(sgd(20 + 3 * n), bulk(600), refresh_every=1, seed=n) for n in range(4)]
    trainer = trained(late, 32)
    assert len(trainer._tracker._groups) > 1
    trainer.advance(29 + IDLE_PERIODS + 4)
    assert [len(group._lanes) for group in trainer._tracker._groups.values()] == [4]
