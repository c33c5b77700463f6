"""What is laned by hand is known for sure; everything else runs through `torch.func`, to the same numbers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from tests.trainers.dense_reference import MODULES, build_problem
from tests.trainers.tolerances import SUMS_FLOAT64
from trainers.chain import ChainObjective
from trainers.functional import FunctionalObjective
from trainers.layers.recognition import chain_of
from trainers.losses import LOSSES
from trainers.objective import build_objective

BATCH, OUTPUTS = 5, 3


class Doubled(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


class Skipping(nn.Sequential):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + super().forward(inputs)


def tied() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(6, OUTPUTS))


def changed(change: Callable[[nn.Sequential], object]) -> Callable[[], nn.Module]:
    """A plain network with something done to it."""

    def build() -> nn.Module:
        module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, OUTPUTS))
        change(module)
        return module

    return build


def bias_first(module: nn.Sequential) -> None:
    weight = module[0].weight
    del module[0].weight
    module[0].register_parameter("weight", weight)


def another_forward(module: nn.Sequential) -> None:
    module[1].forward = torch.sin


NOT_PLAIN: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "a subclass of a layer": (
        lambda: nn.Sequential(Doubled(6, 5), nn.Tanh(), nn.Linear(5, OUTPUTS)),
        (6,),
    ),
    "a subclass of the sequence": (lambda: Skipping(nn.Linear(OUTPUTS, OUTPUTS), nn.Tanh()), (OUTPUTS,)),
    "a layer twice": (tied, (6,)),
    "a forward hook": (
        changed(lambda module: module[1].register_forward_hook(lambda _, given, out: out + given[0])),
        (6,),
    ),
    "a hook before": (
        changed(lambda module: module[2].register_forward_pre_hook(lambda _, given: (given[0].square(),))),
        (6,),
    ),
    "a hook of the whole": (
        changed(lambda module: module.register_forward_hook(lambda _, given, out: 3 * out)),
        (6,),
    ),
    "another forward pass": (changed(another_forward), (6,)),
    "the bias before the weight": (changed(bias_first), (6,)),
    "spectral_norm": (changed(lambda module: nn.utils.spectral_norm(module[0])), (6,)),
    "spectral_norm, a parametrization": (
        changed(lambda module: parametrizations.spectral_norm(module[0])),
        (6,),
    ),
    "pruned": (changed(lambda module: prune.l1_unstructured(module[0], "weight", amount=0.5)), (6,)),
    "a dense layer on each row": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Flatten(), nn.Linear(15, OUTPUTS)),
        (3, 4),
    ),
    "a dense layer on rows of an image": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Linear(2, 2), nn.Flatten(), nn.Linear(8, OUTPUTS)
        ),
        (1, 4, 4),
    ),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_only_what_is_known_for_sure_is_laned_by_hand(name: str) -> None:
    build, shape = NOT_PLAIN[name]
    torch.manual_seed(0)
    module, loss = build().double().eval(), LOSSES["mse"].build({"scale": "half_sum"})
    objective = build_objective(module, loss, shape)
    assert isinstance(objective, FunctionalObjective)
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(BATCH, *shape, generator=draw, dtype=torch.float64)
    targets = torch.randn(BATCH, OUTPUTS, generator=draw, dtype=torch.float64)
    parameters = list(module.parameters())
    params = nn.utils.parameters_to_vector(parameters).detach()
    direction = torch.randn(len(params), generator=draw, dtype=torch.float64)

    value = 0.5 * (module(inputs) - targets).square().sum(-1).mean()
    gradient = flat(torch.autograd.grad(value, parameters, create_graph=True))
    product = flat(torch.autograd.grad(gradient @ direction, parameters))

    at = params[None], inputs[None], targets[None]
    found, found_gradient = objective.loss_and_gradient(*at)
    torch.testing.assert_close(found[0], value.detach(), **SUMS_FLOAT64)
    torch.testing.assert_close(found_gradient[0], gradient.detach(), **SUMS_FLOAT64)
    torch.testing.assert_close(objective.curvature(*at)(direction[None, None])[0, 0], product, **SUMS_FLOAT64)


def flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


@pytest.mark.parametrize("name", MODULES)
def test_what_is_known_is_laned_by_hand(name: str) -> None:
    problem = build_problem(name, "mse")
    assert isinstance(build_objective(problem.module, problem.loss, problem.input_shape), ChainObjective)


def test_the_inputs_decide_about_a_dense_layer_that_comes_first() -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, OUTPUTS))
    assert chain_of(module, (4,)) is not None
    assert chain_of(module, (3, 4)) is None
    assert chain_of(nn.Sequential(nn.Flatten(), *module), (2, 2)) is not None
