"""Drawn data sets, other labels, and scikit-learn's digits."""

from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.canonical import cell_id, dataset_entry
from trainers.cell import Cell, Phase
from trainers.data import DATASETS, Dataset, DatasetEntry, digits
from trainers.data.labels import in_runs, relabelled
from trainers.errors import ConfigError, DataError
from trainers.options import Choice

STANDARD_ERRORS = 5.0


def load(name: str, **options: Any) -> Dataset:
    entry = DATASETS[name]
    return entry.load(Path("unused"), Choice.of(name, **options).resolve("dataset", entry.options))


GENERATED: dict[str, dict[str, Any]] = {
    "sine": {"num_train": 50},
    "gaussian-mixture": {"num_train": 50, "dimension": 7, "classes": 3},
    "signs": {"num_train": 50},
    "digits": {"labels": "parity"},
    "mnist-5k": {"labels": "parity"},
}


@pytest.mark.parametrize("name", GENERATED)
def test_entries_say_what_is_loaded(name: str) -> None:
    for options in ({}, GENERATED[name]):
        entry, data = dataset_entry(Choice.of(name, **options)), load(name, **options)
        assert len(data.train_inputs) == len(data.train_labels) == entry.num_train
        assert len(data.test_inputs) == len(data.test_labels) == entry.num_test
        assert tuple(data.train_inputs.shape[1:]) == entry.input_shape
        assert data.num_outputs == entry.num_outputs
        assert data.train_inputs.dtype == torch.float32
        again = load(name, **options)
        assert torch.equal(data.train_inputs, again.train_inputs)
        assert torch.equal(data.train_labels, again.train_labels)


def test_the_sine_has_its_noise() -> None:
    data = load("sine", num_train=20_000)
    noise = data.train_labels - torch.sin(torch.pi * data.train_inputs)
    assert abs(float(noise.std()) - 0.1) < STANDARD_ERRORS * 0.1 / (2 * 20_000) ** 0.5
    assert abs(float(noise.mean())) < STANDARD_ERRORS * 0.1 / 20_000**0.5
    assert float(data.train_inputs.min()) < -0.99 and float(data.train_inputs.max()) > 0.99
    assert torch.equal(
        load("sine", noise=0.0).train_labels, torch.sin(torch.pi * load("sine", noise=0.0).train_inputs)
    )
    assert not torch.equal(load("sine").train_inputs, load("sine", seed=1).train_inputs)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_the_mixture_has_unit_means_and_its_spread(orthogonal: bool) -> None:
    classes, dimension, sigma = 3, 400, 0.02
    options = {"classes": classes, "dimension": dimension, "orthogonal": orthogonal, "num_train": 3000}
    points = load("gaussian-mixture", sigma=0.0, **options)
    assert torch.equal(points.train_labels, torch.arange(3000) % classes)
    mu = points.train_inputs[:classes]
    torch.testing.assert_close(mu.norm(dim=1), torch.ones(classes))
    cosines = (mu @ mu.T)[~torch.eye(classes, dtype=torch.bool)]
    assert float(cosines.abs().max()) < (1e-6 if orthogonal else STANDARD_ERRORS / dimension**0.5)
    assert bool(cosines.abs().max() > 1e-6) != orthogonal
    noisy = load("gaussian-mixture", sigma=sigma, **options)
    spread = (noisy.train_inputs - mu[noisy.train_labels]).std()
    assert float(spread) == pytest.approx(sigma, rel=0.01)


def test_there_are_no_more_orthogonal_means_than_dimensions() -> None:
    def entry(classes: int, *, orthogonal: bool) -> DatasetEntry:
        return dataset_entry(
            Choice.of("gaussian-mixture", classes=classes, dimension=4, orthogonal=orthogonal)
        )

    assert entry(4, orthogonal=True).num_outputs == 4
    assert entry(5, orthogonal=False).num_outputs == 5
    with pytest.raises(ConfigError, match=r"dataset\.classes: found 5; there are at most 4 orthogonal means"):
        entry(5, orthogonal=True)


@pytest.mark.parametrize("name", ["gaussian-mixture", "digits", "mnist-5k"])
def test_classes_stand_in_no_runs(name: str) -> None:
    """Pieces that batch normalisation takes as they stand have examples of all classes."""
    data = load(name, **GENERATED[name])
    for labels in (data.train_labels, data.test_labels):
        assert not in_runs(labels.numpy())
        assert in_runs(labels.sort()[0].numpy())


def test_signs_are_balanced() -> None:
    data = load("signs")
    assert float(data.train_inputs.mean()) == 0
    assert set(data.train_inputs.flatten().tolist()) == {-1.0, 1.0}


def test_an_odd_number_of_signs_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.num_train: found 25; must be even"):
        dataset_entry(Choice.of("signs", num_train=25))


def test_random_labels_are_a_permutation() -> None:
    given, shuffled = load("mnist-5k"), load("mnist-5k", labels="random")
    assert torch.equal(given.train_inputs, shuffled.train_inputs)
    assert torch.equal(given.train_labels.bincount(), shuffled.train_labels.bincount())
    agreement = float((given.train_labels == shuffled.train_labels).double().mean())
    assert 0.07 < agreement < 0.13
    assert torch.equal(given.test_labels, shuffled.test_labels)
    other = load("mnist-5k", labels="random", labels_seed=1)
    assert not torch.equal(other.train_labels, shuffled.train_labels)


def test_parity_has_two_classes() -> None:
    given, parity = load("digits"), load("digits", labels="parity")
    assert torch.equal(parity.train_labels, given.train_labels % 2)
    assert torch.equal(parity.test_labels, given.test_labels % 2)
    assert relabelled(given, {}) is given


def test_labels_are_part_of_the_address_only_when_they_are_others() -> None:
    def address(**options: Any) -> str:
        phases = (Phase(lr=0.1, alpha_dom=2, until=3),)
        return cell_id(Cell(model=Choice("mlp"), dataset=Choice.of("mnist-5k", **options), phases=phases))

    assert address() == address(labels="given")
    assert len({address(), address(labels="random"), address(labels="parity")}) == 3
    assert dataset_entry(Choice.of("mnist-5k", labels="parity")).num_outputs == 2, "k is 2 by default"
    with pytest.raises(ConfigError, match="allowed: 'given', 'random'"):
        load("fashion-mnist", labels="parity")


def test_digits_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("digits")
    assert float(data.train_inputs.max()) == 1 and float(data.train_inputs.min()) == 0
    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    with pytest.raises(DataError, match="digits of scikit-learn"):
        load("digits")


def test_without_scikit_learn_digits_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        load("digits")
