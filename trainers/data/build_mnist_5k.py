"""Makes `mnist_5k.xz`, the data set that ships with the package, from the IDX archives of MNIST.

    python -m trainers.data.build_mnist_5k --source FOLDER

FOLDER holds the four files of LeCun, Cortes & Burges (1998), with or without `.gz`; the decompressed bytes are
checked against their canonical MD5 sums. The result is the same bytes on every machine.
"""

import argparse
import lzma
from pathlib import Path

from trainers.data.idx import read_idx
from trainers.data.mnist import PACKAGED, PACKAGED_TRAIN, RAW_MD5


def build(source: Path) -> bytes:
    """Return the packaged file: images of the first 5,000 training and all test examples, then their labels."""
    parts = [read_idx(source, name, md5).tobytes() for name, md5 in RAW_MD5.items()]
    train_images, train_labels, test_images, test_labels = parts
    pixels = 28 * 28
    raw = train_images[: PACKAGED_TRAIN * pixels] + test_images + train_labels[:PACKAGED_TRAIN] + test_labels
    return lzma.compress(raw, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, preset=9 | lzma.PRESET_EXTREME)


def main() -> None:
    """Write the file into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name(PACKAGED))
    arguments = parser.parse_args()
    arguments.out.write_bytes(build(arguments.source))
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
