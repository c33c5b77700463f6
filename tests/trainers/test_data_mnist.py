"""MNIST-5k as shipped, and the IDX readers."""

import gzip
import hashlib
import lzma
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trainers.data import DATASETS, build_mnist_5k, idx, mnist
from trainers.data.normalization import PixelSums
from trainers.errors import DataError

SHIPPED = Path(mnist.__file__).with_name(mnist.SHIPPED_FILE)
MNIST_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"

needs_mnist = pytest.mark.skipif(
    not (MNIST_FOLDER / "MNIST" / "raw").is_dir(), reason="the whole of MNIST is not beside this checkout"
)


@pytest.fixture
def tiny_source(tmp_path: Path) -> mnist.IdxSource:
    """A complete source of 12 training and 4 test images under `tmp_path`."""
    return write_source(tmp_path, compress=True)


def write_source(folder: Path, *, compress: bool, of_archives: bool = False) -> mnist.IdxSource:
    generator = np.random.default_rng(0)
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    sums: list[str] = []
    for name, count in zip(mnist.PARTS, (12, 12, 4, 4), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        content = idx.record_bytes(generator.integers(0, 10, shape, np.uint8))
        stored = gzip.compress(content, mtime=0) if compress else content
        (raw / (f"{name}.gz" if compress else name)).write_bytes(stored)
        sums.append(hashlib.md5(stored if of_archives else content, usedforsecurity=False).hexdigest())
    return mnist.IdxSource(
        name="tiny",
        torchvision_class="MNIST",
        md5s=(sums[0], sums[1], sums[2], sums[3]),
        of_archives=of_archives,
    )


def test_shipped_data_is_what_the_entry_says() -> None:
    entry = DATASETS["mnist-5k"]
    data = entry.load(Path("not needed"), {"normalize": "scale"})
    assert data.train_inputs.shape == (entry.num_train, *entry.input_shape) == (5000, 1, 28, 28)
    assert data.test_inputs.shape == (entry.num_test, *entry.input_shape) == (10_000, 1, 28, 28)
    assert data.train_inputs.dtype == data.test_inputs.dtype == torch.float32
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64
    assert data.num_outputs == entry.num_outputs == 10
    # The first labels of the two sets as everybody knows them, and MNIST's published count of test classes.
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.test_labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_scale_divides_by_255_and_no_more() -> None:
    inputs = DATASETS["mnist-5k"].load(Path(), {"normalize": "scale"}).train_inputs
    steps = inputs * 255
    assert inputs.min() == 0
    assert inputs.max() == 1
    assert torch.equal((steps.round() / 255), inputs)


def test_standardize_uses_the_statistics_of_all_of_mnist() -> None:
    scaled = DATASETS["mnist-5k"].load(Path(), {"normalize": "scale"}).test_inputs
    standardized = DATASETS["mnist-5k"].load(Path(), {"normalize": "standardize"}).test_inputs
    # The mean and standard deviation that every tutorial gives, to their four digits.
    torch.testing.assert_close(standardized, (scaled - 0.1307) / 0.3081, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("damage", ["flip", "cut", "other", "gone"])
def test_a_damaged_package_file_is_refused(damage: str, tmp_path: Path) -> None:
    target = tmp_path / "mnist.xz"
    content = bytearray(SHIPPED.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    elif damage == "cut":
        content = content[:-1000]
    elif damage == "other":
        content = bytearray(lzma.compress(b"something else"))
    if damage != "gone":
        target.write_bytes(content)
    with pytest.raises(DataError, match=r"mnist\.xz") as raised:
        mnist.load_shipped(target, {"normalize": "scale"})
    if damage == "other":
        found = hashlib.sha256(b"something else").hexdigest()
        assert mnist.SHIPPED_SHA256 in str(raised.value)
        assert found in str(raised.value)


@needs_mnist
def test_rebuilding_gives_the_shipped_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As it is compressed when it ships takes ten seconds.
    monkeypatch.setattr(build_mnist_5k, "FILTERS", [{"id": lzma.FILTER_LZMA2, "preset": 0}])
    target = tmp_path / "again.xz"
    source = MNIST_FOLDER / "MNIST" / "raw"
    assert build_mnist_5k.main(["--source", str(source), "--target", str(target)]) == 0
    assert lzma.decompress(target.read_bytes()) == lzma.decompress(SHIPPED.read_bytes())


def test_the_compressor_is_deterministic() -> None:
    # Another version of it may choose other bytes for the same content; one version does not.
    content = lzma.decompress(SHIPPED.read_bytes())[:300_000]
    assert build_mnist_5k.compressed(content) == build_mnist_5k.compressed(bytes(bytearray(content)))


@needs_mnist
@pytest.mark.parametrize("how", ["scale", "standardize"])
def test_the_subset_is_the_beginning_of_the_whole(how: str) -> None:
    subset = DATASETS["mnist-5k"].load(Path(), {"normalize": how})
    whole = DATASETS["mnist"].load(MNIST_FOLDER, {"normalize": how})
    assert whole.train_inputs.shape == (60_000, 1, 28, 28)
    assert torch.equal(whole.train_inputs[:5000], subset.train_inputs)
    assert torch.equal(whole.train_labels[:5000], subset.train_labels)
    assert torch.equal(whole.test_inputs, subset.test_inputs)
    assert torch.equal(whole.test_labels, subset.test_labels)
    if how == "standardize":
        double = whole.train_inputs.double()
        assert abs(double.mean().item()) < 1e-6
        assert abs(double.std(correction=0).item() - 1) < 1e-6


def test_the_build_script_refuses_another_source(
    tmp_path: Path, tiny_source: mnist.IdxSource, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "made.xz"
    code = build_mnist_5k.main(["--source", str(tmp_path / "MNIST" / "raw"), "--target", str(target)])
    assert code == 2
    assert mnist.MNIST_SOURCE.md5s[0] in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize("compress", [True, False])
def test_reads_plain_files_and_archives(tmp_path: Path, compress: bool) -> None:
    source = write_source(tmp_path, compress=compress)
    data = mnist.load_source(tmp_path, {"normalize": "scale"}, source)
    raw = mnist.read_source(tmp_path / "MNIST" / "raw", source)
    np.testing.assert_allclose(data.train_inputs.numpy()[:, 0], raw[0] / 255, rtol=1e-7)
    assert data.test_labels.tolist() == raw[3].tolist()


def test_sums_of_archives_are_compared_with_the_archives(tmp_path: Path) -> None:
    source = write_source(tmp_path, compress=True, of_archives=True)
    mnist.load_source(tmp_path, {"normalize": "scale"}, source)
    archive = tmp_path / "MNIST" / "raw" / f"{mnist.PARTS[2]}.gz"
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()), mtime=1))
    with pytest.raises(DataError, match=source.md5s[2]):
        mnist.load_source(tmp_path, {"normalize": "scale"}, source)


@pytest.mark.parametrize("part", range(4))
def test_a_wrong_byte_in_any_file_is_refused(part: int, tmp_path: Path) -> None:
    source = write_source(tmp_path, compress=False)
    file = tmp_path / "MNIST" / "raw" / mnist.PARTS[part]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    with pytest.raises(DataError) as raised:
        mnist.load_source(tmp_path, {"normalize": "scale"}, source)
    for said in (str(file), source.md5s[part], found):
        assert said in str(raised.value)


def test_half_an_archive_is_refused(tmp_path: Path, tiny_source: mnist.IdxSource) -> None:
    archive = tmp_path / "MNIST" / "raw" / f"{mnist.PARTS[0]}.gz"
    archive.write_bytes(archive.read_bytes()[:500])
    with pytest.raises(DataError, match="not a whole gzip archive"):
        mnist.load_source(tmp_path, {"normalize": "scale"}, tiny_source)


def test_a_complete_folder_is_not_written_to(tmp_path: Path, tiny_source: mnist.IdxSource) -> None:
    before = sorted(tmp_path.rglob("*"))
    mnist.load_source(tmp_path, {"normalize": "scale"}, tiny_source)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not idx at all", "expected an IDX record of bytes at byte 0"),
        (b"\0\0\x08\x01\0\0\0\x05abc", "ends early"),
        (b"\0\0\x08\x02\0\0", "ends early"),
        (b"\0\0\x0d\x01\0\0\0\x01abcd", "expected an IDX record of bytes"),
        (b"\0\0\x08", "expected an IDX record of bytes"),
    ],
)
def test_damaged_records_are_errors_for_the_user(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        idx.parse_records(content, origin="somewhere")


def test_records_round_trip() -> None:
    generator = np.random.default_rng(1)
    arrays = [generator.integers(0, 256, shape, np.uint8) for shape in [(3, 4, 5), (7,), (0, 2), (2, 1)]]
    content = b"".join(map(idx.record_bytes, arrays))
    for found, stored in zip(idx.parse_records(content, origin="memory"), arrays, strict=True):
        assert np.array_equal(found, stored)
        assert found.shape == stored.shape


def test_pixel_sums_are_exact() -> None:
    images = np.random.default_rng(2).integers(0, 256, (2_500, 3, 5), np.uint8)
    images[:, 0, 0] = 77
    sums = PixelSums.of(images)
    assert sums.values.tolist() == images.astype(object).sum(0).tolist()
    assert sums.squares.tolist() == (images.astype(object) ** 2).sum(0).tolist()
    np.testing.assert_allclose(sums.spread() / sums.count, images.std(0, dtype=np.float64), atol=1e-10)
    assert sums.spread()[0, 0] == 0
    pooled = sums.pooled()
    np.testing.assert_allclose(pooled.spread() / pooled.count, images.std(dtype=np.float64), rtol=1e-12)


def test_planning_imports_neither_torch_nor_torchvision() -> None:
    code = "import sys, trainers.data; print(sorted({'torch', 'torchvision'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
