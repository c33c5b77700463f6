"""Every loss of the table against PyTorch's own, and its closed derivatives against automatic ones."""

import pytest
import torch
from torch import Tensor

from tests.trainers.tolerances import SUMS_FLOAT64
from trainers.errors import ConfigError
from trainers.losses import LOSSES, Loss
from trainers.options import Choice

LANES, BATCH, OUTPUTS, DIRECTIONS = 2, 6, 4, 3


def variants() -> list[Choice]:
    return [
        Choice("mse"),
        Choice.of("mse", scale="sum"),
        *(Choice(name) for name in LOSSES if name != "mse"),
    ]


def build(choice: Choice) -> Loss:
    entry = LOSSES[choice.name]
    return entry.build(choice.resolve("loss", entry.options))


@pytest.fixture
def outputs() -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return 2 * torch.randn(LANES, BATCH, OUTPUTS, generator=draw, dtype=torch.float64)


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(0, OUTPUTS, (LANES, BATCH), generator=torch.Generator().manual_seed(1))


def one_hot(labels: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(labels, OUTPUTS).double()


def test_values_are_those_of_the_papers_conventions(outputs: Tensor, labels: Tensor) -> None:
    squares = torch.nn.functional.mse_loss(outputs, one_hot(labels), reduction="none").sum((1, 2)) / BATCH
    cross = torch.nn.functional.cross_entropy(outputs.flatten(0, 1), labels.flatten(), reduction="none")
    expected = {
        Choice("mse"): squares / 2,
        Choice.of("mse", scale="sum"): squares,
        Choice("cross_entropy"): cross.view(LANES, BATCH).mean(1),
        Choice("output"): outputs.sum((1, 2)) / BATCH,
    }
    assert set(expected) == set(variants()), "a loss without a reference"
    for choice, values in expected.items():
        torch.testing.assert_close(build(choice).value(outputs, one_hot(labels)), values, **SUMS_FLOAT64)


@pytest.mark.parametrize("choice", variants(), ids=str)
def test_derivatives_are_the_automatic_ones(choice: Choice, outputs: Tensor, labels: Tensor) -> None:
    loss, targets = build(choice), one_hot(labels)

    def total(values: Tensor) -> Tensor:
        return loss.value(values, targets).sum()

    torch.testing.assert_close(
        loss.gradient(outputs, targets), torch.func.grad(total)(outputs), **SUMS_FLOAT64
    )
    draw = torch.Generator().manual_seed(2)
    tangents = torch.randn(LANES, DIRECTIONS, BATCH, OUTPUTS, generator=draw, dtype=torch.float64)
    products = loss.output_hessian(outputs, tangents)
    for direction in range(DIRECTIONS):
        expected = torch.func.jvp(torch.func.grad(total), (outputs,), (tangents[:, direction],))[1]
        torch.testing.assert_close(products[:, direction], expected, **SUMS_FLOAT64)


def test_cross_entropy_of_large_outputs_stays_finite() -> None:
    far = torch.tensor([[[1e4, -1e4, 0.0, 0.0]]], dtype=torch.float32)
    targets = torch.tensor([[[0.0, 1.0, 0.0, 0.0]]])
    loss = build(Choice("cross_entropy"))
    assert float(loss.value(far, targets)) == pytest.approx(2e4)
    assert loss.gradient(far, targets).isfinite().all()
    assert loss.output_hessian(far, far.unsqueeze(1)).isfinite().all()


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="half_sum"):
        build(Choice.of("mse", scale="mean"))
