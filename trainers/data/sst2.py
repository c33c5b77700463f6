"""SST-2: sentences of film reviews with their sentiment, from the GLUE archive; and the first 1,000.

Read from `SST-2.zip` in the data folder, or from the folder `SST-2` that it holds. The development set is
the test set here, since the labels of GLUE's test set are not public.

The sentences are already split into lower-case words. The vocabulary is that of the training sentences in
use: number 0 is padding, 1 any word that is not in the vocabulary, and from 2 on the words from the most
frequent one down, words of equal frequency in alphabetical order. Sentences are cut or padded to `length`.
"""

import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from trainers.data.digests import verify
from trainers.data.entry import Dataset, DatasetEntry
from trainers.data.labels import LABELS, relabelled
from trainers.errors import DataError
from trainers.options import Option, OptionValue

NUM_TRAIN, NUM_TEST = 67_349, 872
NUM_SUBSET = 1_000
ARCHIVE, FOLDER = "SST-2.zip", "SST-2"
HEADER = "sentence\tlabel"

PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2

Sentences = list[tuple[list[str], int]]
"""The words of each sentence, and its label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GlueSource:
    """MD5 sums of the files as published."""

    train: str = "da409a0a939379ed32a470bc0f7fe99a"
    dev: str = "268856b487b2a31a28c0a93daaff7288"

    @property
    def digest(self) -> str:
        """The address of the exact bytes."""
        return f"md5:{self.train}+{self.dev}"


SOURCE = GlueSource()


def load(
    folder: Path,
    options: Mapping[str, OptionValue],
    *,
    num_train: int | None = None,
    source: GlueSource = SOURCE,
) -> Dataset:
    """Load SST-2 from `folder`.

    Args:
        folder: The data folder.
        options: `length`, `vocabulary` and those of the labels.
        num_train: How many of the first training sentences to keep; `None` is all.
        source: What the files must hash to.

    Raises:
        DataError: The archive is missing, damaged or another version.
    """
    train = parse(_content(folder, "train.tsv", source.train))[:num_train]
    dev = parse(_content(folder, "dev.tsv", source.dev))
    length, most = cast(int, options["length"]), cast(int, options["vocabulary"])
    words = vocabulary((words for words, _ in train), most)
    import torch

    data = Dataset(
        train_inputs=torch.tensor([numbers(sentence, words, length) for sentence, _ in train]).float(),
        train_labels=torch.tensor([label for _, label in train]),
        test_inputs=torch.tensor([numbers(sentence, words, length) for sentence, _ in dev]).float(),
        test_labels=torch.tensor([label for _, label in dev]),
        num_outputs=2,
    )
    return relabelled(data, options)


def _content(folder: Path, name: str, md5: str) -> str:
    archive, path = folder / ARCHIVE, folder / FOLDER / name
    try:
        if path.is_file():
            content, where = path.read_bytes(), str(path)
        else:
            with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as opened:
                content, where = opened.read(f"{FOLDER}/{name}"), f"{name} in {archive}"
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"data set 'sst2' is not in {folder}: looked for {path}, and for {ARCHIVE} of the GLUE benchmark "
            f"with {FOLDER}/{name} in it ({error}). Put either there, or set SHARPFLAT_DATA to the folder "
            "that holds it."
        ) from error
    verify(content, md5, what=where, algorithm="md5")
    return content.decode()


def parse(text: str) -> Sentences:
    """Return the sentences of a file of the archive.

    Raises:
        DataError: A line is not a sentence, a tab and 0 or 1.
    """
    header, *lines = text.rstrip("\n").split("\n")
    if header != HEADER:
        raise DataError(f"SST-2: expected the first line {HEADER!r}, found {header[:60]!r}.")
    sentences: Sentences = []
    for number, line in enumerate(lines, start=2):
        sentence, tab, label = line.rpartition("\t")
        if not tab or label not in ("0", "1"):
            raise DataError(
                f"SST-2: line {number}: expected a sentence, a tab and 0 or 1, found {line[:60]!r}."
            )
        sentences.append((sentence.split(), int(label)))
    return sentences


def vocabulary(sentences: Iterable[Sequence[str]], size: int) -> dict[str, int]:
    """Return the numbers of the most frequent words; `size` counts padding and the unknown word too."""
    counts = Counter(word for sentence in sentences for word in sentence)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(ranked[: size - FIRST_WORD], start=FIRST_WORD)}


def numbers(sentence: Sequence[str], words: Mapping[str, int], length: int) -> list[int]:
    """Return the numbers of a sentence's words, cut or padded to `length`."""
    found = [words.get(word, UNKNOWN) for word in sentence[:length]]
    return found + [PADDING] * (length - len(found))


def _sizes(options: Mapping[str, OptionValue]) -> Mapping[str, Any]:
    return {"input_shape": (options["length"],), "vocabulary": options["vocabulary"]}


def _load_all(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    return load(folder, options)


def _load_first(folder: Path, options: Mapping[str, OptionValue]) -> Dataset:
    return load(folder, options, num_train=NUM_SUBSET)


_OPTIONS = {
    "length": Option(default=32, minimum=1),
    "vocabulary": Option(default=4096, minimum=FIRST_WORD + 1),
    **LABELS,
}

SST2 = DatasetEntry(
    load=_load_all,
    digest=SOURCE.digest,
    num_train=NUM_TRAIN,
    num_test=NUM_TEST,
    input_shape=(32,),
    num_outputs=2,
    vocabulary=4096,
    options=_OPTIONS,
    sizes=_sizes,
)
SST2_1K = DatasetEntry(
    load=_load_first,
    digest=SOURCE.digest,
    num_train=NUM_SUBSET,
    num_test=NUM_TEST,
    input_shape=(32,),
    num_outputs=2,
    vocabulary=4096,
    options=_OPTIONS,
    sizes=_sizes,
)
