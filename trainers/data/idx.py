"""The IDX format of MNIST's files: a header of big-endian sizes, then the values.

Several records may follow each other in one stream; the shipped MNIST-5k is made of such records.
"""

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.data.digests import verify
from trainers.errors import DataError

Values = NDArray[np.uint8]

MAGIC = b"\0\0\x08"
"""Two zero bytes and the code of unsigned bytes; the format has other types, which no data set here uses."""

SIZE_BYTES = 4


def parse_records(content: bytes, *, origin: str) -> list[Values]:
    """Return the arrays of all records in `content`, in native byte order.

    Args:
        content: One or more IDX records.
        origin: Where the bytes come from, for the error message.

    Raises:
        DataError: The bytes are not IDX, or end early.
    """
    records: list[Values] = []
    position = 0
    while position < len(content):
        start = position + len(MAGIC) + 1
        if content[position : start - 1] != MAGIC or len(content) < start:
            found = content[position:start].hex()
            raise DataError(f"{origin}: expected an IDX record of bytes at byte {position}, found {found}.")
        first = start + SIZE_BYTES * content[start - 1]
        shape = tuple(
            int.from_bytes(content[offset : offset + SIZE_BYTES], "big")
            for offset in range(start, first, SIZE_BYTES)
        )
        position = first + prod(shape)
        if position > len(content):
            raise DataError(f"{origin}: the file ends early; its header promises an array of shape {shape}.")
        records.append(np.frombuffer(content, np.uint8, prod(shape), first).reshape(shape))
    return records


def record_bytes(values: Values) -> bytes:
    """Return `values` as one IDX record."""
    sizes = b"".join(size.to_bytes(SIZE_BYTES, "big") for size in values.shape)
    return MAGIC + bytes([values.ndim]) + sizes + values.tobytes()


def find_file(folder: Path, name: str, *, archive_only: bool = False) -> Path | None:
    """Return the IDX file `name` in `folder`, plain or as `.gz`, or `None`."""
    candidates = [folder / f"{name}.gz"] if archive_only else [folder / name, folder / f"{name}.gz"]
    return next((path for path in candidates if path.is_file()), None)


def read_file(path: Path, *, md5: str, archive_md5: bool = False) -> Values:
    """Return the array in an IDX file.

    Args:
        path: The file, decompressed when its name ends in `.gz`.
        md5: What the MD5 sum must be.
        archive_md5: Whether the sum is that of the archive; otherwise it is that of the decompressed content,
            because archives of the same content differ from mirror to mirror.

    Raises:
        DataError: Another sum, or a damaged file.
    """
    stored = path.read_bytes()
    if archive_md5:
        verify(stored, md5, what=str(path), algorithm="md5")
    content = stored
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(stored)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path}: not a whole gzip archive ({error}). Remove it and provide it again."
            ) from error
    if not archive_md5:
        verify(content, md5, what=f"the content of {path}", algorithm="md5")
    records = parse_records(content, origin=str(path))
    if len(records) != 1:
        raise DataError(f"{path}: expected one IDX record, found {len(records)}.")
    return records[0]
