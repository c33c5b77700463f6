"""SST-2 from small files of the real format."""

import hashlib
import zipfile
from pathlib import Path

import pytest
import torch

from trainers.data import DATASETS, sst2
from trainers.data.sst2 import ARCHIVE, FOLDER, GlueSource, numbers, parse, vocabulary
from trainers.errors import DataError
from trainers.options import Choice

TRAIN = "sentence\tlabel\nhide new secretions \t0\na film of film and a plot \t1\nthe plot \t1\n"
DEV = "sentence\tlabel\nit 's a charming film . \t1\n"
OPTIONS = {"length": 5, "vocabulary": 6}


def write(folder: Path, *, zipped: bool, train: str = TRAIN) -> GlueSource:
    files = {"train.tsv": train, "dev.tsv": DEV}
    if zipped:
        with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:
            for name, text in files.items():
                archive.writestr(f"{FOLDER}/{name}", text)
    else:
        (folder / FOLDER).mkdir()
        for name, text in files.items():
            (folder / FOLDER / name).write_text(text)
    sums = [hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() for text in files.values()]
    return GlueSource(train=sums[0], dev=sums[1])


@pytest.mark.parametrize("zipped", [True, False])
def test_sentences_become_numbers(tmp_path: Path, zipped: bool) -> None:
    data = sst2.load(tmp_path, OPTIONS, source=write(tmp_path, zipped=zipped))
    # a, film and plot occur twice; of the words that occur once, "and" is the first: numbers 2 to 5.
    assert data.train_inputs.tolist() == [[1, 1, 1, 0, 0], [2, 3, 1, 3, 5], [1, 4, 0, 0, 0]]
    assert data.train_labels.tolist() == [0, 1, 1]
    assert data.test_inputs.tolist() == [[1, 1, 2, 1, 3]]
    assert data.test_labels.tolist() == [1]
    assert data.train_inputs.dtype == torch.float32


def test_the_vocabulary_is_that_of_the_sentences_in_use(tmp_path: Path) -> None:
    data = sst2.load(tmp_path, OPTIONS, num_train=1, source=write(tmp_path, zipped=True))
    assert data.train_inputs.tolist() == [[2, 3, 4, 0, 0]]


def test_ranks_and_padding() -> None:
    words = vocabulary([["b", "a", "c", "c"], ["d"]], 5)
    assert words == {"c": 2, "a": 3, "b": 4}
    assert numbers(["d", "c"], words, 4) == [1, 2, 0, 0]
    assert numbers(["a", "b", "c"], words, 2) == [3, 4]


def test_a_tab_within_a_sentence_belongs_to_it() -> None:
    assert parse("sentence\tlabel\na\tb \t1\n") == [(["a", "b"], 1)]


@pytest.mark.parametrize(
    "text", ["label\tsentence\n", "sentence\tlabel\nno label\n", "sentence\tlabel\na\t2\n"]
)
def test_another_format_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="SST-2: "):
        parse(text)


def test_missing_and_damaged_files_are_answered(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'sst2' is not in .*SST-2\.zip.*SHARPFLAT_DATA"):
        sst2.load(tmp_path, OPTIONS)
    source = write(tmp_path, zipped=True)
    with pytest.raises(DataError, match="expected MD5"):
        sst2.load(tmp_path, OPTIONS)
    (tmp_path / ARCHIVE).write_bytes(b"no archive")
    with pytest.raises(DataError, match="is not in"):
        sst2.load(tmp_path, OPTIONS, source=source)


def test_sizes_follow_the_options() -> None:
    for name, count in (("sst2", 67_349), ("sst2-1k", 1_000)):
        entry = DATASETS[name]
        options = Choice.of(name, length=7).resolve("dataset", entry.options)
        assert (entry.under(options).input_shape, entry.num_train) == ((7,), count)
