"""Packs against the store: resumed, forked and undisturbed runs give the same bits."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from sweep.errors import StorageError
from sweep.forks import fork_at
from sweep.lane_results import finals_of
from sweep.pack import Pack
from sweep.packs import make_packs, pack_name
from sweep.reopening import reopen_stored
from sweep.starting_points import starting_points
from sweep.storage import Storage
from sweep.storage.files import LocalFiles
from sweep.storage.layout import root_of
from trainers.canonical import cell_id
from trainers.cell import Cell, Condition, Phase, Probe
from trainers.checkpoint import decode
from trainers.data import Dataset
from trainers.options import Choice

STEPS = 60


@pytest.fixture(scope="module")
def data() -> Dataset:
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (5000,), generator=draw)
    centres = torch.randn(10, 28 * 28, generator=draw)
    inputs = (centres[labels] + torch.randn(5000, 28 * 28, generator=draw)).view(-1, 1, 28, 28) / 3
    return Dataset(
        train_inputs=inputs,
        train_labels=labels,
        test_inputs=inputs[:200],
        test_labels=labels[:200],
        num_outputs=10,
    )


def cell(*phases: Phase) -> Cell:
    return Cell(
        model=Choice.of("mlp", widths=(8,)),
        dataset=Choice.of("mnist-5k"),
        phases=phases,
        holdout_size=50,
        refresh_every=7,
        evaluate_every=9,
        probes=(Probe(name="curvature", every=8, options=(("holdout_size", 50), ("k", 3))),),
    )


def sgd(until: int) -> Phase:
    return Phase(lr=0.05, until=until)


def bulk(until: int) -> Phase:
    return Phase(lr=0.05, alpha_dom=math.inf, k=4, until=until)


def run(
    one: Cell, storage: Storage, data: Dataset, *, leaves: Sequence[int] = (), until: int | None = None
) -> Pack:
    """Train a cell from what the store holds, to its end or up to a step, with a commit."""
    pack = Pack([one], storage, leaves=[leaves], data_folder=Path("unused"), data=data)
    while not pack.finished and (until is None or pack.trainer.step < until):
        pack.train(10.0, pauses=() if until is None else (until,))
    pack.commit()
    return pack


def result(one: Cell, storage: Storage) -> tuple[pa.Table, dict[str, torch.Tensor], dict[str, object]]:
    """The history without its timestamps, the last state, and the finals of a finished cell."""
    manifest, problems = storage.latest(cell_id(one))
    assert manifest is not None and manifest.outcome is not None and not problems
    history = storage.read_parts(manifest)
    return (
        history.drop_columns("timestamp_ms"),
        decode(storage.read_checkpoint(manifest)).tensors,
        manifest.summary["finals"],
    )


def assert_same(one: Cell, storage: Storage, reference: Storage) -> None:
    history, tensors, finals = result(one, storage)
    expected_history, expected_tensors, expected_finals = result(one, reference)
    assert history.equals(expected_history)
    assert finals == expected_finals
    assert tensors.keys() == expected_tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, expected_tensors[name]), name


CELLS = {
    "sgd": cell(sgd(STEPS)),
    "bulk": cell(sgd(20), bulk(STEPS)),
    "late": cell(sgd(20), bulk(41), sgd(STEPS)),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, data: Dataset) -> dict[str, Storage]:
    """Every cell trained undisturbed in a store of its own, with nothing to fork from; by cell id."""
    stores: dict[str, Storage] = {}
    for one in CELLS.values():
        stores[cell_id(one)] = Storage.open(tmp_path_factory.mktemp("alone"))
        run(one, stores[cell_id(one)], data)
    return stores


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("stop", [1, 7, 20, 27, 33, 41, 59])
def test_a_resumed_cell_equals_an_undisturbed_one(
    name: str, stop: int, reference: dict[str, Storage], data: Dataset, tmp_path: Path
) -> None:
    storage = Storage.open(tmp_path)
    run(CELLS[name], storage, data, until=stop)
    run(CELLS[name], storage, data)
    assert_same(CELLS[name], storage, reference[cell_id(CELLS[name])])


def test_forked_cells_equal_unforked_ones(
    reference: dict[str, Storage], data: Dataset, tmp_path: Path
) -> None:
    storage = Storage.open(tmp_path)
    run(CELLS["sgd"], storage, data, leaves=[20])
    pack = run(CELLS["bulk"], storage, data, leaves=[41], until=20)
    assert pack.trainer.step == 20, "it starts from what the first cell left"
    run(CELLS["bulk"], storage, data, leaves=[41])
    late = run(CELLS["late"], storage, data, until=41)
    assert late.trainer.step == 41
    run(CELLS["late"], storage, data)
    for one in CELLS.values():
        assert_same(one, storage, reference[cell_id(one)])
    manifest, _ = storage.latest(cell_id(CELLS["late"]))
    assert manifest is not None
    assert manifest.summary["forked_from"] == {"line": fork_at(CELLS["bulk"], 41).line, "step": 41}


def test_a_longer_run_goes_on_from_the_end_of_a_shorter_one(
    reference: dict[str, Storage], data: Dataset, tmp_path: Path
) -> None:
    storage = Storage.open(tmp_path)
    short = cell(sgd(20), bulk(50))
    run(short, storage, data)
    pack = Pack([CELLS["bulk"]], storage, data_folder=Path("unused"), data=data)
    assert pack.trainer.step == 50
    run(CELLS["bulk"], storage, data)
    assert_same(CELLS["bulk"], storage, reference[cell_id(CELLS["bulk"])])


def test_where_a_cell_ended_is_told_after_a_kill_and_after_a_state_was_left_there(
    data: Dataset, tmp_path: Path
) -> None:
    storage = Storage.open(tmp_path)
    short = cell(sgd(30))
    fork = fork_at(short, 30)
    run(CELLS["sgd"], storage, data, leaves=[30])
    run(short, storage, data)
    own, _ = storage.latest(cell_id(short))
    end, left = (one for one in storage.manifests(fork.line) if one.step == 30)
    assert own is not None and end.checkpoint == own.checkpoint != left.checkpoint
    # What was left for others goes, what says where a cell ended stays.
    storage.forget(fork.line, 30)
    assert [one for one in storage.manifests(fork.line) if one.step == 30] == [end]
    # As if it had been killed between its last commit and saying so.
    storage.delete(fork.line)
    run(short, storage, data)
    (again,) = storage.manifests(fork.line)
    assert again.checkpoint == own.checkpoint


def test_a_pack_begins_where_the_states_of_its_cells_are(
    reference: dict[str, Storage], data: Dataset, tmp_path: Path
) -> None:
    """As after a Ctrl-C between the state that one cell left and the start of the one that waits for it."""
    storage = Storage.open(tmp_path)
    run(CELLS["sgd"], storage, data, leaves=[20], until=33)
    fresh = dataclasses.replace(CELLS["bulk"], seed=1)
    cells = {cell_id(one): one for one in (fresh, CELLS["bulk"])}
    begins = starting_points(cells, storage, {}, lanes=2)
    packs = [
        Pack([cells[name] for name in names], storage, data_folder=Path("unused"), data=data)
        for names in make_packs(cells, {}, lanes=2, begins=begins)
    ]
    assert [pack.trainer.step for pack in packs] == [0, 20]
    packs[1].train(60.0)
    packs[1].commit()
    assert_same(CELLS["bulk"], storage, reference[cell_id(CELLS["bulk"])])


def test_a_cell_that_diverges_where_it_was_to_leave_its_state_has_not_left_it(
    data: Dataset, tmp_path: Path
) -> None:
    diverging = cell(Phase(lr=1e9, until=STEPS))
    pack = Pack([diverging], Storage.open(tmp_path), data_folder=Path("unused"), data=data)
    pack.train(60.0)
    for _ in range(2):
        (committed,) = pack.commit()
        assert (committed.status, committed.left) == ("diverged", ())


def test_a_cell_that_is_a_prefix_of_another_has_only_its_end_to_measure(
    data: Dataset, tmp_path: Path
) -> None:
    storage, alone = Storage.open(tmp_path / "shared"), Storage.open(tmp_path / "alone")
    short = cell(sgd(30))
    run(CELLS["sgd"], storage, data, leaves=[30])
    pack = Pack([short], storage, data_folder=Path("unused"), data=data)
    assert pack.trainer.step == 30
    pack.train(10.0)
    pack.commit()
    run(short, alone, data)
    assert_same(short, storage, alone)


@pytest.mark.parametrize("damage", ["checkpoint", "part", "manifest"])
def test_a_damaged_commit_is_reported_and_the_one_before_it_used(
    damage: str, reference: dict[str, Storage], data: Dataset, tmp_path: Path
) -> None:
    storage = Storage.open(tmp_path)
    one = CELLS["bulk"]
    first = Pack([one], storage, data_folder=Path("unused"), data=data)
    for stop in (25, 45):
        first.trainer.advance(stop)
        first.commit()
    manifest, _ = storage.latest(cell_id(one))
    assert manifest is not None and manifest.step == 45 and manifest.checkpoint is not None
    file = {
        "checkpoint": manifest.checkpoint.file,
        "part": manifest.parts[-1].stored.file,
        "manifest": manifest.file,
    }
    path = Path(storage.place) / file[damage]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    problems: list[str] = []
    pack = Pack([one], storage, data_folder=Path("unused"), data=data, report=problems.append)
    assert pack.trainer.step == 25
    assert any(path.name in problem for problem in problems)
    run(one, storage, data)
    assert_same(one, storage, reference[cell_id(one)])


def test_a_state_of_another_model_is_not_used(data: Dataset, tmp_path: Path) -> None:
    storage = Storage.open(tmp_path)
    run(CELLS["sgd"], storage, data, leaves=[20])
    wider = dataclasses.replace(CELLS["bulk"], model=Choice.of("mlp", widths=(9,)))
    assert Pack([wider], storage, data_folder=Path("unused"), data=data).trainer.step == 0


@pytest.mark.parametrize("at", [0, 13, 27, 36])
def test_a_cell_that_was_stopped_goes_on_as_if_it_had_not_been(
    at: int, tmp_path: Path, data: Dataset, reference: dict[str, Storage]
) -> None:
    one, storage = CELLS["bulk"], Storage.open(tmp_path)
    address = cell_id(one)
    pack = Pack([one], storage, data_folder=Path("unused"), data=data)
    pack.trainer.advance(at)
    pack.stop(address, "asked")
    (committed,) = pack.commit()
    assert (committed.status, committed.step, pack.finished) == ("stopped", at, True)
    manifest, _ = storage.latest(address)
    assert manifest is not None and manifest.outcome is not None
    assert manifest.outcome["reason"] == "asked"
    assert manifest.summary["finals"]["final/steps"] == at
    # Whoever meets it meanwhile takes it as ended.
    assert Pack([one], storage, data_folder=Path("unused"), data=data).finished
    reopen_stored(address, storage)
    reopen_stored(address, storage)
    run(one, storage, data)
    assert_same(one, storage, reference[address])


def test_training_pauses_for_a_commit_at_a_rung(tmp_path: Path, data: Dataset) -> None:
    storage = Storage.open(tmp_path)
    pack = Pack([CELLS["sgd"]], storage, data_folder=Path("unused"), data=data)
    for expected in (19, 37, STEPS):
        pack.train(60.0, pauses=(19, 37))
        assert pack.trainer.step == expected
    assert pack.finished


def test_a_killed_pack_goes_on_from_what_all_lanes_have(tmp_path: Path, data: Dataset) -> None:
    storage, first = Storage.open(tmp_path), cell(sgd(STEPS))
    cells, leaves = [first, dataclasses.replace(first, seed=1)], [[20, 30, 40], []]
    pack = Pack(cells, storage, leaves=leaves, data_folder=Path("unused"), data=data)
    pack.trainer.advance(10)
    pack.commit()
    for step in leaves[0]:
        pack.trainer.advance(step)
        pack._leave()
    del pack
    again = Pack(cells, storage, leaves=leaves, data_folder=Path("unused"), data=data)
    assert again.trainer.step == 10
    newest, _ = storage.latest(cell_id(first))
    assert newest is not None and newest.summary["environment"]["pack"] == pack_name(
        list(map(cell_id, cells))
    )
    again.train(10.0)
    again.commit()
    # What all have moved on, and the states before are superfluous again.
    assert [manifest.step for manifest in storage.manifests(cell_id(first))] == [STEPS]


@pytest.mark.parametrize("folder", ["manifests", "checkpoints", "history"])
def test_nobody_begins_anew_because_the_store_did_not_answer_for_one_lane(
    folder: str, tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, cells = Storage.open(tmp_path), [dataclasses.replace(cell(sgd(STEPS)), seed=n) for n in (0, 1)]
    pack = Pack(cells, storage, data_folder=Path("unused"), data=data)
    for step in (10, 20):
        pack.trainer.advance(step)
        pack.commit()
    get, lost = LocalFiles.get, f"{root_of(cell_id(cells[1]))}/{folder}/"

    def away(files: LocalFiles, path: str) -> bytes | None:
        if path.startswith(lost):
            raise StorageError(f"storage: {path} could not be read: away.")
        return get(files, path)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "get", away)
        with pytest.raises(StorageError, match="away"):
            Pack(cells, storage, data_folder=Path("unused"), data=data)
        # What is committed stays so where what it makes superfluous cannot be told.
        pack.trainer.advance(30)
        if folder == "manifests":
            assert [one.step for one in pack.commit()] == [30, 30]
    begins = 30 if folder == "manifests" else 20
    assert Pack(cells, storage, data_folder=Path("unused"), data=data).trainer.step == begins


def test_the_finals_of_a_diverged_run_do_not_depend_on_shorter_ones(tmp_path: Path, data: Dataset) -> None:
    short = cell(sgd(15))
    diverging = cell(sgd(15), Phase(lr=1e9, until=STEPS))
    alone, after = Storage.open(tmp_path / "alone"), Storage.open(tmp_path / "after")
    run(diverging, alone, data)
    run(short, after, data)
    assert run(diverging, after, data)._forked_from
    assert result(diverging, after)[2] == result(diverging, alone)[2]
    assert result(short, after)[2]["final/train_loss"] != result(diverging, after)[2]["final/train_loss"]


def test_only_the_named_lane_is_stopped(tmp_path: Path, data: Dataset, reference: dict[str, Storage]) -> None:
    stopped, other = CELLS["bulk"], CELLS["sgd"]
    storage = Storage.open(tmp_path)
    pack = Pack([stopped, other], storage, data_folder=Path("unused"), data=data)
    pack.trainer.advance(30)
    pack.stop(cell_id(stopped), "asked")
    while not pack.finished:
        pack.train(10.0)
    assert [one.status for one in pack.commit()] == ["stopped", "completed"]
    assert_same(other, storage, reference[cell_id(other)])


def until(chi_above: float) -> Phase:
    condition = Condition(
        chi_above=chi_above, at_most=40, every=3, ema=0.5, k=4, holdout_size=60, tolerance=1e-3
    )
    return dataclasses.replace(sgd(1), until=condition)


AT_ONCE, NEVER = until(0.0), until(0.999)


@pytest.mark.parametrize(
    ("phases", "stop", "expected"),
    [
        ((AT_ONCE, bulk(60)), 60, 0.0),
        ((NEVER, bulk(60)), 60, 40.0),
        ((AT_ONCE, dataclasses.replace(sgd(50), lr=0.04), bulk(60)), 60, 50.0),
        ((NEVER, bulk(60)), 30, None),
        ((AT_ONCE, dataclasses.replace(sgd(50), lr=0.04), bulk(60)), 30, None),
        ((NEVER, bulk(40)), 40, None),
        ((NEVER, sgd(60)), 60, None),
        ((sgd(20), bulk(60)), 60, None),
    ],
)
def test_the_switch_of_a_schedule_with_a_condition_is_where_its_last_stage_began(
    tmp_path: Path, data: Dataset, phases: Sequence[Phase], stop: int, expected: float | None
) -> None:
    """Not where a condition was met last: a later phase may follow, or it may have run into `at_most`."""
    pack = Pack([cell(*phases)], Storage.open(tmp_path), data_folder=tmp_path, data=data)
    while not pack.finished and pack.trainer.step < stop:
        pack.train(60.0, pauses=[stop])
    assert finals_of(pack.trainer.lanes[0], pack.trainer.step).get("final/switch_step") == expected
