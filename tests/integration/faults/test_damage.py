"""Files of the store damaged by hand, or hostile: found, named, never run; what was before is used."""

import os
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces import load_space_text
from sweep import names
from sweep.errors import StorageError
from sweep.grid_table import grid_table
from sweep.ledger import Ledger
from sweep.pack import Pack
from sweep.plan import make_plan
from sweep.storage import Manifest, Storage, StoredFile
from sweep.storage.manifest import encode_manifest
from tests.integration.faults.grid import SPACE, Grid

STEPS, COMMITS = 500, (150, 300)
YAML_THAT_RUNS = "!!python/object/apply:os.system ['touch hostile-code-was-run']"


class Hostile:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self._mark),)


class Store:
    """The files of an interrupted grid."""

    def __init__(self, root: Path, mark: Path, draw: random.Random) -> None:
        self.storage = Storage.open(root)
        self.pickled = pickle.dumps(Hostile(mark))
        self._root = root
        self._draw = draw

    def newest(self, cell: str) -> Manifest:
        manifest, problems = self.storage.latest(cell)
        assert manifest is not None and not problems
        assert manifest.checkpoint is not None
        return manifest

    def checkpoint(self, cell: str) -> str:
        stored = self.newest(cell).checkpoint
        assert stored is not None
        return stored.file

    def truncate(self, file: str) -> str:
        path = self._root / file
        size = path.stat().st_size
        os.truncate(path, self._draw.randrange(size))
        return file

    def flip(self, file: str) -> str:
        path = self._root / file
        data = bytearray(path.read_bytes())
        data[self._draw.randrange(len(data))] ^= 1 << self._draw.randrange(8)
        path.write_bytes(data)
        return file

    def delete(self, file: str) -> str:
        (self._root / file).unlink()
        return file

    def replace(self, file: str, data: bytes) -> str:
        (self._root / file).write_bytes(data)
        return file


def flip_every_checkpoint(store: Store, cell: str) -> str:
    file = store.checkpoint(cell)
    for manifest in list(store.storage.manifests(cell)):
        assert manifest.checkpoint is not None
        store.flip(manifest.checkpoint.file)
    return file


def plant_pickle(store: Store, cell: str) -> str:
    return store.replace(store.checkpoint(cell), store.pickled)


def plant_pickle_with_its_digest(store: Store, cell: str) -> str:
    """As above, by someone who can compute digests."""
    manifest = store.newest(cell)
    file = store.checkpoint(cell)
    store.replace(file, store.pickled)
    forged = replace(manifest, checkpoint=StoredFile.of(file, store.pickled))
    store.replace(manifest.file, encode_manifest(forged))
    # Its digest is right, so it is the content that gives it away.
    return f"{cell}, step {manifest.step}"


DAMAGES: dict[str, Callable[[Store, str], str]] = {
    "checkpoint truncated": lambda store, cell: store.truncate(store.checkpoint(cell)),
    "checkpoint flipped": lambda store, cell: store.flip(store.checkpoint(cell)),
    "checkpoint deleted": lambda store, cell: store.delete(store.checkpoint(cell)),
    "part truncated": lambda store, cell: store.truncate(store.newest(cell).parts[-1].stored.file),
    "part flipped": lambda store, cell: store.flip(store.newest(cell).parts[-1].stored.file),
    "part deleted": lambda store, cell: store.delete(store.newest(cell).parts[-1].stored.file),
    "manifest truncated": lambda store, cell: store.truncate(store.newest(cell).file),
    "manifest flipped": lambda store, cell: store.flip(store.newest(cell).file),
    "all checkpoints flipped, so nothing is left": flip_every_checkpoint,
    "first part deleted, so nothing is left": lambda store, cell: store.delete(
        store.newest(cell).parts[0].stored.file
    ),
    "pickle as a checkpoint": plant_pickle,
    "pickle with its digest": plant_pickle_with_its_digest,
}


def test_damaged_files_are_named_and_what_was_before_is_used(
    make_grid: Callable[..., Grid], draw: random.Random, tmp_path: Path, ray: tuple[str, str]
) -> None:
    seeds = list(range(len(DAMAGES)))
    space = SPACE.replace("beta_bulk: [1, 0.9]", "beta_bulk: [1]").replace("seed: [0, 1]", f"seed: {seeds}")
    grid = make_grid(steps=STEPS, space=space, options=ray)
    mark = tmp_path / "hostile code was run"
    store = Store(grid.storage, mark, draw)
    named: dict[str, str] = {}
    for (damage, inflict), point in zip(DAMAGES.items(), load_space_text(grid.text).points(), strict=True):
        pack = Pack([point.cell], store.storage, data_folder=tmp_path)
        for step in COMMITS:
            pack.trainer.advance(step)
            (committed,) = pack.commit()
        assert 0 < committed.step < STEPS
        named[damage] = inflict(store, committed.cell_id)
    said = grid.finish(grid.start())
    for damage, name in named.items():
        assert name in said, f"{damage}: {name} is not named in:\n{said}"
    grid.assert_complete()
    assert not mark.exists()


def test_a_pickle_as_a_part_is_an_error(tmp_path: Path, draw: random.Random) -> None:
    text = SPACE.replace("STEPS", str(STEPS))
    cell = next(iter(load_space_text(text).points())).cell
    mark = tmp_path / "hostile code was run"
    store = Store(tmp_path / "store", mark, draw)
    pack = Pack([cell], store.storage, data_folder=tmp_path)
    pack.trainer.advance(COMMITS[0])
    (committed,) = pack.commit()
    manifest = store.newest(committed.cell_id)
    (part,) = manifest.parts
    forged = replace(part, stored=StoredFile.of(part.stored.file, store.pickled))
    store.replace(part.stored.file, store.pickled)
    store.replace(manifest.file, encode_manifest(replace(manifest, parts=(forged,))))
    with pytest.raises(StorageError, match=part.stored.file):
        store.storage.read_parts(store.newest(committed.cell_id))
    assert not mark.exists()


def test_yaml_runs_no_code(make_grid: Callable[..., Grid]) -> None:
    grid = make_grid()
    # Relative to the working folder of the command.
    hostile = SPACE.replace("STEPS", "10").replace("mlp", YAML_THAT_RUNS)
    (grid.home.folder / "grid.yaml").write_text(hostile)
    said = grid.finish(grid.start(), code=2)
    assert "error: " in said and "python/object" in said
    space = load_space_text(grid.text)
    plan = make_plan(space)
    table = grid_table(plan.grids, plan.axes, plan.cell_ids)
    ledger = Ledger.open(grid.tracking_uri, artifacts_root=grid.home.folder / "artifacts")
    sweep = ledger.open_sweep(space, table)
    ledger.artifacts.put(sweep.run_id, names.ARTIFACT_SPACE, hostile.encode())
    said = grid.resume(code=2)
    assert "error: " in said and "python/object" in said
    assert list(grid.home.folder.glob("hostile*")) == []
