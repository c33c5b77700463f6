"""The training loop against loops written out by hand, and its outcomes."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trainers.loop_reference import Reference
from tests.trainers.small_cells import CURVATURE, bulk, dom, made_data, sgd, small_cell
from tests.trainers.tolerances import GOLDEN_LOSSES, PROJECTED_TRAJECTORY_FLOAT64, SUMS_FLOAT64
from trainers.canonical import NUMERICS_VERSION, cell_id
from trainers.cell import Cell, Phase, Solver
from trainers.data import Dataset
from trainers.divergence import Outcome
from trainers.errors import CheckpointError, ConfigError
from trainers.history import BATCH_LOSS, TEST_ACCURACY, TRAIN_LOSS
from trainers.options import Choice
from trainers.training import Trainer

LINEAR = Choice.of("mlp", widths=())
"""Without hidden layers the squared error is a quadratic."""

GOLDEN = Path(__file__).parent / "golden" / "bulk_losses.json"

ALIGNMENT_BYTES = 64
"""Where tensors of torch's own begin in a CPU's memory."""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return made_data()


@pytest.fixture(scope="module")
def data64() -> Dataset:
    return made_data(torch.float64)


def train(
    data: Dataset, *cells: Cell, dtype: torch.dtype = torch.float32, stop: int | None = None
) -> Trainer:
    trainer = Trainer(cells, data=data, dtype=dtype)
    trainer.advance(stop or max(cell.num_steps for cell in cells))
    return trainer


def test_sgd_is_the_loop_that_everybody_writes(data64: Dataset) -> None:
    cell = small_cell(sgd(120))
    reference = Reference(cell, data64)
    for step in range(120):
        gradient = torch.func.grad(reference.loss)(reference.params, reference.batch(step))
        reference.params = reference.params - 0.05 * gradient
    trainer = train(data64, cell, dtype=torch.float64)
    torch.testing.assert_close(trainer.weights(0), reference.params, **SUMS_FLOAT64)


@pytest.mark.parametrize(
    ("alpha_dom", "beta_bulk"), [(math.inf, 1.0), (1.0, math.inf), (2.0, 0.5), (0.5, 2.0)]
)
def test_projected_updates_are_those_of_the_dense_hessian(
    data64: Dataset, alpha_dom: float, beta_bulk: float
) -> None:
    cell = small_cell(
        sgd(3),
        Phase(lr=0.05, alpha_dom=alpha_dom, beta_bulk=beta_bulk, k=3, until=12),
        model=Choice.of("mlp", widths=(5,), activation="tanh"),
        refresh_every=4,
        solver=Solver(tolerance=1e-9, max_products=60, max_cold_products=200),
    )
    reference = Reference(cell, data64)
    projector = torch.zeros(0)
    for step in range(12):
        direction = torch.func.grad(reference.loss)(reference.params, reference.batch(step))
        if step < 3:
            reference.params = reference.params - 0.05 * direction
            continue
        if (step - 3) % 4 == 0:
            projector = reference.projector(3)
        dominant = projector @ direction
        update = 0.05 / alpha_dom * dominant + 0.05 / beta_bulk * (direction - dominant)
        reference.params = reference.params - update
    trainer = train(data64, cell, dtype=torch.float64)
    assert trainer.lanes[0].refreshes == 3
    assert trainer.lanes[0].unconverged == 0
    torch.testing.assert_close(trainer.weights(0), reference.params, **PROJECTED_TRAJECTORY_FLOAT64)


@pytest.mark.parametrize("stop", [0, 1, 5, 13, 20, 23, 30, 49])
def test_a_saved_and_restored_run_is_bitwise_the_same(data: Dataset, stop: int) -> None:
    cell = small_cell(sgd(13), bulk(30), dom(50), probes=CURVATURE)
    whole = train(data, cell)
    first = Trainer([cell], data=data)
    first.advance(stop)
    second = Trainer([cell], data=data)
    second.restore([first.state(0)])
    second.advance(50)
    assert torch.equal(second.weights(0), whole.weights(0))
    assert second.lanes[0].finals == whole.lanes[0].finals
    assert (
        second.lanes[0].outcome == whole.lanes[0].outcome == Outcome(status="completed", reason="", step=50)
    )
    early, late, expected = first.drain(0), second.drain(0), whole.drain(0)
    assert early.steps + late.steps == expected.steps
    for name, values in expected.series.items():
        parts = [part.series.get(name, [None] * len(part)) for part in (early, late)]
        assert parts[0] + parts[1] == values, name


def test_what_is_measured_never_changes_the_weights(data: Dataset) -> None:
    plain = train(data, small_cell(sgd(20), bulk(60), evaluate_every=60))
    watched = train(data, small_cell(sgd(20), bulk(60), evaluate_every=3, probes=CURVATURE))
    assert torch.equal(plain.weights(0), watched.weights(0))


def test_the_state_of_another_cell_is_refused(data: Dataset) -> None:
    state = train(data, small_cell(sgd(20)), stop=10).state(0)
    other = Trainer([small_cell(sgd(20), seed=1)], data=data)
    with pytest.raises(CheckpointError, match="not of"):
        other.restore([state])
    with pytest.raises(CheckpointError, match="lacks a part"):
        Trainer([small_cell(sgd(20))], data=data).restore([dataclasses.replace(state, tensors={})])


def test_a_loss_that_is_not_finite_ends_a_run_at_its_step(data: Dataset) -> None:
    trainer = train(data, small_cell(sgd(200, lr=1e12)))
    outcome = trainer.lanes[0].outcome
    assert outcome is not None and outcome.status == "diverged" and "not finite" in outcome.reason
    history = trainer.drain(0)
    losses = [loss for loss in history.series[BATCH_LOSS] if loss is not None]
    assert not math.isfinite(losses[-1]) and all(math.isfinite(loss) for loss in losses[:-1])
    assert history.steps[-1] == outcome.step < 20
    assert math.isfinite(trainer.lanes[0].finals[TRAIN_LOSS])


def test_a_loss_far_above_its_start_ends_a_run(data: Dataset) -> None:
    cell = small_cell(sgd(500, lr=1.0), divergence_factor=3.0, model=LINEAR)
    outcome = train(data, cell).lanes[0].outcome
    assert outcome is not None and outcome.status == "diverged"
    assert outcome.reason == "the training loss exceeds 3 times its initial value" and outcome.step % 10 == 0


def test_a_run_that_ends_above_its_start_has_diverged(data: Dataset) -> None:
    cell = small_cell(sgd(12, lr=1.0), divergence_factor=1e30, divergence_every=1000, model=LINEAR)
    outcome = train(data, cell).lanes[0].outcome
    assert outcome == Outcome(
        status="diverged", reason="the final training loss is above its initial value", step=12
    )


def test_a_linear_model_is_stable_below_its_edge_and_not_above(data64: Dataset) -> None:
    """Full-batch steps on a quadratic converge if and only if lr < 2 / lambda_max."""
    cell = small_cell(sgd(1), model=LINEAR, batch_size=5000)
    features = torch.cat([data64.train_inputs.flatten(1), torch.ones(5000, 1, dtype=torch.float64)], 1)
    sharpest = float(torch.linalg.eigvalsh(features.T @ features / 5000)[-1])
    outcomes = {
        factor: train(
            data64,
            dataclasses.replace(cell, phases=(sgd(300, lr=factor * 2 / sharpest),)),
            dtype=torch.float64,
        )
        .lanes[0]
        .outcome
        for factor in (0.98, 1.1)
    }
    assert outcomes[0.98] is not None and outcomes[0.98].status == "completed"
    assert outcomes[1.1] is not None and outcomes[1.1].status == "diverged"


def test_evaluation_points_are_every_period_and_the_end(data: Dataset) -> None:
    history = train(data, small_cell(sgd(25), evaluate_every=10)).drain(0)
    measured = [
        step
        for step, value in zip(history.steps, history.series[TEST_ACCURACY], strict=True)
        if value is not None
    ]
    assert measured == [0, 10, 20, 25]
    stamped = [
        step for step, stamp in zip(history.steps, history.timestamps_ms, strict=True) if stamp is not None
    ]
    assert stamped == measured
    batches = [
        step for step, loss in zip(history.steps, history.series[BATCH_LOSS], strict=True) if loss is not None
    ]
    assert batches == list(range(25))


def test_cells_of_different_shape_are_no_pack(data: Dataset) -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        Trainer([small_cell(sgd(5)), small_cell(sgd(5), batch_size=10)], data=data)
    with pytest.raises(ConfigError, match="at least one"):
        Trainer([], data=data)


def test_golden_losses(data: Dataset) -> None:
    """Guards refactors. If it changes on purpose: raise NUMERICS_VERSION and store the printed losses."""
    trainer = train(data, small_cell(sgd(10), bulk(40)))
    losses = trainer.drain(0).series[BATCH_LOSS]
    found = [loss for loss in losses if loss is not None]
    golden = json.loads(GOLDEN.read_text())
    assert golden["numerics"] == NUMERICS_VERSION, f"store: {json.dumps(found)}"
    assert found == pytest.approx(golden["losses"], rel=GOLDEN_LOSSES), f"found: {json.dumps(found)}"


@pytest.mark.parametrize("switch", [1, 13, 20])
def test_a_fork_is_bitwise_the_unforked_run(data: Dataset, switch: int) -> None:
    """The trunk's state at the switch point, under the branch's name, goes on as the branch would have."""
    branch = small_cell(sgd(switch), bulk(40), probes=CURVATURE)
    trunk = train(data, small_cell(sgd(100), probes=CURVATURE), stop=switch)
    forked = Trainer([branch], data=data)
    forked.restore([dataclasses.replace(trunk.state(0), cell_id=forked.lanes[0].cell_id)])
    forked.advance(40)
    unforked = train(data, branch)
    assert torch.equal(forked.weights(0), unforked.weights(0))
    before, after, expected = trunk.drain(0), forked.drain(0), unforked.drain(0)
    assert before.steps + after.steps == expected.steps
    for name, values in expected.series.items():
        parts = [part.series.get(name, [None] * len(part)) for part in (before, after)]
        assert parts[0] + parts[1] == values, name


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_a_resumed_run_is_the_undisturbed_one_wherever_its_state_lies(data: Dataset, offset: int) -> None:
    """What has been read may begin anywhere in memory, and on a CPU bits depend on where a vector begins."""
    cell = small_cell(sgd(8), bulk(40), probes=CURVATURE, model=Choice.of("mlp", widths=(13,)))
    state, whole = train(data, cell, stop=13).state(0), train(data, cell)
    placed = {name: _beginning_at(offset, tensor) for name, tensor in state.tensors.items()}
    resumed = Trainer([cell], data=data)
    resumed.restore([dataclasses.replace(state, tensors=placed)])
    lane = resumed.lanes[0]
    taken = [lane.block_WC, lane.values_W, *lane.memory.values()]
    assert all(tensor is not None and tensor.data_ptr() % ALIGNMENT_BYTES == 0 for tensor in taken)
    resumed.advance(40)
    assert torch.equal(resumed.weights(0), whole.weights(0))


def _beginning_at(offset: int, tensor: Tensor) -> Tensor:
    room = torch.empty(tensor.numel() + offset, dtype=tensor.dtype)
    return room[offset:].view(tensor.shape).copy_(tensor)


def test_the_record_depends_on_nothing_outside_the_canonical_form(data: Dataset) -> None:
    """Without projection the cell's solver is no part of its identity, so a probe must not use it."""
    cells = [
        small_cell(sgd(20), probes=CURVATURE, solver=solver)
        for solver in (Solver(), Solver(guard=0, tolerance=0.5, max_products=1, max_cold_products=2))
    ]
    assert cell_id(cells[0]) == cell_id(cells[1])
    left, right = (train(data, cell).drain(0) for cell in cells)
    assert left.series == right.series


def test_weights_of_a_diverged_run_do_not_depend_on_when_anybody_looked(data: Dataset) -> None:
    cell = small_cell(sgd(200, lr=30.0), evaluate_every=100, divergence_every=100)
    whole = train(data, cell)
    outcome = whole.lanes[0].outcome
    assert outcome is not None and 1 < outcome.step < 60
    halted = Trainer([cell], data=data)
    for stop in range(1, 101):
        halted.advance(stop)
    assert halted.lanes[0].outcome == outcome
    left, right = whole.state(0).tensors["weights"], halted.state(0).tensors["weights"]
    assert torch.equal(left.view(torch.int32), right.view(torch.int32))


def test_more_directions_than_parameters_are_refused_at_the_start(data: Dataset) -> None:
    with pytest.raises(ConfigError, match="only 370 parameters"):
        Trainer([small_cell(bulk(20, k=371), model=LINEAR)], data=data)
    probe = dataclasses.replace(CURVATURE[0], options=(("holdout_size", 60), ("k", 371)))
    with pytest.raises(ConfigError, match="only 370 parameters"):
        Trainer([small_cell(sgd(20), model=LINEAR, probes=(probe,))], data=data)
