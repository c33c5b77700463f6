"""Losses, gradients and curvature products against dense float64 references."""

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.dense_reference import MODULES, Problem, build_problem
from tests.trainers.models_small import build_model
from tests.trainers.tolerances import FINITE_DIFFERENCES_FLOAT64, SUMS_FLOAT64
from trainers import chain
from trainers.chain import ChainObjective
from trainers.functional import FunctionalObjective
from trainers.layers.recognition import chain_of
from trainers.objective import Objective, Part, build_objective
from trainers.options import Choice

EXACT = SUMS_FLOAT64


def objectives(problem: Problem) -> list[Objective]:
    layers = chain_of(problem.module, problem.input_shape)
    assert layers is not None
    return [ChainObjective(layers, problem.loss), FunctionalObjective(problem.module, problem.loss)]


def directions(problem: Problem, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    lanes, size = problem.params_NP.shape
    return torch.randn(lanes, count, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("module", MODULES)
def test_matches_dense_reference(module: str, loss: str) -> None:
    problem = build_problem(module, loss)
    block = directions(problem, 4)
    for objective in objectives(problem):
        values, gradients = objective.loss_and_gradient(
            problem.params_NP, problem.inputs_NBX, problem.targets_NBC
        )
        products = objective.curvature(problem.params_NP, problem.inputs_NBX, problem.targets_NBC)(block)
        for lane in range(2):
            torch.testing.assert_close(
                values[lane], problem.mean_loss(problem.params_NP[lane], lane), **EXACT
            )
            torch.testing.assert_close(gradients[lane], problem.gradient(lane), **EXACT)
            torch.testing.assert_close(products[lane], block[lane] @ problem.hessian(lane), **EXACT)


@pytest.mark.parametrize("module", ["mlp-tanh", "cnn-tanh"])
def test_matches_finite_differences_of_the_gradient(module: str) -> None:
    problem = build_problem(module, "cross_entropy")
    objective = build_objective(problem.module, problem.loss, problem.input_shape)
    block = directions(problem, 2)
    product = objective.curvature(problem.params_NP, problem.inputs_NBX, problem.targets_NBC)(block)
    step = 1e-6

    def gradient(params: Tensor) -> Tensor:
        return objective.loss_and_gradient(params, problem.inputs_NBX, problem.targets_NBC)[1]

    for column in range(2):
        shift = step * block[:, column]
        difference = (gradient(problem.params_NP + shift) - gradient(problem.params_NP - shift)) / (2 * step)
        torch.testing.assert_close(product[:, column], difference, **FINITE_DIFFERENCES_FLOAT64)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("module", ["mlp-tanh", "cnn-tanh", "cnn-relu"])
def test_gauss_newton_is_the_outer_product_of_the_jacobian(module: str, loss: str) -> None:
    problem = build_problem(module, loss)
    block = directions(problem, 3)
    for objective in objectives(problem):
        products = objective.curvature(
            problem.params_NP, problem.inputs_NBX, problem.targets_NBC, part="gauss_newton"
        )(block)
        for lane in range(2):

            def mean_loss(values: Tensor, lane: int = lane) -> Tensor:
                return problem.loss.value(values[None], problem.targets_NBC[lane][None])[0]

            params = problem.params_NP[lane]
            values = objective.outputs(params[None], problem.inputs_NBX[lane][None])[0]
            reference = FunctionalObjective(problem.module, problem.loss)

            def call(params: Tensor, lane: int = lane, reference: FunctionalObjective = reference) -> Tensor:
                return reference._call(params, problem.inputs_NBX[lane])

            jacobian = torch.func.jacrev(call)(params)
            middle = torch.func.hessian(mean_loss)(values)
            dense = torch.einsum("bcp,bcde,deq->pq", jacobian, middle, jacobian)
            torch.testing.assert_close(products[lane], block[lane] @ dense, **EXACT)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("module", MODULES)
def test_the_functional_product_is_the_hessian_less_gauss_newton(module: str, loss: str) -> None:
    problem = build_problem(module, loss)
    block = directions(problem, 3)
    for objective in objectives(problem):

        def product(part: Part, objective: Objective = objective) -> Tensor:
            at = (problem.params_NP, problem.inputs_NBX, problem.targets_NBC)
            return objective.curvature(*at, part=part)(block)

        difference = product("hessian") - product("gauss_newton")
        torch.testing.assert_close(product("functional"), difference, **EXACT)
        if module == "mlp-tanh":
            assert difference.norm() > 0.01 * product("hessian").norm()


@pytest.mark.parametrize("module", ["mlp-relu", "cnn-tanh"])
@pytest.mark.parametrize("saved_bytes", [0, 2**30])
@pytest.mark.parametrize("part", ["hessian", "gauss_newton", "functional"])
def test_chunks_of_examples_and_of_directions_add_up(
    module: str, saved_bytes: int, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = build_problem(module, "mse")
    at = (problem.params_NP, problem.inputs_NBX, problem.targets_NBC)
    whole = objectives(problem)[0]
    block = directions(problem, 3)
    expected = whole.curvature(*at, part=part)(block)
    monkeypatch.setitem(chain.TANGENT_BYTES, "cpu", 1)
    monkeypatch.setitem(chain.DIRECTIONS, "cpu", 2)
    monkeypatch.setattr(chain, "SAVED_BYTES", saved_bytes)
    product = objectives(problem)[0].curvature(*at, part=part)
    for _ in range(2):
        torch.testing.assert_close(product(block), expected, **EXACT)


def test_what_an_example_takes_does_not_depend_on_what_memory_is_free() -> None:
    choice, shape = Choice.of("vgg11", width=4), (1, 16, 16)
    module = build_model(choice, shape, 3)
    layers = chain_of(module, shape)
    assert layers is not None
    weights = torch.zeros(1, sum(parameter.numel() for parameter in module.parameters()))
    found: set[int] = set()
    for size in range(1, 4000, 100):
        between = torch.zeros(size)
        found.add(chain.example_sizes(layers, weights, torch.zeros(1, 1, *shape)).kept_bytes)
        del between
    assert len(found) == 1


def test_product_keeps_its_point_when_parameters_move_on() -> None:
    problem = build_problem("mlp-tanh", "mse")
    params = problem.params_NP.clone()
    for objective in objectives(problem):
        block = directions(problem, 2)
        product = objective.curvature(params, problem.inputs_NBX, problem.targets_NBC)
        before = product(block)
        params.add_(1.0)
        torch.testing.assert_close(product(block), before, rtol=0, atol=0)
        params.copy_(problem.params_NP)


def test_a_module_outside_the_known_layers_runs_through_functional_calls() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 6)
            self.last = nn.Linear(6, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.last(inputs + torch.tanh(self.first(inputs)))

    problem = build_problem("mlp-tanh", "mse")
    module = Residual().double()
    objective = build_objective(module, problem.loss, (6,))
    assert isinstance(objective, FunctionalObjective)
    assert isinstance(build_objective(problem.module, problem.loss, problem.input_shape), ChainObjective)
    size = objective.num_params
    assert size == 6 * 6 + 6 + 6 * 3 + 3
