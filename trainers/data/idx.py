"""The IDX format of MNIST and its kin: big-endian sizes, then bytes."""

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.errors import DataError

_MAGIC_BYTES = b"\x00\x00\x08"


def read_idx(folder: Path, name: str, md5: str) -> NDArray[np.uint8]:
    """Read `name` or `name.gz` from a folder.

    Args:
        folder: Where the file is.
        name: File name without `.gz`.
        md5: Of the decompressed bytes.

    Raises:
        DataError: The file is missing, damaged, or not the one that was asked for.
    """
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.is_file() else packed
    if not path.is_file():
        raise DataError(f"data file {plain} (or {packed.name}) is missing.")
    data = path.read_bytes()
    if path == packed:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"data file {path} is damaged: {error}.") from error
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(f"data file {path}: expected MD5 {md5} (decompressed), found {found}.")
    if not data.startswith(_MAGIC_BYTES):
        raise DataError(f"data file {path} is not in IDX format.")
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
