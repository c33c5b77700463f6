"""One contract over every kind of file system, then what a store refuses and says when it cannot write."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import fs

from sweep.errors import StorageError, StorageUnavailableError
from sweep.storage import Manifest, Storage
from sweep.storage.files import RemoteFiles
from sweep.storage.manifest import decode_manifest, encode_manifest
from sweep.storage.parts import encode_part

CELL = "0123456789abcdef"


@pytest.fixture(params=["local", "remote"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage.open(tmp_path / "a store")
    (tmp_path / "a store").mkdir()
    return Storage(RemoteFiles("remote", fs.LocalFileSystem(), str(tmp_path / "a store")))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "a store"


def rows(start: int, stop: int, **series: float) -> pa.Table:
    steps = list(range(start, stop))
    columns = {"step": steps, "timestamp_ms": [1000 + step if step % 2 == 0 else None for step in steps]}
    table = pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})
    for name, value in series.items():
        table = table.append_column(name, pa.array([value + step for step in steps], pa.float64()))
    return table


def commit(
    storage: Storage, stop: int, previous: Manifest | None = None, attempt: int = 1, **more: object
) -> Manifest:
    start = previous.step if previous else 0
    return storage.commit(
        CELL,
        attempt=attempt,
        step=stop,
        checkpoint=f"state {stop}".encode(),
        part=rows(start, stop, loss=0.5),
        previous=previous,
        **more,  # type: ignore[arg-type]
    )


def chain(storage: Storage, *stops: int) -> Manifest:
    manifest = None
    for stop in stops:
        manifest = commit(storage, stop, manifest)
    assert manifest is not None
    return manifest


def test_a_commit_reads_back(storage: Storage) -> None:
    first = commit(storage, 10, summary={"finals": {"final/train_loss": 0.25, "worst": float("inf")}})
    second = commit(storage, 25, first, outcome={"status": "completed", "reason": ""})
    found, problems = storage.latest(CELL)
    assert problems == []
    assert found == second
    assert storage.read_checkpoint(second) == b"state 25"
    table = storage.read_parts(second)
    assert table["step"].to_pylist() == list(range(25))
    assert table["loss"].to_pylist() == [0.5 + step for step in range(25)]
    assert storage.read_parts(second, from_step=11)["step"].to_pylist() == list(range(10, 25))
    assert storage.latest(CELL, max_step=24)[0] == first
    assert first.summary == {"finals": {"final/train_loss": 0.25, "worst": float("inf")}}


def test_nothing_stored_is_nothing_found(storage: Storage) -> None:
    assert storage.latest(CELL) == (None, [])
    assert storage.next_attempt(CELL) == 1
    assert storage.usage(CELL) == 0
    assert storage.prune(CELL) == 0
    assert storage.delete(CELL) == 0


def test_later_attempts_win_at_the_same_step_and_keep_their_own_files(storage: Storage) -> None:
    first = commit(storage, 10, attempt=1)
    second = commit(storage, 10, attempt=2)
    assert storage.latest(CELL)[0] == second
    assert storage.read_checkpoint(first) == b"state 10"
    assert storage.next_attempt(CELL) == 3


@pytest.mark.parametrize("victim", ["checkpoints", "history", "manifests"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damage_is_named_and_the_commit_before_is_used(
    storage: Storage, root: Path, victim: str, damage: str
) -> None:
    first = commit(storage, 10)
    commit(storage, 20, first)
    path = max((root / "cells" / CELL / victim).iterdir())
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(data[:-3] if damage == "truncate" else data)
    found, problems = storage.latest(CELL)
    assert found == first
    if (victim, damage) == ("manifests", "delete"):
        assert problems == []
    else:
        assert len(problems) == 1
        assert path.name in problems[0]


def test_when_everything_is_damaged_nothing_is_used(storage: Storage, root: Path) -> None:
    chain(storage, 10, 20)
    for path in (root / "cells" / CELL / "history").iterdir():
        path.write_bytes(b"PAR1")
    found, problems = storage.latest(CELL)
    assert found is None
    assert len(problems) == 2


def test_a_part_damaged_after_the_fact_is_not_read(storage: Storage, root: Path) -> None:
    manifest = commit(storage, 10)
    path = root / manifest.parts[0].stored.file
    path.write_bytes(encode_part(rows(0, 10, loss=0.75)))
    with pytest.raises(StorageError, match=r"part-000000000-000000010\.a1\.parquet is damaged"):
        storage.read_parts(manifest)


def test_prune_keeps_the_newest_and_their_history(storage: Storage, root: Path) -> None:
    last = chain(storage, 10, 20, 30, 40)
    before = storage.usage(CELL)
    freed = storage.prune(CELL, keep=2)
    assert freed > 0
    assert storage.usage(CELL) == before - freed
    assert len(list((root / "cells" / CELL / "checkpoints").iterdir())) == 2
    assert len(list((root / "cells" / CELL / "manifests").iterdir())) == 2
    assert storage.read_parts(last)["step"].to_pylist() == list(range(40))
    assert storage.latest(CELL, max_step=39)[0] is not None
    assert storage.latest(CELL, max_step=29)[0] is None


def test_prune_keeps_what_is_trained_again_after_damage(storage: Storage, root: Path) -> None:
    old = chain(storage, 10, 20, 30)
    storage.prune(CELL)
    (root / old.parts[0].stored.file).unlink()
    assert storage.latest(CELL)[0] is None
    made: Manifest | None = None
    for step in (4, 8, 12, 16, 24, 36):
        made = commit(storage, step, made, attempt=2)
        storage.prune(CELL)
        assert storage.latest(CELL)[0] == made, "a kill here would lose all of it"
        assert storage.latest(CELL, max_step=step - 1)[0] is not None or step == 4
        names = [path.name for path in (root / "cells" / CELL / "checkpoints").iterdir()]
        assert sum(".a2." in name for name in names) <= 2
    assert made is not None
    commit(storage, 40, made, attempt=2, outcome={"status": "completed"})
    storage.prune(CELL, keep=1)
    assert len(list((root / "cells" / CELL / "manifests").iterdir())) == 1


def test_a_request_to_stop_is_one_sweeps_own(storage: Storage) -> None:
    mine, other = storage.stops("mine"), storage.stops("other")
    mine.put(CELL, "asked")
    assert (mine.all(), mine.reason(CELL), other.all()) == ({CELL}, "asked", set())
    other.clear_all()
    assert mine.all() == {CELL}
    mine.clear_all()
    assert mine.all() == set()


def test_an_end_at_the_step_of_the_commit_before_leaves_that_one_whole_until_it_is_there(
    storage: Storage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, before = storage._files.put, chain(storage, 10, 20)

    def killed_before_its_manifest(path: str, data: bytes) -> None:
        if "/manifests/" in path:
            raise KeyboardInterrupt
        put(path, data)

    def end() -> Manifest:
        return storage.commit(
            CELL,
            attempt=1,
            step=20,
            checkpoint=b"the end",
            part=rows(10, 21, loss=2.0),
            start=10,
            previous=first,
            outcome={"status": "stopped"},
        )

    first = storage.manifest(CELL, 10, 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(storage._files, "put", killed_before_its_manifest)
        end()
    assert storage.latest(CELL) == (before, [])
    ended = end()
    assert storage.latest(CELL) == (ended, [])
    storage.prune(CELL, keep=1)
    assert storage.latest(CELL) == (ended, [])
    assert len(list((root / "cells" / CELL / "checkpoints").iterdir())) == 1
    assert storage.next_attempt(CELL) == 2


def test_an_end_that_a_kill_left_half_written_is_removed_by_the_next_attempt(
    storage: Storage, root: Path
) -> None:
    chain(storage, 10, 20)
    left = root / "cells" / CELL / "checkpoints" / "step-000000020.a1.end.safetensors"
    left.write_bytes(b"the end")
    chained = commit(storage, 30, storage.latest(CELL)[0], attempt=2)
    storage.prune(CELL, keep=1)
    assert storage.latest(CELL) == (chained, []) and not left.exists()


def test_prune_leaves_a_commit_that_is_being_written(storage: Storage, root: Path) -> None:
    chain(storage, 10, 20, 30)
    being_written = root / "cells" / CELL / "checkpoints" / "step-000000040.a1.safetensors"
    being_written.write_bytes(b"state 40")
    temporary = root / "cells" / CELL / "history" / ".part-000000030-000000040.a1.parquet.00ff00ff.tmp"
    temporary.write_bytes(b"half")
    storage.prune(CELL, keep=1)
    assert being_written.exists()
    assert temporary.exists()


def test_prune_of_an_ended_cell_removes_what_nothing_lists(storage: Storage, root: Path) -> None:
    stale = commit(storage, 20, attempt=1)
    first = commit(storage, 10, attempt=2)
    last = commit(storage, 30, first, attempt=2, outcome={"status": "completed"})
    temporary = root / "cells" / CELL / "history" / ".part-000000000-000000015.a1.parquet.00ff00ff.tmp"
    temporary.write_bytes(b"half")
    storage.prune(CELL, keep=1)
    assert not temporary.exists()
    assert not (root / stale.parts[0].stored.file).exists()
    assert storage.latest(CELL) == (last, [])
    assert storage.read_parts(last).num_rows == 30


def test_delete_frees_what_usage_says(storage: Storage) -> None:
    chain(storage, 10, 20)
    usage = storage.usage(CELL)
    assert storage.usage() == usage > 0
    assert storage.delete(CELL) == usage
    assert storage.latest(CELL) == (None, [])


def test_a_history_with_a_gap_is_refused(storage: Storage) -> None:
    first = commit(storage, 10)
    with pytest.raises(StorageError, match="ends at step 10 and goes on at 15"):
        storage.commit(CELL, attempt=1, step=20, checkpoint=b"", part=rows(15, 20), start=15, previous=first)


def test_a_commit_without_a_checkpoint_keeps_that_of_its_step(storage: Storage) -> None:
    first = commit(storage, 10)
    ended = storage.commit(
        CELL, attempt=1, step=10, checkpoint=None, part=None, previous=first, outcome={"status": "stopped"}
    )
    assert ended.checkpoint == first.checkpoint
    assert storage.latest(CELL)[0] == ended


def test_histories_keep_null_nan_and_infinity_apart_and_have_fixed_bytes(storage: Storage) -> None:
    values = [1.0, None, float("nan"), float("inf"), float("-inf")]
    table = pa.table({"step": range(5), "loss": pa.array(values, pa.float64(), from_pandas=False)})
    assert encode_part(table) == encode_part(pa.concat_tables([table.slice(0, 2), table.slice(2)]))
    manifest = storage.commit(CELL, attempt=1, step=5, checkpoint=b"", part=table, previous=None)
    column = storage.read_parts(manifest)["loss"]
    assert column.null_count == 1
    expected = np.array([1.0, np.nan, np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(column.to_numpy(), expected)
    assert column[2].as_py() is not None


def test_parts_with_different_series_join(storage: Storage) -> None:
    first = storage.commit(CELL, attempt=1, step=2, checkpoint=b"", part=rows(0, 2, loss=0.0), previous=None)
    second = storage.commit(CELL, attempt=1, step=4, checkpoint=b"", part=rows(2, 4, chi=0.0), previous=first)
    table = storage.read_parts(second)
    assert table["loss"].to_pylist() == [0.0, 1.0, None, None]
    assert table["chi"].to_pylist() == [None, None, 2.0, 3.0]


def test_a_full_history_is_small() -> None:
    steps = np.arange(20_000)
    table = pa.table({"step": steps, "loss": np.exp(-steps / 5000) + 1e-3 * np.sin(steps)})
    assert len(encode_part(table)) < 8 * len(steps)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.update(schema=2),
        lambda facts: facts.update(step="many"),
        lambda facts: facts["parts"][0].update(file="cells/../../etc/passwd"),
        lambda facts: facts["checkpoint"].update(file="/etc/passwd"),
        lambda facts: facts.update(parts=None),
        lambda facts: facts.pop("summary"),
    ],
)
def test_a_hostile_manifest_with_a_right_digest_is_refused(
    storage: Storage, change: Callable[[dict[str, object]], object]
) -> None:
    import hashlib

    facts = json.loads(encode_manifest(commit(storage, 10)))
    facts.pop("sha256")
    change(facts)
    facts["sha256"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    with pytest.raises(StorageError, match="damaged"):
        decode_manifest(json.dumps(facts).encode(), "hostile")


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"[" * 100_000, b"\xff\xfe", b"{}"])
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(StorageError, match="damaged"):
        decode_manifest(data, "noise")


def test_a_manifest_of_another_cell_is_refused(storage: Storage, root: Path) -> None:
    manifest = commit(storage, 10)
    target = root / "cells" / "feedfacefeedface" / "manifests" / Path(manifest.file).name
    target.parent.mkdir(parents=True)
    target.write_bytes((root / manifest.file).read_bytes())
    found, problems = storage.latest("feedfacefeedface")
    assert found is None
    assert "another commit" in problems[0]


@pytest.mark.parametrize("cell_id", ["", "..", "a/b", "a b"])
def test_a_cell_id_is_never_a_path(storage: Storage, cell_id: str) -> None:
    with pytest.raises(StorageError, match="not a cell id"):
        storage.latest(cell_id)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
def test_a_failed_write_says_why_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    storage = Storage.open(tmp_path)
    first = commit(storage, 10)
    before = sorted(tmp_path.rglob("*"))

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match="could not be written"):
            commit(storage, 20, first)
    assert sorted(tmp_path.rglob("*")) == before
    assert storage.latest(CELL) == (first, [])


def test_a_place_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailableError, match="a file is in the way"):
        Storage.open(tmp_path / "file" / "store")


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "storage.json").write_text('{"format": "sharpflat-storage", "version": 99}')
    with pytest.raises(StorageUnavailableError, match="another format"):
        Storage.open(tmp_path)


def test_a_uri_nobody_knows_is_refused() -> None:
    with pytest.raises(StorageUnavailableError, match="cannot be opened"):
        Storage.open("gopher://somewhere/else")


def test_a_place_reopens_from_its_own_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage.open("relative store")
    commit(storage, 10)
    monkeypatch.chdir("/")
    assert Storage.open(storage.place).latest(CELL)[0] is not None
    assert Storage.open((tmp_path / "relative store").as_uri()).latest(CELL)[0] is not None
