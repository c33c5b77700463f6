"""Verification of data files: nothing is used, least of all unpickled, before its digest is known."""

import hashlib

from trainers.errors import DataError


def verify(content: bytes, expected: str, *, what: str, algorithm: str) -> None:
    """Raise `DataError` unless the digest of `content` is `expected`.

    Args:
        content: The bytes.
        expected: The digest in hexadecimal digits.
        what: The file, for the message.
        algorithm: "sha256", or "md5" for sources that publish only that.
    """
    found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise DataError(
            f"{what}: expected {algorithm.upper()} {expected}, found {found}. The file is damaged or another "
            "version, and has not been used; remove it and provide it again."
        )
