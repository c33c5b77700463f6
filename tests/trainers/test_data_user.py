"""Data of the user's own, from a NumPy archive."""

from pathlib import Path

import numpy as np
import pytest
import torch

from trainers.canonical import cell_id, dataset_entry
from trainers.cell import Cell, Phase
from trainers.errors import ConfigError
from trainers.options import Choice
from trainers.training import Trainer

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(60, 3, 2))
CLASSES = {
    "train_inputs": INPUTS[:40],
    "train_labels": (INPUTS[:40, 0, 0] > 0).astype(np.uint8),
    "test_inputs": INPUTS[40:],
    "test_labels": np.full(20, 2),
}


def cell(path: Path, **changes: object) -> Cell:
    fields: dict[str, object] = {
        "model": Choice.of("mlp", widths=(8,)),
        "dataset": Choice.of("file", path=str(path)),
        "batch_size": 10,
        "holdout_size": 20,
        "phases": (Phase(lr=0.5, until=40),),
        **changes,
    }
    return Cell(**fields)  # pyright: ignore[reportArgumentType]


def stored(path: Path, **changes: np.ndarray) -> Path:
    np.savez(path, **{**CLASSES, **changes})
    return path


def test_classes_are_trained(tmp_path: Path) -> None:
    path = stored(tmp_path / "mine.npz")
    entry = dataset_entry(Choice.of("file", path=str(path)))
    assert (entry.num_train, entry.num_test, entry.input_shape, entry.num_outputs) == (40, 20, (3, 2), 3)
    data = entry.load(tmp_path, {"path": str(path)})
    assert torch.equal(data.train_inputs, torch.tensor(INPUTS[:40], dtype=torch.float32))
    assert data.train_labels.dtype == torch.int64 and data.test_labels.tolist() == [2] * 20
    trainer = Trainer([cell(path)])
    trainer.advance(40)
    assert trainer.lanes[0].finals["train/loss"] < 0.15
    assert trainer.lanes[0].finals["test/accuracy"] == 0.0, "class 2 is in no example that was trained on"


def test_real_labels_are_regression(tmp_path: Path) -> None:
    path = stored(tmp_path / "mine.npz", train_labels=INPUTS[:40, 0], test_labels=INPUTS[40:, 0])
    entry = dataset_entry(Choice.of("file", path=str(path)))
    data = entry.load(tmp_path, {"path": str(path)})
    assert entry.num_outputs == 2 and data.train_labels.dtype == torch.float32
    trainer = Trainer([cell(path)])
    trainer.advance(40)
    assert trainer.lanes[0].finals["train/loss"] < 0.3


def test_the_address_follows_the_content_and_not_the_path(tmp_path: Path) -> None:
    first = cell_id(cell(stored(tmp_path / "a.npz")))
    assert cell_id(cell(stored(tmp_path / "b.npz"))) == first
    assert cell_id(cell(stored(tmp_path / "c.npz", test_labels=np.zeros(20, int)))) != first


def test_a_file_that_changed_after_planning_is_not_loaded(tmp_path: Path) -> None:
    path = stored(tmp_path / "mine.npz")
    planned = cell(path)
    address = cell_id(planned)
    stored(path, test_labels=np.zeros(20, int))
    with pytest.raises(ConfigError, match=r"mine\.npz has changed since .*, in a new process"):
        Trainer([planned])
    stored(path)
    assert Trainer([planned]).lanes[0].cell_id == address


