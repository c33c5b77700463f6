"""Makes the MNIST-5k file that ships with the package, from MNIST's four IDX files.

    python -m trainers.data.build_mnist_5k --source FOLDER

FOLDER holds the four files, plain or as `.gz`. The result is one xz stream of four IDX records: the first
5,000 training images, their labels, all test images, their labels.
"""

import argparse
import lzma
import sys
from collections.abc import Sequence
from pathlib import Path

from trainers.data.digests import verify
from trainers.data.idx import record_bytes
from trainers.data.mnist import MNIST_SOURCE, NUM_SHIPPED, SHIPPED_FILE, SHIPPED_SHA256, read_source
from trainers.errors import DataError

# Images of one byte a pixel: no alignment to exploit (pb = lp = 0) and long literal contexts.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]


def content(source: Path) -> bytes:
    """Return the decompressed content of the file, from the verified IDX files in `source`.

    Raises:
        DataError: A file is missing or is not the canonical one.
    """
    train_images, train_labels, test_images, test_labels = read_source(source, MNIST_SOURCE)
    parts = (train_images[:NUM_SHIPPED], train_labels[:NUM_SHIPPED], test_images, test_labels)
    return b"".join(record_bytes(part) for part in parts)


def compressed(made: bytes) -> bytes:
    """Return the bytes of the file, which depend on the content and the version of the compressor alone."""
    return lzma.compress(made, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=FILTERS)


def build(source: Path, target: Path) -> None:
    """Write the file.

    Raises:
        DataError: A source file is not the canonical one, or the result is not what `load_shipped` expects.
    """
    made = content(source)
    verify(made, SHIPPED_SHA256, what="the content that was made", algorithm="sha256")
    target.write_bytes(compressed(made))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(prog="python -m trainers.data.build_mnist_5k", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--source", type=Path, required=True, help="folder with MNIST's four IDX files")
    parser.add_argument("--target", type=Path, default=Path(__file__).with_name(SHIPPED_FILE))
    given = parser.parse_args(arguments)
    try:
        build(given.source, given.target)
    except DataError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{given.target}: {given.target.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
