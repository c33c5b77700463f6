"""Writes small archives in CIFAR-10's real format, pickles of the age of the published ones included."""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.data.cifar10 import BATCHES_FOLDER, CifarSource

PER_BATCH = 8
ARCHIVE = "cifar-10-python.tar.gz"
CONSTANT_PIXEL = (1, 4, 9)
"""Channel, row and column of a pixel that is the same in every training image."""


class OldPickler(pickle._Pickler):  # pyright: ignore[reportPrivateUsage]
    """Describes dtypes as numpy did when CIFAR-10 was published, with 0 and 1 for False and True."""

    dispatch = dict(pickle._Pickler.dispatch)  # pyright: ignore[reportPrivateUsage]

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.dtype):
            return np.dtype, (obj.str[1:], 0, 1), (3, "|", None, None, None, -1, -1, 0)
        return NotImplemented


def pickled(content: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    OldPickler(stream, protocol=2).dump(content)
    return stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def batch_rows(name: str) -> tuple[NDArray[np.uint8], list[int]]:
    """The rows (n, 3072) and labels of a batch: a function of its name."""
    generator = np.random.default_rng(list(name.encode()))
    rows = generator.integers(0, 256, (PER_BATCH, 3072), np.uint8)
    if name != "test_batch":
        rows.reshape(-1, 3, 32, 32)[:, *CONSTANT_PIXEL] = 200
    return rows, generator.integers(0, 10, PER_BATCH).tolist()


def write_archive(folder: Path, *, payloads: dict[str, bytes] | None = None) -> CifarSource:
    """Write `cifar-10-python.tar.gz`; return its digests.

    Args:
        folder: Where to.
        payloads: Content of members, instead of the right one, by name.
    """
    names = [f"data_batch_{number}" for number in range(1, 6)]
    members: dict[str, bytes] = {}
    for name in [*names, "test_batch"]:
        rows, labels = batch_rows(name)
        members[name] = pickled({"batch_label": name, "labels": labels, "data": rows, "filenames": []})
    classes = [f"class {number}" for number in range(10)]
    members["batches.meta"] = pickled({"label_names": classes, "num_vis": 3072})
    members |= payloads or {}
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / ARCHIVE, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{BATCHES_FOLDER}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    sums = {name: md5(content) for name, content in members.items()}
    return CifarSource(
        archive=(ARCHIVE, md5((folder / ARCHIVE).read_bytes())),
        train=tuple((name, sums[name]) for name in names),
        test=(("test_batch", sums["test_batch"]),),
        meta=("batches.meta", sums["batches.meta"]),
    )


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
