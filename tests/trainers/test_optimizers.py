"""Base optimisers against torch.optim and loops by hand; their state, lanes, resumes and forks."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainers.loop_reference import Reference
from tests.trainers.small_cells import made_data, small_cell
from tests.trainers.tolerances import PROJECTED_TRAJECTORY_FLOAT64, SUMS_FLOAT64, TRAJECTORY
from trainers.canonical import cell_id, stages
from trainers.cell import Cell, Phase, Solver
from trainers.data import Dataset
from trainers.errors import ConfigError
from trainers.optimizers import OPTIMIZERS
from trainers.options import Choice
from trainers.training import Trainer

TINY = Choice.of("mlp", widths=(5,), activation="tanh")
LINEAR = Choice.of("mlp", widths=())
EXACT = Solver(tolerance=1e-9, max_products=60, max_cold_products=200)
INF = math.inf


@pytest.fixture(scope="module")
def data() -> Dataset:
    return made_data()


@pytest.fixture(scope="module")
def data64() -> Dataset:
    return made_data(torch.float64)


def phase(
    until: int, optimizer: str, lr: float = 0.02, *, options: dict[str, object] | None = None, **fields: Any
) -> Phase:
    return Phase(until=until, lr=lr, optimizer=Choice.of(optimizer, **(options or {})), **fields)


def trained(data: Dataset, *cells: Cell, stop: int | None = None) -> Trainer:
    trainer = Trainer(cells, data=data, dtype=data.train_inputs.dtype)
    trainer.advance(stop or max(cell.num_steps for cell in cells))
    return trainer


@pytest.mark.parametrize(
    ("optimizer", "options", "build"),
    [
        ("sgd", {}, lambda p: torch.optim.SGD(p, lr=0.02)),
        ("gd", {}, lambda p: torch.optim.SGD(p, lr=0.02)),
        ("momentum", {"beta": 0.8}, lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.8)),
        ("momentum", {"full_batch": True}, lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)),
        ("adam", {}, lambda p: torch.optim.Adam(p, lr=0.02)),
        ("adam", {"beta1": 0.0, "eps": 1e-3}, lambda p: torch.optim.Adam(p, 0.02, (0.0, 0.999), 1e-3)),
        ("adam", {"full_batch": True}, lambda p: torch.optim.Adam(p, lr=0.02)),
    ],
)
def test_equal_rates_are_the_optimizers_of_torch(
    data64: Dataset,
    optimizer: str,
    options: dict[str, object],
    build: Callable[[list[Tensor]], torch.optim.Optimizer],
) -> None:
    cell = small_cell(phase(30, optimizer, 0.04, options=options, alpha_dom=2, beta_bulk=2), model=TINY)
    reference = Reference(cell, data64)
    parameter = torch.nn.Parameter(reference.params.clone())
    torch_optimizer = build([parameter])
    full = optimizer == "gd" or bool(options.get("full_batch"))
    for step in range(30):
        reference.params = parameter.detach()
        parameter.grad = reference.gradient(None if full else step)
        torch_optimizer.step()
    found = trained(data64, cell).weights(0)
    torch.testing.assert_close(found, parameter.detach(), **SUMS_FLOAT64)


@pytest.mark.parametrize("full_batch", [False, True])
def test_sam_takes_the_gradient_at_the_perturbed_weights(data64: Dataset, full_batch: bool) -> None:
    cell = small_cell(phase(20, "sam", options={"rho": 0.3, "full_batch": full_batch}), model=TINY)
    reference = Reference(cell, data64)
    for step in range(20):
        which = None if full_batch else step
        here, gradient = reference.params, reference.gradient(which)
        reference.params = here + 0.3 * gradient / gradient.norm()
        reference.params = here - 0.02 * reference.gradient(which)
    torch.testing.assert_close(trained(data64, cell).weights(0), reference.params, **SUMS_FLOAT64)


def adam_direction(gradient: Tensor, state: dict[str, Tensor], step: int) -> Tensor:
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * gradient
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * gradient**2
    return state["m"] / (1 - 0.9**step) / ((state["v"] / (1 - 0.999**step)).sqrt() + 1e-8)


def velocity(gradient: Tensor, state: dict[str, Tensor], step: int) -> Tensor:
    state["v"] = 0.9 * state.get("v", 0) + gradient
    return state["v"]


@pytest.mark.parametrize(("alpha_dom", "beta_bulk"), [(INF, 1.0), (1.0, INF), (2.0, 0.5), (0.5, 2.0)])
@pytest.mark.parametrize("project", ["update", "gradient"])
@pytest.mark.parametrize(("optimizer", "direction"), [("momentum", velocity), ("adam", adam_direction)])
def test_what_is_projected(
    data64: Dataset,
    optimizer: str,
    direction: Callable[[Tensor, dict[str, Tensor], int], Tensor],
    project: str,
    alpha_dom: float,
    beta_bulk: float,
) -> None:
    rates = {"alpha_dom": alpha_dom, "beta_bulk": beta_bulk, "k": 3}
    cell = small_cell(
        phase(9, optimizer, options={"project": project}, **rates),
        model=TINY,
        refresh_every=3,
        solver=EXACT,
    )
    reference = Reference(cell, data64)
    projector, state = torch.zeros(0), {}
    dom_rate, bulk_rate = 0.02 / alpha_dom, 0.02 / beta_bulk
    for step in range(9):
        if step % 3 == 0:
            projector = reference.projector(3)
        gradient = reference.gradient(step)
        if project == "update":
            d = direction(gradient, state, step + 1)
            move = dom_rate * projector @ d + bulk_rate * (d - projector @ d)
        else:
            rate = max(dom_rate, bulk_rate)
            top = projector @ gradient
            move = rate * direction((dom_rate * top + bulk_rate * (gradient - top)) / rate, state, step + 1)
        reference.params = reference.params - move
    torch.testing.assert_close(
        trained(data64, cell).weights(0), reference.params, **PROJECTED_TRAJECTORY_FLOAT64
    )


def test_a_newton_step_removes_the_dominant_gradient_of_a_quadratic(data64: Dataset) -> None:
    """GRD18 eq. 11: for a quadratic, g_top is 0 after one step of rate 1, and the Bulk has not moved.

    Each eigenvalue of ten linear outputs occurs ten times, so only multiples of ten are subspaces.
    """
    cell = small_cell(
        phase(1, "newton", 1.0, options={"full_batch": True}, k=10),
        model=LINEAR,
        holdout_size=None,
        solver=EXACT,
    )
    reference = Reference(cell, data64)
    before, projector, gradient = reference.params, reference.projector(10), reference.gradient(None)
    reference.params = trained(data64, cell).weights(0)
    moved = reference.params - before
    torch.testing.assert_close(projector @ moved, moved, **PROJECTED_TRAJECTORY_FLOAT64)
    after = reference.gradient(None)
    assert (projector @ after).norm() < 1e-6 * (projector @ gradient).norm()
    bulk_before, bulk_after = gradient - projector @ gradient, after - projector @ after
    torch.testing.assert_close(bulk_after, bulk_before, **PROJECTED_TRAJECTORY_FLOAT64)


def test_newton_has_one_rate_and_always_needs_the_subspace() -> None:
    plain = small_cell(phase(9, "newton", 1.0))
    assert stages(plain)[0].k == 10
    assert cell_id(plain) == cell_id(small_cell(phase(9, "newton", 1.0, beta_bulk=7.0)))
    with pytest.raises(ConfigError, match="nothing would train"):
        cell_id(small_cell(phase(9, "newton", 1.0, alpha_dom=INF)))


SCHEDULES = {
    "gd": (phase(8, "gd"), phase(20, "gd", alpha_dom=INF, k=3)),
    "sam": (phase(8, "sam"), phase(20, "sam", beta_bulk=INF, k=3)),
    "momentum": (phase(8, "momentum"), phase(20, "momentum", alpha_dom=INF, k=3)),
    "momentum, fresh": (phase(8, "momentum"), phase(20, "momentum", alpha_dom=INF, k=3, carry=False)),
    "adam": (phase(8, "adam"), phase(20, "adam", alpha_dom=INF, k=3)),
    "adam on gradients": (
        phase(8, "adam"),
        phase(20, "adam", options={"project": "gradient"}, beta_bulk=9, k=3),
    ),
    "newton": (phase(8, "adam"), phase(20, "newton", 0.3, k=3)),
    "sgd, then adam": (phase(8, "sgd"), phase(20, "adam")),
    "adam, then momentum": (phase(8, "adam"), phase(20, "momentum")),
}


@pytest.mark.parametrize("stop", [1, 7, 8, 9, 13, 19])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_run_is_bitwise_the_same(data: Dataset, name: str, stop: int) -> None:
    cell = small_cell(*SCHEDULES[name])
    whole = trained(data, cell)
    first = trained(data, cell, stop=stop)
    second = Trainer([cell], data=data)
    second.restore([first.state(0)])
    second.advance(20)
    left, right = second.state(0).tensors, whole.state(0).tensors
    assert left.keys() == right.keys()
    for key in left:
        assert torch.equal(left[key], right[key]), key


def test_lanes_do_not_depend_on_their_neighbours(data64: Dataset) -> None:
    cells = [small_cell(*phases, seed=index) for index, phases in enumerate(SCHEDULES.values())]
    together = trained(data64, *cells)
    for index, cell in enumerate(cells):
        alone = trained(data64, cell)
        torch.testing.assert_close(
            together.weights(index), alone.weights(0), rtol=0, atol=TRAJECTORY[torch.float64]
        )


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_fork_is_bitwise_the_unforked_run(data: Dataset, name: str) -> None:
    first, second = SCHEDULES[name]
    trunk = trained(data, small_cell(dataclasses.replace(first, until=40)), stop=8)
    forked = Trainer([small_cell(first, second)], data=data)
    forked.restore([dataclasses.replace(trunk.state(0), cell_id=forked.lanes[0].cell_id)])
    forked.advance(20)
    assert torch.equal(forked.weights(0), trained(data, small_cell(first, second)).weights(0))


def test_carry_is_whether_the_velocity_survives_the_switch(data64: Dataset) -> None:
    found = {}
    for carry in (True, False):
        cell = small_cell(phase(8, "momentum"), phase(12, "momentum", 0.01, carry=carry), model=TINY)
        reference = Reference(cell, data64)
        speed = torch.zeros_like(reference.params)
        for step in range(12):
            speed = 0.9 * speed * (carry or step != 8) + reference.gradient(step)
            reference.params = reference.params - (0.02 if step < 8 else 0.01) * speed
        found[carry] = trained(data64, cell).weights(0)
        torch.testing.assert_close(found[carry], reference.params, **SUMS_FLOAT64)
    assert not torch.allclose(found[True], found[False], rtol=1e-3)


def test_canonical_forms_of_optimizers() -> None:
    def same(*phases: tuple[Phase, ...]) -> bool:
        return len({cell_id(small_cell(*each)) for each in phases}) == 1

    momentum, adam = phase(9, "momentum"), phase(9, "adam")
    assert same((adam,), (phase(9, "adam", options={"beta1": 0.9}),))
    assert not same((adam,), (phase(9, "adam", options={"beta1": 0.0}),))
    assert not same((momentum,), (phase(9, "momentum", options={"full_batch": True}),))
    # What is projected matters only where something is.
    assert same((momentum,), (phase(9, "momentum", options={"project": "gradient"}),))
    assert not same(
        (phase(9, "momentum", alpha_dom=INF),),
        (phase(9, "momentum", options={"project": "gradient"}, alpha_dom=INF),),
    )
    # A phase cut in two is the same phase, unless its velocity is dropped in between.
    assert same((momentum,), (phase(4, "momentum"), momentum))
    assert not same((momentum,), (phase(4, "momentum"), phase(9, "momentum", carry=False)))
    # Nothing to carry: sgd has no state, and another optimiser's is no use.
    assert same((phase(9, "sgd"),), (phase(4, "sgd"), phase(9, "sgd", carry=False)))
    assert same((phase(4, "adam"), momentum), (phase(4, "adam"), phase(9, "momentum", carry=False)))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'beta1'"):
        cell_id(small_cell(phase(9, "adam", options={"beta11": 0.9})))
    with pytest.raises(ConfigError, match="must be below 1"):
        cell_id(small_cell(phase(9, "momentum", options={"beta": 1.0})))


def test_every_optimizer_is_in_a_schedule_of_these_tests() -> None:
    used = {each.optimizer.name for phases in SCHEDULES.values() for each in phases}
    assert used == set(OPTIMIZERS)
