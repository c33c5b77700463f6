"""Phases that end on a condition: against the dense Hessian, resumed, in packs, and in the plan."""

import dataclasses
import json

import pytest
import torch

from sweep.forks import lines_of, plan_sharing
from tests.trainers.loop_reference import Reference
from tests.trainers.small_cells import bulk, dom, made_data, sgd, small_cell
from trainers.canonical import cell_id, stages, trajectory_id
from trainers.cell import Cell, Condition, Phase
from trainers.cell_json import cell_from_json, cell_to_json
from trainers.data import Dataset
from trainers.errors import ConfigError
from trainers.history import SWITCH_CHI, SWITCH_EMA, SWITCH_STAGE
from trainers.lane import SWITCH
from trainers.options import Choice
from trainers.randomness import holdout_indices
from trainers.training import Trainer

ALIGNED = Condition(chi_above=0.31, at_most=90, ema=0.8, every=3, k=4, holdout_size=60, tolerance=1e-6)
NEVER = dataclasses.replace(ALIGNED, chi_above=0.999999)
CHI_TOLERANCE = 1e-5
"""With residuals of 1e-6 the subspace, and chi with it, is right to about this."""


@pytest.fixture(scope="module")
def data64() -> Dataset:
    return made_data(torch.float64)


def conditional(condition: Condition, *after: Phase) -> Cell:
    model = Choice.of("mlp", widths=(5,), activation="tanh")
    return small_cell(Phase(lr=0.05, until=condition), *(after or (dom(90),)), model=model)


def run(data: Dataset, *cells: Cell, stop: int = 90) -> Trainer:
    trainer = Trainer(cells, data=data, dtype=torch.float64)
    trainer.advance(stop)
    return trainer


def column(trainer: Trainer, name: str) -> dict[int, float]:
    history = trainer.drain(0)
    values = zip(history.steps, history.series.get(name, []), strict=False)
    return {step: value for step, value in values if value is not None}


def test_the_switch_comes_where_the_dense_hessian_says(data64: Dataset) -> None:
    cell = conditional(ALIGNED)
    reference = Reference(dataclasses.replace(cell, holdout_size=60), data64)
    average, expected, chis = 0.0, None, {}
    for step in range(90):
        if step % 3 == 0:
            gradient = torch.func.grad(reference.loss)(reference.params, holdout_indices(0, 60, 5000))
            chis[step] = float((reference.projector(4) @ gradient).norm() / gradient.norm())
            average = 0.8 * average + 0.2 * chis[step]
            if average > 0.31:
                expected = step
                break
        reference.params = reference.params - 0.05 * reference.gradient(step)
    assert expected is not None and 0 < expected < 90
    trainer = run(data64, cell)
    assert trainer.lanes[0].switches == [expected]
    assert column(run(data64, cell), SWITCH_STAGE) == {expected: 1.0}
    assert column(run(data64, cell), SWITCH_CHI) == pytest.approx(chis, rel=CHI_TOLERANCE)
    assert column(trainer, SWITCH_EMA)[expected] == pytest.approx(average, rel=CHI_TOLERANCE)


def test_after_the_switch_it_is_the_schedule_with_that_step(data64: Dataset) -> None:
    found = run(data64, conditional(ALIGNED, bulk(90)))
    (switch,) = found.lanes[0].switches
    plain = small_cell(sgd(switch), bulk(90), model=conditional(ALIGNED).model)
    assert torch.equal(found.weights(0), run(data64, plain).weights(0))


def test_a_condition_that_is_never_met_ends_at_its_last_step(data64: Dataset) -> None:
    condition = dataclasses.replace(NEVER, at_most=40)
    found = run(data64, conditional(condition, dom(90)))
    assert found.lanes[0].switches == []
    plain = small_cell(sgd(40), dom(90), model=conditional(ALIGNED).model)
    assert torch.equal(found.weights(0), run(data64, plain).weights(0))
    whole = run(data64, conditional(dataclasses.replace(NEVER, at_most=90), dom(90)))
    assert torch.equal(whole.weights(0), run(data64, small_cell(sgd(90), model=plain.model)).weights(0))


AT_ONCE = dataclasses.replace(ALIGNED, chi_above=0.0)


def momentum(until: int | Condition, lr: float = 0.05, *, carry: bool = True) -> Phase:
    return Phase(lr=lr, until=until, optimizer=Choice("momentum"), carry=carry)