@pytest.mark.parametrize(
    "changes, part",
    [
        ({"train_labels": np.zeros(39, int)}, "train_labels of shape (39,)"),
        ({"train_labels": -np.ones(40, int)}, "whole numbers from 0"),
        ({"train_labels": np.zeros(40)}, "type float64 and shape (40,)"),
        ({"test_inputs": np.full((20, 3, 2), np.nan)}, "test_inputs and test_labels must be finite"),
        (
            {"train_inputs": np.full((40, 3, 2), 1e39)},
            "must be finite numbers, also as float32",
        ),
        ({"test_inputs": np.zeros((20, 3, 2), complex)}, "test_inputs of type complex128"),
        ({"test_labels": np.zeros((), int)}, "test_labels of shape ()"),
        ({"test_inputs": np.zeros((20, 5))}, "examples must have one shape"),
        (
            {"train_inputs": np.array([None] * 40)},
            "train_inputs cannot be read: it holds Python objects",
        ),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, changes: dict[str, np.ndarray], part: str) -> None:
    path = stored(tmp_path / "bad.npz", **changes)
    with pytest.raises(ConfigError) as raised:
        cell_id(cell(path))
    assert part in str(raised.value) and "bad.npz" in str(raised.value)


@pytest.mark.parametrize("kind", [">f4", ">f8", np.longdouble, np.float16, "<u2"])
@pytest.mark.parametrize("labels", [">i8", "<u8", ">f8"])
def test_numbers_may_be_of_any_type(kind: str, labels: str, tmp_path: Path) -> None:
    whole = np.arange(360).reshape(60, 3, 2) % 7
    numbers = whole[:, 0, 0] % 2 if labels != ">f8" else whole[:, 0]
    path = stored(
        tmp_path / "mine.npz",
        train_inputs=whole[:40].astype(kind),
        train_labels=numbers[:40].astype(labels),
        test_inputs=whole[40:].astype(kind),
        test_labels=numbers[40:].astype(labels),
    )
    data = dataset_entry(Choice.of("file", path=str(path))).load(tmp_path, {"path": str(path)})
    assert torch.equal(data.train_inputs, torch.tensor(whole[:40], dtype=torch.float32))
    assert torch.equal(data.test_labels, torch.tensor(numbers[40:]).to(data.test_labels.dtype))
    assert data.train_labels.dtype == (torch.float32 if labels == ">f8" else torch.int64)


def test_a_sorted_file_is_known(tmp_path: Path) -> None:
    mixed, shares = np.arange(40) % 2, np.repeat(np.eye(2), 20, axis=0)
    labels = {"sorted": np.sort(mixed), "mixed": mixed, "shares": shares}
    for name, given in labels.items():
        path = stored(tmp_path / f"{name}.npz", train_labels=given, test_labels=given[::2])
        assert dataset_entry(Choice.of("file", path=str(path))).num_in_runs == (0 if name == "mixed" else 40)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "missing.npz")):
        with pytest.raises(
            ConfigError, match="dataset.path: found .*; expected a file that numpy.savez wrote"
        ):
            dataset_entry(Choice.of("file", path=path))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ConfigError, match=r"text\.npz is not an archive of numpy\.savez"):
        dataset_entry(Choice.of("file", path=str(tmp_path / "text.npz")))


def test_what_is_wrong_with_an_archive_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", train_inputs=np.zeros((4, 2)), labels=np.zeros(4, int))
    with pytest.raises(ConfigError, match="lacks train_labels, test_inputs, test_labels; found train_inputs"):
        dataset_entry(Choice.of("file", path=str(tmp_path / "few.npz")))
    whole = stored(tmp_path / "whole.npz").read_bytes()
    for name, damaged in (("cut", whole[:-20]), ("flipped", whole[:200] + b"?" * 20 + whole[220:])):
        path = tmp_path / f"{name}.npz"
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=f"{name}\\.npz") as raised:
            dataset_entry(Choice.of("file", path=str(path)))
        assert "allow_pickle" not in str(raised.value)


def test_cross_entropy_takes_shares_of_classes_alone(tmp_path: Path) -> None:
    """Its derivatives are those of targets with sum 1; of labels with several classes they would be wrong."""
    several = RANDOM.integers(0, 2, size=(60, 3)).astype(np.float32)
    several[0] = 1
    shares = several + 1
    shares /= shares.sum(1, keepdims=True)
    for name, labels in {"several": several, "shares": shares, "negative": shares * 3 - 2 / 3}.items():
        path = stored(tmp_path / f"{name}.npz", train_labels=labels[:40], test_labels=labels[40:])
        chosen = cell(path, loss=Choice("cross_entropy"))
        assert dataset_entry(chosen.dataset).classifies == (name == "shares")
        if name == "shares":
            trainer = Trainer([chosen])
            trainer.advance(40)
            history = trainer.drain(0).series["train/loss"]
            assert history[0] is not None and history[0] > trainer.lanes[0].finals["train/loss"]
        else:
            with pytest.raises(ConfigError, match=r"shares of them \(at least 0, with sum 1\)"):
                cell_id(chosen)
        cell_id(cell(path))
