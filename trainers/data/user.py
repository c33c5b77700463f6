"""A data set of the user's own, from a NumPy archive.

    numpy.savez("my_data.npz", train_inputs=..., train_labels=..., test_inputs=..., test_labels=...)

and in a space `dataset: {name: file, path: my_data.npz}`. Inputs are used as they are, as float32. Labels are
whole numbers from 0 for classes, or (n, outputs) real numbers for regression; cross-entropy takes the latter
where they are shares of classes, at least 0 and with sum 1. The digest of the file is part of a cell's
address, its path is not. The file must be readable at this path wherever cells are trained.
"""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data.entry import Dataset, DatasetEntry
from trainers.data.labels import in_runs
from trainers.errors import ConfigError
from trainers.options import Option, OptionValue

ARRAYS = ("train_inputs", "train_labels", "test_inputs", "test_labels")

SHARES_OFF_BY = 1e-5
"""How far the sum of shares may be off 1: what float32 leaves of a thousand classes."""


def load(folder: Path, options: Mapping[str, OptionValue], *, digest: str | None = None) -> Dataset:
    """Load the archive.

    Args:
        folder: Not used.
        options: `path`.
        digest: Of the file that it must be; `None` takes any.

    Raises:
        ConfigError: It cannot be read, its arrays are no data set, or it is another file.
    """
    import torch

    arrays, path = _arrays(options), _path(options)
    # After it was read: one that is written meanwhile is another one too.
    if digest is not None and _digest(path) != digest:
        raise ConfigError(
            f"dataset: {path} has changed since the cell was planned; plan it again, in a new process: this "
            "one goes by what the file was."
        )
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Dataset(**tensors, num_outputs=_num_outputs(arrays))


def sizes(options: Mapping[str, OptionValue]) -> Mapping[str, Any]:
    """Return what planning knows of the archive, digest and shapes, and what loads it and no other."""
    path = _path(options)
    return _sizes(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _sizes(path: str, changed_ns: int) -> Mapping[str, Any]:
    arrays, digest = _arrays({"path": path}), _digest(Path(path))
    classifies = _classifies(arrays)
    labels = [arrays[f"{part}_labels"] for part in ("train", "test")] if classifies else []
    return {
        "load": partial(load, digest=digest),
        "digest": digest,
        "num_train": len(arrays["train_inputs"]),
        "num_test": len(arrays["test_inputs"]),
        "input_shape": arrays["train_inputs"].shape[1:],
        "num_outputs": _num_outputs(arrays),
        "vocabulary": _vocabulary(arrays),
        "classifies": classifies,
        "num_in_runs": max((len(part) for part in labels if in_runs(part)), default=0),
    }


def _digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def _path(options: Mapping[str, OptionValue]) -> Path:
    path = Path(str(options["path"]))
    if not options["path"] or not os.access(path, os.R_OK) or not path.is_file():
        raise ConfigError(f"dataset.path: found {options['path']!r}; expected a file that numpy.savez wrote.")
    return path


def _arrays(options: Mapping[str, OptionValue]) -> dict[str, np.ndarray]:
    path = _path(options)
    arrays = _read(path)
    for part in ("train", "test"):
        inputs, labels = arrays[f"{part}_inputs"], arrays[f"{part}_labels"]
        if inputs.ndim < 2 or not len(inputs) or inputs.shape[:1] != labels.shape[:1]:
            raise ConfigError(
                f"dataset: {path}: found {part}_inputs of shape {inputs.shape} and {part}_labels of shape "
                f"{labels.shape}; expected (n, ...) and as many labels."
            )
        if inputs.dtype.kind not in "fiub":
            raise ConfigError(
                f"dataset: {path}: found {part}_inputs of type {inputs.dtype}; expected real numbers."
            )
        classes = labels.dtype.kind in "iu" and labels.ndim == 1 and labels.min() >= 0
        if not classes and not (labels.dtype.kind == "f" and labels.ndim == 2):
            raise ConfigError(
                f"dataset: {path}: found {part}_labels of type {labels.dtype} and shape {labels.shape}; "
                "expected (n,) whole numbers from 0, or (n, outputs) real ones."
            )
        arrays[f"{part}_inputs"] = _typed(inputs, np.float32)
        arrays[f"{part}_labels"] = _typed(labels, np.int64 if classes else np.float32)
        if not all(np.isfinite(arrays[f"{part}_{what}"]).all() for what in ("inputs", "labels")):
            raise ConfigError(
                f"dataset: {path}: {part}_inputs and {part}_labels must be finite numbers, also as float32, "
                f"whose largest is {np.finfo(np.float32).max:.1e}."
            )
    for what in ("inputs", "labels"):
        train, test = arrays[f"train_{what}"], arrays[f"test_{what}"]
        if train.shape[1:] != test.shape[1:]:
            raise ConfigError(
                f"dataset: {path}: found train_{what} of shape {train.shape} and test_{what} of shape "
                f"{test.shape}; examples must have one shape."
            )
    return arrays


def _typed(array: np.ndarray, kind: type[np.float32 | np.int64]) -> np.ndarray:
    """Return numbers as they are trained, in this machine's order of bytes; infinite where too large."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, kind)


def _read(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise ConfigError(
            f"dataset: {path} is not an archive of numpy.savez, or a damaged one; expected one with the "
            f"arrays {', '.join(ARRAYS)}."
        )
    arrays: dict[str, np.ndarray] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = list(archive.files)
            if missing := [name for name in ARRAYS if name not in found]:
                raise ConfigError(
                    f"dataset: {path} lacks {', '.join(missing)}; found {', '.join(found) or 'no array'}, "
                    f"expected the arrays {', '.join(ARRAYS)}."
                )
            for name in ARRAYS:
                arrays[name] = archive[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        # Of Python objects numpy speaks as of its option to unpickle them, which nobody should take.
        name = next((name for name in ARRAYS if name not in arrays), "")
        why = "it holds Python objects; expected numbers" if "allow_pickle" in str(error) else f"{error}"
        raise ConfigError(f"dataset: {path}: {name} cannot be read: {why}.") from error
    return arrays


def _num_outputs(arrays: Mapping[str, np.ndarray]) -> int:
    labels = [arrays[f"{part}_labels"] for part in ("train", "test")]
    if labels[0].ndim == 2:
        return labels[0].shape[1]
    return int(max(array.max() for array in labels)) + 1


def _vocabulary(arrays: Mapping[str, np.ndarray]) -> int | None:
    """Return how many token numbers there are, `None` where the inputs cannot be any."""
    inputs = [arrays[f"{part}_inputs"] for part in ("train", "test")]
    if any(array.ndim != 2 or (array < 0).any() or (array != np.floor(array)).any() for array in inputs):
        return None
    return int(max(array.max() for array in inputs)) + 1


def _classifies(arrays: Mapping[str, np.ndarray]) -> bool:
    """Return whether labels are classes, or shares of them."""
    labels = [arrays[f"{part}_labels"] for part in ("train", "test")]
    if labels[0].ndim == 1:
        return True
    sums = np.concatenate([array.sum(1, dtype=np.float64) for array in labels])
    return all((array >= 0).all() for array in labels) and bool((abs(sums - 1) <= SHARES_OFF_BY).all())


FILE = DatasetEntry(
    load=load,
    # What stands here is replaced by what the file has.
    digest="the digest of the file",
    num_train=0,
    num_test=0,
    input_shape=(),
    num_outputs=0,
    options={"path": Option(default="")},
    sizes=sizes,
)
