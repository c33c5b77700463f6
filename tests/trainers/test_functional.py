"""The objective of any module: how a pass is cut, and what layers may return."""

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.tolerances import SUMS_FLOAT64
from trainers import functional
from trainers.functional import FunctionalObjective
from trainers.losses import LOSSES
from trainers.memory import activation_elements

LANES, BATCH, OUTPUTS = 3, 20, 3


class Indexed(nn.Module):
    """Max pooling that returns where its maxima stand, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.last = nn.Linear(12, OUTPUTS)

    def forward(self, inputs: Tensor) -> Tensor:
        found, _ = self.pool(torch.tanh(self.first(inputs)))
        return self.last(found.flatten(1))


def objective(module: nn.Module) -> FunctionalObjective:
    return FunctionalObjective(module, LOSSES["mse"].build({"scale": "half_sum"}))


def problem(module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, inputs and targets of some lanes."""
    draw = torch.Generator().manual_seed(0)
    size = sum(parameter.numel() for parameter in module.parameters())
    parts = (LANES, size), (LANES, BATCH, *shape), (LANES, BATCH, OUTPUTS)
    params, inputs, targets = (torch.randn(*part, generator=draw).to(dtype) for part in parts)
    return 0.3 * params, inputs, targets


@pytest.mark.parametrize("examples_at_once", [1, 7, 1000])
def test_sums_of_a_lane_do_not_depend_on_its_neighbours(
    examples_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces are those of one lane, whatever goes through at once with it."""
    module = nn.Sequential(nn.Linear(6, 16), nn.SiLU(), nn.Linear(16, OUTPUTS))
    params, inputs, targets = problem(module, (6,), torch.float32)
    one_example = (2 * 16 + OUTPUTS) * 4 * functional.COPIES * functional.DIRECTIONS_AT_ONCE
    monkeypatch.setattr(functional, "PASS_BYTES", one_example * examples_at_once)
    made = objective(module)
    block = torch.randn(LANES, 4, params.shape[1], generator=torch.Generator().manual_seed(1))

    def found(lanes: slice) -> tuple[Tensor, ...]:
        at = params[lanes], inputs[lanes], targets[lanes]
        return (*made.loss_and_gradient(*at), made.curvature(*at)(block[lanes]), made.outputs(*at[:2]))

    together = found(slice(None))
    for lane in range(LANES):
        for one, other in zip(found(slice(lane, lane + 1)), together, strict=True):
            assert torch.equal(one[0], other[lane])


def test_layers_may_return_several_tensors() -> None:
    module, shape = Indexed().double(), (1, 6, 6)
    convolved, pooled = 3 * 4 * 4, 3 * 2 * 2
    assert activation_elements(module.float(), shape) == convolved + 2 * pooled + OUTPUTS
    made = objective(module.double())
    params, inputs, targets = problem(module, shape, torch.float64)
    value, gradient = made.loss_and_gradient(params, inputs, targets)
    for lane in range(LANES):
        nn.utils.vector_to_parameters(params[lane], module.parameters())
        loss = 0.5 * (module(inputs[lane]) - targets[lane]).square().sum() / BATCH
        expected = torch.cat(
            [part.flatten() for part in torch.autograd.grad(loss, list(module.parameters()))]
        )
        torch.testing.assert_close(value[lane], loss.detach(), **SUMS_FLOAT64)
        torch.testing.assert_close(gradient[lane], expected, **SUMS_FLOAT64)
