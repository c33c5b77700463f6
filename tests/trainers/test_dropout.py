"""Dropout: masks by seed and step, in the gradients of steps and nowhere else."""

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.tolerances import SUMS_FLOAT64
from trainers.canonical import cell_id, trajectory_form
from trainers.cell import Cell, Phase, Probe
from trainers.data import Dataset
from trainers.errors import ConfigError
from trainers.losses import LOSSES
from trainers.models.dropout import Dropout, masked_layers, masks_of_step
from trainers.objective import build_objective
from trainers.options import Choice
from trainers.training import Trainer

RATE = 0.25
SHAPE = (1, 10, 10)
LIKE = torch.zeros((), dtype=torch.float64)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), Dropout(RATE), nn.Linear(6, 3)).double()


def masks(seeds: list[int], step: int, examples: int = 5) -> Tensor:
    return masks_of_step(masked_layers(network(), (4,)), seeds, step, LIKE)(examples)["2.mask"]


def test_masks_are_a_function_of_seed_and_step() -> None:
    both = masks([0, 1], 3)
    assert both.shape == (2, 5, 6)
    assert torch.equal(both[1], masks([1], 3)[0])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both[0], masks([0], 4)[0])


def test_masks_keep_the_mean() -> None:
    found = masks([0], 0, examples=20_000)
    assert sorted(set(found.flatten().tolist())) == [0.0, 1 / (1 - RATE)]
    assert float(found.mean()) == pytest.approx(1, abs=5 * (RATE / (1 - RATE) / found.numel()) ** 0.5)


def test_gradients_are_those_of_the_thinned_network() -> None:
    module, loss = network(), LOSSES["cross_entropy"].build({})
    inputs = torch.randn(1, 5, 4, dtype=torch.float64)
    targets = nn.functional.one_hot(torch.tensor([[0, 1, 2, 0, 1]]), 3).double()
    params = nn.utils.parameters_to_vector(module.parameters()).detach().unsqueeze(0)
    thinned = masks([7], 2)
    objective = build_objective(module, loss, (4,))
    value, gradient = objective.loss_and_gradient(params, inputs, targets, {"2.mask": thinned})
    first, last = module[0], module[3]
    by_hand = loss.value(last(torch.tanh(first(inputs)) * thinned), targets)
    expected = torch.autograd.grad(by_hand[0], list(module.parameters()))
    torch.testing.assert_close(value, by_hand.detach(), **SUMS_FLOAT64)
    flat = torch.cat([part.flatten() for part in expected])
    torch.testing.assert_close(gradient[0], flat, **SUMS_FLOAT64)
    whole = objective.loss_and_gradient(params, inputs, targets)[0]
    torch.testing.assert_close(whole, loss.value(last(torch.tanh(first(inputs))), targets), **SUMS_FLOAT64)


def trainer(*optimizers: str | Choice, dropout: bool = True) -> Trainer:
    draw = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(12, *SHAPE, generator=draw), torch.randint(0, 10, (12,), generator=draw)
    data = Dataset(
        train_inputs=inputs,
        train_labels=labels,
        test_inputs=inputs,
        test_labels=labels,
        num_outputs=10,
    )
    phases = [Phase(lr=0.1, until=index + 1, optimizer=Choice.of(o)) for index, o in enumerate(optimizers)]
    cell = Cell(
        model=Choice.of("convnet", channels=1, dropout=dropout),
        dataset=Choice("mnist-5k"),
        phases=tuple(phases),
        batch_size=12,
        evaluate_every=1,
        probes=(Probe(name="distance"),),
    )
    return Trainer([cell], data=data, dtype=torch.float64)


@pytest.mark.parametrize("optimizer", ["sgd", "gd", Choice.of("sam", rho=0.0)])
def test_steps_are_thinned_and_measurements_are_not(optimizer: str | Choice) -> None:
    """Batches of all examples: SGD's differ from GD's by the order of the examples, and so by their masks."""
    with_dropout, without = trainer(optimizer), trainer(optimizer, dropout=False)
    for run in (with_dropout, without):
        run.advance(1)
    moved = [run.drain(0).series for run in (with_dropout, without)]
    assert moved[0]["train/loss"][0] == pytest.approx(moved[1]["train/loss"][0], rel=1e-12)
    assert moved[0]["train/grad_norm"][0] == pytest.approx(moved[1]["train/grad_norm"][0], rel=1e-12)
    assert not torch.allclose(with_dropout.weights(0), without.weights(0))


def test_sam_sees_one_mask_a_step() -> None:
    plain, sam = trainer("gd"), trainer(Choice.of("sam", rho=0.0))
    for run in (plain, sam):
        run.advance(1)
    torch.testing.assert_close(plain.weights(0), sam.weights(0), **SUMS_FLOAT64)


def test_addresses_without_dropout_are_the_old_ones() -> None:
    def cell(**options: object) -> Cell:
        return Cell(
            model=Choice.of("convnet", **options), dataset=Choice("cifar10"), phases=(Phase(lr=0.1, until=1),)
        )

    assert "dropout" not in trajectory_form(cell())["model"]
    assert cell_id(cell()) == cell_id(cell(dropout=False)) != cell_id(cell(dropout=True))


def test_one_layer_at_two_places_is_refused() -> None:
    """Both would have the mask of the last."""
    thinned = Dropout(RATE)
    with pytest.raises(ConfigError, match=r"1\.mask .* use one Dropout for each place"):
        masked_layers(nn.Sequential(nn.Linear(4, 4), thinned, nn.Linear(4, 4), thinned), (4,))


def test_a_rate_beyond_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 0 and below 1, found 1\.0"):
        Dropout(1.0)