@pytest.mark.parametrize("begins", [0, 20])
def test_a_phase_that_ends_where_it_begins_has_begun(data64: Dataset, begins: int) -> None:
    """Also one whose base optimiser starts from an empty state: the next one carries on from that."""
    reset = momentum(AT_ONCE, carry=False)
    found = run(data64, small_cell(momentum(begins), reset, momentum(90, 0.02)))
    assert found.lanes[0].switches == [begins]
    plain = small_cell(momentum(begins), momentum(90, 0.02, carry=False))
    assert torch.equal(found.weights(0), run(data64, plain).weights(0))


def test_what_a_condition_has_measured_is_forgotten_where_the_next_phase_begins(data64: Dataset) -> None:
    never, met = (conditional(condition) for condition in (dataclasses.replace(NEVER, at_most=40), ALIGNED))
    (switch,) = run(data64, met).lanes[0].switches
    for cell, end in ((never, 40), (met, switch)):
        kept = [run(data64, cell, stop=stop).state(0).tensors.keys() for stop in (end - 1, end + 1)]
        assert [any(name.startswith(SWITCH) for name in names) for names in kept] == [True, False]


@pytest.mark.parametrize("offset", [-4, -1, 0, 1, 4, 20])
def test_a_resumed_run_is_bitwise_the_same(data64: Dataset, offset: int) -> None:
    cell = conditional(ALIGNED, Phase(lr=0.04, until=dataclasses.replace(ALIGNED, chi_above=0.25)), dom(90))
    whole = run(data64, cell)
    assert len(whole.lanes[0].switches) == 2
    first = run(data64, cell, stop=whole.lanes[0].switches[0] + offset)
    second = Trainer([cell], data=data64, dtype=torch.float64)
    second.restore([first.state(0)])
    second.advance(90)
    assert torch.equal(second.weights(0), whole.weights(0))
    assert second.lanes[0].switches == whole.lanes[0].switches
    assert column(first, SWITCH_EMA) | column(second, SWITCH_EMA) == column(whole, SWITCH_EMA)


def test_lanes_switch_each_at_its_own_step(data64: Dataset) -> None:
    cells = [dataclasses.replace(conditional(ALIGNED), seed=seed) for seed in range(4)]
    together = run(data64, *cells)
    alone = [run(data64, cell).lanes[0].switches for cell in cells]
    assert [lane.switches for lane in together.lanes] == alone
    assert len({tuple(switches) for switches in alone}) > 1


def test_a_condition_is_hashed_as_a_condition() -> None:
    base = conditional(ALIGNED)
    assert cell_id(base) == cell_id(conditional(dataclasses.replace(ALIGNED, chi_above=0.310)))
    for change in (
        {"chi_above": 0.6},
        {"at_most": 80},
        {"ema": 0.7},
        {"every": 4},
        {"k": 5},
        {"holdout_size": 61},
        {"holdout_seed": 1},
        {"tolerance": 1e-3},
    ):
        other = conditional(dataclasses.replace(ALIGNED, **change))
        assert trajectory_id(other) != trajectory_id(base), change
    spelled = dataclasses.replace(ALIGNED, k=10, holdout_size=5000)
    silent = dataclasses.replace(ALIGNED, k=None, holdout_size=None)
    assert cell_id(conditional(spelled)) == cell_id(conditional(silent))
    # A condition between two equal rules decides nothing.
    assert cell_id(conditional(ALIGNED, sgd(90))) == cell_id(small_cell(sgd(90), model=base.model))
    assert cell_from_json(json.loads(json.dumps(cell_to_json(base)))) == base


def test_schedules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="last phase ends on a condition"):
        stages(small_cell(Phase(lr=0.1, until=ALIGNED)))
    with pytest.raises(ConfigError, match=r"phases\.1\.until: found 80"):
        stages(conditional(ALIGNED, dom(80)))
    with pytest.raises(ConfigError, match="chi_above: expected"):
        dataclasses.replace(ALIGNED, chi_above=1.0)


def test_cells_share_nothing_from_a_condition_on() -> None:
    """Which rule a step beyond it belongs to is known only to the run itself."""
    trunk = sgd(20)
    cells = {
        cell_id(cell): cell
        for cell in (
            small_cell(trunk, Phase(lr=0.02, until=ALIGNED), dom(90)),
            small_cell(trunk, Phase(lr=0.02, until=ALIGNED), bulk(90)),
            small_cell(trunk, Phase(lr=0.02, until=90)),
        )
    }
    lines = [{address for address, start, _ in lines_of(cell) if start >= 20} for cell in cells.values()]
    assert len(set.union(*lines)) == sum(map(len, lines)) == 3
    sharing = plan_sharing(cells)
    starts = [sharing[key].start for key in cells]
    assert sorted(fork.step for fork in starts if fork is not None) == [20, 20]
