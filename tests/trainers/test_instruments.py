"""What measurements share: gradients of many examples, in pieces."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.trainers.small_cells import made_data, sgd, small_cell
from tests.trainers.tolerances import SUMS_FLOAT64
from trainers import chain
from trainers.instruments import Instruments
from trainers.options import Choice
from trainers.training import Trainer

EXAMPLES = torch.arange(100, 120)


@pytest.fixture(params=["cnn", "mlp"])
def trainer(request: pytest.FixtureRequest) -> Trainer:
    model = Choice.of("cnn", channels=2) if request.param == "cnn" else Choice.of("mlp", widths=(8,))
    return Trainer([small_cell(sgd(1), model=model)], data=made_data(torch.float64), dtype=torch.float64)


def sizes_of(instruments: Instruments, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of examples of the gradients that are taken from now on."""
    sizes: list[int] = []
    plain: Callable[..., tuple[Tensor, Tensor]] = instruments.objective.loss_and_gradient

    def noted(params_NP: Tensor, inputs_NBX: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(inputs_NBX.shape[1])
        return plain(params_NP, inputs_NBX, *others)

    monkeypatch.setattr(instruments.objective, "loss_and_gradient", noted)
    return sizes


@pytest.mark.parametrize(("at_once", "expected"), [(0, [1] * 20), (7, [7, 7, 6]), (20, [20])])
def test_a_gradient_of_many_examples_is_taken_in_pieces(
    trainer: Trainer, at_once: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    instruments, params = trainer._instruments, trainer.weights(0)
    inputs, targets = instruments.train.select(EXAMPLES.unsqueeze(0))
    uncut = instruments.objective.loss_and_gradient(params.unsqueeze(0), inputs, targets)[1][0]
    kept = instruments.objective._example_sizes(params.unsqueeze(0), inputs).kept_bytes
    monkeypatch.setattr(chain, "SAVED_BYTES", at_once * kept)
    sizes = sizes_of(instruments, monkeypatch)
    found = instruments.gradient(params, EXAMPLES)
    assert sizes == expected
    torch.testing.assert_close(found, uncut, **SUMS_FLOAT64)
    assert torch.equal(found, uncut) or len(sizes) > 1
    test = instruments.gradient(params, torch.arange(20), test=True)
    torch.testing.assert_close(test, instruments.gradient(params, torch.arange(20)), **SUMS_FLOAT64)


def test_a_gradient_of_any_module_is_cut_by_its_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = small_cell(sgd(1), model=Choice.of("resnet8", channels=2))
    trainer = Trainer([cell], data=made_data(torch.float64), dtype=torch.float64)
    monkeypatch.setattr(chain, "SAVED_BYTES", 0)
    sizes = sizes_of(trainer._instruments, monkeypatch)
    trainer._instruments.gradient(trainer.weights(0), EXAMPLES)
    assert sizes == [len(EXAMPLES)]
