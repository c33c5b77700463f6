"""Curvature products of dense networks on tensor cores against the library's in float64."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.trainers.kernels.conftest import DEVICE, GPU
from tests.trainers.kernels.test_products import drawn, error
from tests.trainers.tolerances import HALVES, PRODUCTS_FLOAT32
from trainers import chain, kernels
from trainers.chain import ChainObjective
from trainers.kernels import products
from trainers.kernels.dense import TENSOR_CORES
from trainers.layers.recognition import chain_of
from trainers.losses import CrossEntropy, Loss, MeanSquaredError
from trainers.objective import Part

MSE, CROSS_ENTROPY = MeanSquaredError(0.5), CrossEntropy()

PROCESSORS, LANES = (None, 34) if GPU else (16, 4)
"""More tiles of the largest results than multiprocessors, cut alike; fewer where they are interpreted."""


@pytest.mark.parametrize(
    "activation, loss, part, chunks, bias",
    [
        (nn.ReLU, MSE, "hessian", 1, True),
        (nn.Tanh, CROSS_ENTROPY, "hessian", 3, True),
        (nn.Tanh, MSE, "gauss_newton", 1, False),
        (nn.ReLU, CROSS_ENTROPY, "gauss_newton", 3, True),
        (nn.Tanh, CROSS_ENTROPY, "functional", 1, True),
        (nn.ReLU, MSE, "functional", 3, False),
    ],
)
def test_products_are_those_of_the_library(
    activation: Any, loss: Loss, part: Part, chunks: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(30, 12, bias), activation(), nn.Linear(12, 8, bias), activation(), nn.Linear(8, 5)]
    objective = ChainObjective(chain_of(nn.Sequential(nn.Flatten(), *layers), (30,)) or (), loss)
    params, examples = 0.5 * drawn(2, objective.num_params), drawn(40, 30)
    examples[:, ::3] = 0
    labels = torch.arange(80, device=DEVICE).view(2, 40) * 7 % 5
    targets = nn.functional.one_hot(labels, 5).float()
    if chunks > 1:
        monkeypatch.setattr(chain, "TANGENT_BYTES", {DEVICE: 20_000})
    for reduced in (False, True):
        given = objective.coordinates(examples) if reduced else None
        wide = objective.coordinates(examples.double()) if reduced else None
        size = objective.num_params if given is None else given.size
        block = drawn(2, 4, size)
        at = params, examples.expand(2, -1, -1), targets
        monkeypatch.setattr(kernels, "serve", lambda tensor: False)
        exact = objective.curvature(*(item.double() for item in at), part=part, coordinates=wide)(
            block.double()
        )
        monkeypatch.setattr(kernels, "serve", lambda tensor: tensor.dtype == torch.float32)
        found = objective.curvature(*at, part=part, coordinates=given)(block)
        assert error(found, exact) < PRODUCTS_FLOAT32


@pytest.mark.parametrize("lanes", [1, LANES])
@pytest.mark.parametrize("sizes, bias", [((50, 30, 70), False), ((9, 20, 10), True), ((70, 130, 65), True)])
def test_outputs_and_gradients(
    lanes: int, sizes: tuple[int, int, int], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few lanes the library's, of many a program's."""
    if PROCESSORS is not None:
        monkeypatch.setattr(products, "processors", lambda device: PROCESSORS)
    batch, inputs, outputs = sizes
    room = drawn(lanes, outputs * (inputs + 1) + 5)
    weight = room[:, : outputs * inputs].unflatten(1, (outputs, inputs))
    biases = room[:, outputs * inputs : outputs * (inputs + 1)] if bias else None
    examples, grad = drawn(lanes, batch, inputs), drawn(lanes, batch, outputs, seed=1)
    exact = examples.double() @ weight.double().mT
    if biases is not None:
        exact += biases.double().unsqueeze(1)
    assert error(TENSOR_CORES.outputs(examples, weight, biases), exact) < HALVES
    shared = TENSOR_CORES.outputs(examples[:1].expand_as(examples), weight, biases)
    assert error(shared[0], exact[0]) < HALVES
    into = drawn(lanes, outputs * inputs + 7, seed=2)
    behind = into[:, outputs * inputs :].clone()
    TENSOR_CORES.gradient(grad, examples, into[:, : outputs * inputs].unflatten(1, (outputs, inputs)))
    found = into[:, : outputs * inputs].view(lanes, outputs, inputs)
    assert error(found, grad.double().mT @ examples.double()) < HALVES
    assert torch.equal(into[:, outputs * inputs :], behind)
