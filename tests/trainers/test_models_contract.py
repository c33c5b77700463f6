"""What every model must do just by being in the table: lanes, derivatives of both orders, pieces."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from tests.trainers.models_small import (
    SMALL,
    USER_FILE,
    YOURS,
    build_model,
    case_names,
    small_choice,
    small_inputs,
)
from tests.trainers.tolerances import DEEP_SUMS_FLOAT64, FINITE_DIFFERENCES_FLOAT64, SUMS_FLOAT64
from trainers import functional
from trainers.functional import FunctionalObjective
from trainers.losses import LOSSES, Loss
from trainers.models import MODELS
from trainers.models.normalization import normalizes_over_examples
from trainers.objective import Objective, build_objective, initial_parameters

LANES, BATCH, DIRECTIONS = 2, 6, 3

WITH_KINKS = {"vgg11", "resnet8", "resnet18", "convnet"}
"""ReLU has kinks within a finite step; these are held against reverse mode twice only."""


class Case:
    """A small model of the table in float64 with data for two lanes."""

    def __init__(self, name: str, folder: Path) -> None:
        self.choice, shape = small_choice(name, folder)
        self.num_outputs = 1 if name == "quadratic" else 3
        self.module = self.fresh(shape).double()
        draw = torch.Generator().manual_seed(3)
        self.inputs = small_inputs(name, LANES, BATCH, *shape, draw=draw)
        labels = torch.randint(0, self.num_outputs, (LANES, BATCH), generator=draw)
        self.targets = nn.functional.one_hot(labels, self.num_outputs).double()
        self.params = torch.stack(
            [
                initial_parameters(lambda: self.fresh(shape), init="pytorch", seed=lane)
                for lane in range(LANES)
            ]
        ).double()
        self.block = torch.randn(LANES, DIRECTIONS, self.params.shape[1], generator=draw, dtype=torch.float64)

    def fresh(self, shape: tuple[int, ...]) -> nn.Module:
        return build_model(self.choice, shape, self.num_outputs)

    def losses(self) -> list[Loss]:
        if self.choice.name == "quadratic":
            return [LOSSES["output"].build({})]
        return [LOSSES["mse"].build({"scale": "half_sum"}), LOSSES["cross_entropy"].build({})]

    def plain(self, loss: Loss, lane: int, params: Tensor) -> Tensor:
        """The loss by the module itself."""
        named, offset = {}, 0
        for name, parameter in self.module.named_parameters():
            named[name] = params[offset : offset + parameter.numel()].view(parameter.shape)
            offset += parameter.numel()
        outputs = functional_call(self.module, named, (self.inputs[lane],))
        return loss.value(outputs[None], self.targets[lane][None])[0]

    def product(self, objective: Objective, part: functional.Part) -> Tensor:
        return objective.curvature(self.params, self.inputs, self.targets, part=part)(self.block)


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(request.param, tmp_path)


def test_the_table_is_covered() -> None:
    assert set(SMALL) == set(MODELS)


def test_a_model_of_ones_own_takes_the_place_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(USER_FILE)
    monkeypatch.setitem(YOURS, "your own", ({"path": str(path)}, (5,)))
    assert case_names() == ["your own"]
    own = Case("your own", tmp_path)
    assert type(own.module).__name__ == "Gated"
    assert own.inputs.shape == (LANES, BATCH, 5)


def test_losses_and_gradients_are_those_of_autograd(case: Case) -> None:
    for loss in case.losses():
        objective = build_objective(case.module, loss, case.inputs.shape[2:])
        assert objective.num_params == case.params.shape[1]
        found, gradient = objective.loss_and_gradient(case.params, case.inputs, case.targets)
        for lane in range(LANES):
            params = case.params[lane].clone().requires_grad_()
            value = case.plain(loss, lane, params)
            expected = torch.autograd.grad(value, params)[0]
            torch.testing.assert_close(found[lane], value.detach(), **SUMS_FLOAT64)
            torch.testing.assert_close(gradient[lane], expected, **SUMS_FLOAT64)


@pytest.mark.parametrize("name", sorted(set(MODELS) - WITH_KINKS))
def test_products_are_finite_differences_of_the_gradient(name: str, tmp_path: Path) -> None:
    case, step = Case(name, tmp_path), 1e-7
    for loss in case.losses():
        objective = build_objective(case.module, loss, case.inputs.shape[2:])
        found = case.product(objective, "hessian")
        for column in range(DIRECTIONS):
            shift = step * case.block[:, column]
            ahead, behind = (
                objective.loss_and_gradient(case.params + sign * shift, case.inputs, case.targets)[1]
                for sign in (1, -1)
            )
            difference = (ahead - behind) / (2 * step)
            torch.testing.assert_close(found[:, column], difference, **FINITE_DIFFERENCES_FLOAT64)


def test_products_are_those_of_reverse_mode_twice(case: Case) -> None:
    for loss in case.losses():
        found = case.product(build_objective(case.module, loss, case.inputs.shape[2:]), "hessian")
        for lane in range(LANES):
            params = case.params[lane].clone().requires_grad_()
            gradient = torch.autograd.grad(case.plain(loss, lane, params), params, create_graph=True)[0]
            for column in range(DIRECTIONS):
                inner = gradient @ case.block[lane, column]
                expected = torch.autograd.grad(inner, params, retain_graph=True)[0]
                torch.testing.assert_close(found[lane, column], expected, **DEEP_SUMS_FLOAT64)


def test_the_parts_of_the_hessian_add_up(case: Case) -> None:
    for loss in case.losses():
        objective = build_objective(case.module, loss, case.inputs.shape[2:])
        whole, outer, rest = (
            case.product(objective, part) for part in ("hessian", "gauss_newton", "functional")
        )
        torch.testing.assert_close(outer + rest, whole, **SUMS_FLOAT64)
        quadratic_form = (outer * case.block).sum(2)
        assert bool((quadratic_form > -SUMS_FLOAT64["atol"]).all()), "Gauss-Newton is not negative"


def test_initial_weights_follow_the_seed(case: Case) -> None:
    shape = tuple(case.inputs.shape[2:])
    again = initial_parameters(lambda: case.fresh(shape), init="pytorch", seed=0).double()
    assert torch.equal(again, case.params[0])
    assert torch.equal(case.params[0], case.params[1]) == (case.choice.name == "quadratic")


def test_a_pass_in_pieces_is_the_pass(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the memory budget; where examples are normalised together, pieces are fixed instead."""
    loss = case.losses()[0]
    monkeypatch.setattr(functional, "NORMALIZED_EXAMPLES", 4)
    found = []
    for budget in (1, 2**30):
        monkeypatch.setattr(functional, "PASS_BYTES", budget)
        objective = FunctionalObjective(case.module, loss)
        value, gradient = objective.loss_and_gradient(case.params, case.inputs, case.targets)
        outputs = objective.outputs(case.params, case.inputs)
        found.append((value, gradient, outputs, case.product(objective, "hessian")))
    # A product of few lanes at once is that of all up to rounding, which the deepest network amplifies.
    products = DEEP_SUMS_FLOAT64 if case.choice.name == "resnet18" else SUMS_FLOAT64
    allowed = SUMS_FLOAT64, SUMS_FLOAT64, SUMS_FLOAT64, products
    for small, large, tolerance in zip(*found, allowed, strict=True):
        torch.testing.assert_close(small, large, **tolerance)
    expected = torch.stack([case.plain(loss, lane, case.params[lane]) for lane in range(LANES)]).detach()
    whole = torch.allclose(found[0][0], expected, **SUMS_FLOAT64)
    assert whole != normalizes_over_examples(case.module)
