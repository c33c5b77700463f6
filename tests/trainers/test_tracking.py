"""The tracked Dominant subspace along real trajectories on MNIST-5k, against float64 ARPACK."""

import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse.linalg as sparse
import torch
from torch import Tensor

from tests.trainers.small_cells import bulk, made_data, small_cell
from tests.trainers.tolerances import TRACKED_MEDIAN, TRACKED_P90, WHOLE_SPACE_FLOAT64
from trainers.cell import Cell, Phase
from trainers.data import DATASETS, Dataset
from trainers.losses import LOSSES
from trainers.models import MODELS
from trainers.objective import build_objective
from trainers.options import Choice
from trainers.randomness import epoch_order, holdout_indices
from trainers.training import Trainer

K, HOLDOUT, PERIOD, BATCH = 10, 500, 10, 50
CHECKED_EVERY, STEPS = 40, 240

ALMOST_SGD = 1.0 + 1e-9
"""Divides the Dominant rate: tracks the eigenspace along what is SGD to nine digits."""


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return DATASETS["mnist-5k"].load(Path("unused"), {"normalize": "scale"})


def exact_basis(mnist: Dataset, weights: Tensor) -> Tensor:
    """The leading eigenvectors (K, P) of the holdout's Hessian, by ARPACK in float64."""
    module = MODELS["mlp"].build((1, 28, 28), 10, {"widths": (100, 100), "activation": "relu"}).double()
    objective = build_objective(module, LOSSES["mse"].build({"scale": "half_sum"}), (1, 28, 28))
    chosen = holdout_indices(0, HOLDOUT, 5000)
    targets = torch.nn.functional.one_hot(mnist.train_labels[chosen], 10).double()
    product = objective.curvature(
        weights.double().unsqueeze(0), mnist.train_inputs[chosen].double().unsqueeze(0), targets.unsqueeze(0)
    )

    def multiply(vector: np.ndarray) -> np.ndarray:
        return product(torch.from_numpy(np.array(vector, dtype=np.float64)).view(1, 1, -1)).view(-1).numpy()

    size = len(weights)
    operator = sparse.LinearOperator((size, size), matvec=multiply, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    vectors = sparse.eigsh(operator, k=K, which="LA", tol=1e-6, v0=start)[1]
    return torch.from_numpy(vectors.copy()).T


def batch_gradient(mnist: Dataset, weights: Tensor, step: int) -> Tensor:
    """The minibatch gradient of the step by plain autograd, float64."""
    module = MODELS["mlp"].build((1, 28, 28), 10, {"widths": (100, 100), "activation": "relu"}).double()
    torch.nn.utils.vector_to_parameters(weights.double(), module.parameters())
    epoch, number = divmod(step, 5000 // BATCH)
    batch = epoch_order(0, epoch, 5000)[number * BATCH : (number + 1) * BATCH]
    targets = torch.nn.functional.one_hot(mnist.train_labels[batch], 10).double()
    outputs = module(mnist.train_inputs[batch].double())
    gradient = torch.autograd.grad(0.5 * (outputs - targets).square().sum() / BATCH, [*module.parameters()])
    return torch.cat([part.reshape(-1) for part in gradient])


@pytest.mark.parametrize(
    "phase",
    [
        lambda until: Phase(lr=0.05, alpha_dom=ALMOST_SGD, k=K, until=until),
        lambda until: Phase(lr=0.05, alpha_dom=float("inf"), k=K, until=until),
    ],
    ids=["sgd", "bulk"],
)
def test_the_projected_gradient_is_that_of_arpack(mnist: Dataset, phase: Callable[[int], Phase]) -> None:
    cell = Cell(
        model=Choice("mlp"),
        dataset=Choice("mnist-5k"),
        phases=(phase(STEPS + 1),),
        holdout_size=HOLDOUT,
        refresh_every=PERIOD,
    )
    trainer = Trainer([cell], data=mnist)
    lane, errors = trainer.lanes[0], []
    for step in range(0, STEPS, CHECKED_EVERY):
        trainer.advance(step)
        before, gradient = trainer.weights(0).clone(), batch_gradient(mnist, trainer.weights(0), step)
        trainer.advance(step + 1)
        assert lane.block_WC is not None and lane.refreshes == step // PERIOD + 1
        basis, exact = trainer.dominant_basis(0).double(), exact_basis(mnist, before)
        wanted = exact.T @ (exact @ gradient)
        errors.append(float((basis.T @ (basis @ gradient) - wanted).norm() / wanted.norm()))
    assert len(errors) == STEPS // CHECKED_EVERY
    assert statistics.median(errors) <= TRACKED_MEDIAN, errors
    assert np.quantile(errors, 0.9) <= TRACKED_P90, errors
    assert max(errors) > 1e-12, "compared with itself"


def test_null_directions_outside_the_coordinates_come_before_negative_curvature() -> None:
    """One example has 22 coordinates of 57 parameters; of the 22 eigenvalues in them, some are negative."""
    data = made_data(torch.float64)
    model = Choice.of("mlp", widths=(1,), activation="tanh")
    cell = small_cell(bulk(6, k=22), model=model, holdout_size=1)
    trainer, fresh = (Trainer([cell], data=data, dtype=torch.float64) for _ in range(2))
    trainer.advance(1)
    module = MODELS["mlp"].build((1, 6, 6), 10, {"widths": (1,), "activation": "tanh"}).double()
    sizes = {name: parameter.shape for name, parameter in module.named_parameters()}
    chosen = holdout_indices(0, 1, len(data.train_inputs))
    targets = torch.nn.functional.one_hot(data.train_labels[chosen], 10).double()

    def loss(params: Tensor) -> Tensor:
        parts = params.split([shape.numel() for shape in sizes.values()])
        named = {name: part.view(sizes[name]) for name, part in zip(sizes, parts, strict=True)}
        outputs = torch.func.functional_call(module, named, (data.train_inputs[chosen],))
        return 0.5 * (outputs - targets).square().sum()

    values, vectors = torch.linalg.eigh(torch.func.hessian(loss)(fresh.weights(0)))
    assert fresh.num_params == 57 and values[0] < -1e-3 < 1e-3 < values[-1]
    basis = trainer.dominant_basis(0)
    leading, negative = vectors[:, values > 1e-6].T, vectors[:, values < -1e-6].T
    torch.testing.assert_close(basis.T @ (basis @ leading.T), leading.T, rtol=0, atol=WHOLE_SPACE_FLOAT64)
    torch.testing.assert_close(
        basis @ negative.T, torch.zeros(len(basis), len(negative)).double(), rtol=0, atol=WHOLE_SPACE_FLOAT64
    )
