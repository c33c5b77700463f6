"""Models that do not take a data set are refused when a cell is addressed, which is what planning does."""

from pathlib import Path

import numpy as np
import pytest

from trainers.canonical import cell_id
from trainers.cell import Cell, Phase
from trainers.data import DATASETS
from trainers.errors import ConfigError
from trainers.models import MODELS
from trainers.options import Choice

IMAGES = "mnist-5k, mnist, fashion-mnist, cifar10-5k, cifar10, cifar100"


def cell(model: Choice, dataset: Choice) -> Cell:
    return Cell(
        model=model, dataset=dataset, batch_size=10, holdout_size=10, phases=(Phase(lr=0.1, until=10),)
    )


@pytest.mark.parametrize(
    ("model", "dataset", "says"),
    [
        (
            Choice.of("transformer"),
            Choice.of("mnist-5k"),
            ("token numbers", "(1, 28, 28)", "fits: sst2-1k, sst2."),
        ),
        (Choice.of("transformer"), Choice.of("gaussian-mixture"), ("token numbers", "fits: sst2-1k, sst2.")),
        (
            Choice.of("transformer", vocabulary=100),
            Choice.of("sst2"),
            ("model.vocabulary: found 100", "at least the data set's, 4096", "fits: none."),
        ),
        (Choice.of("transformer", heads=3), Choice.of("sst2"), ("model.heads: found 3", "must divide")),
        (Choice.of("cnn"), Choice.of("sst2"), ("images", "(32,)", f"fits: {IMAGES}, digits.")),
        (
            Choice.of("cnn", num_convolutions=4),
            Choice.of("digits"),
            ("model.num_convolutions: found 4", "at most 3", f"fits: {IMAGES}."),
        ),
        (Choice.of("convnet"), Choice.of("digits"), ("at least 10 x 10", f"fits: {IMAGES}.")),
        (Choice.of("resnet8"), Choice.of("sine"), ("images", "(1,)", f"fits: {IMAGES}, digits.")),
        (Choice.of("resnet18"), Choice.of("sine"), ("images", "(1,)", f"fits: {IMAGES}, digits.")),
        (Choice.of("vgg11"), Choice.of("signs"), ("images", "(1,)", f"fits: {IMAGES}, digits.")),
        (Choice.of("quadratic"), Choice.of("mnist-5k"), ("one number in and one out", "fits: sine, signs.")),
    ],
)
def test_is_refused_with_what_would_fit(model: Choice, dataset: Choice, says: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        cell_id(cell(model, dataset))
    message = str(caught.value)
    assert message.startswith(f"model {model.name!r} does not fit data set {dataset.name!r}: ")
    assert all(text in message for text in says), message


@pytest.mark.parametrize(
    ("model", "dataset"),
    [
        (Choice.of("cnn", num_convolutions=3), Choice.of("digits")),
        (Choice.of("cnn", num_convolutions=4), Choice.of("mnist")),
        (Choice.of("transformer", vocabulary=100), Choice.of("sst2", vocabulary=100)),
        (Choice.of("mlp"), Choice.of("sst2")),
        (Choice.of("quadratic"), Choice.of("signs")),
    ],
)
def test_what_fits_is_not_refused(model: Choice, dataset: Choice) -> None:
    cell_id(cell(model, dataset))


@pytest.mark.parametrize(
    ("inputs", "vocabulary"),
    [
        (np.array([[0, 5], [7, 1]]), 8),
        (np.array([[0.0, 5.0], [7.0, 1.0]]), 8),
        (np.array([[0.5, 5.0], [7.0, 1.0]]), None),
        (np.array([[-1, 5], [7, 1]]), None),
        (np.zeros((2, 1, 4, 4)), None),
    ],
)
def test_a_file_has_token_numbers_or_not(inputs: np.ndarray, vocabulary: int | None, tmp_path: Path) -> None:
    path = str(tmp_path / "mine.npz")
    labels = np.array([0, 1])
    np.savez(path, train_inputs=inputs, train_labels=labels, test_inputs=inputs, test_labels=labels)
    dataset = Choice.of("file", path=path)
    entry = DATASETS["file"].under({"path": path})
    assert entry.vocabulary == vocabulary
    for size in (7, 8):
        wanted = Choice.of("transformer", vocabulary=size)
        if vocabulary is not None and size >= vocabulary:
            MODELS["transformer"].require(entry, wanted.resolve("model", MODELS["transformer"].options))
        else:
            with pytest.raises(ConfigError, match=r"does not fit data set 'file'"):
                cell_id(cell(wanted, dataset))


def test_every_model_but_ones_own_says_what_it_takes() -> None:
    assert [name for name, entry in MODELS.items() if entry.fit is None] == ["file"]
    assert [name for name, entry in MODELS.items() if entry.takes_tokens] == ["transformer"]
