"""Making room: what `sweep delete` and `sweep gc` would remove, in words and bytes, and removing it.

Nothing is removed that a run in progress, or a sweep that is not complete, could still use; what other sweeps
refer to stays. Each removal may be repeated, so a command that was broken off is completed by the next one.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from sweep import names
from sweep.claims import queued_cells
from sweep.holdings import Holdings, holdings_of
from sweep.lease import Lease, current_holder, last_epoch
from sweep.ledger import CellRun, Ledger, Sweep
from sweep.names import Status
from sweep.storage import Manifest, Storage


@dataclass(frozen=True, slots=True)
class Removal:
    """Something that can be removed.

    Args:
        kind: What it is, in the plural.
        name: Which one.
        size: Bytes.
        remove: Removes it.
        whole: Whether it is all that is stored under the address `name`.
    """

    kind: str
    name: str
    size: int
    remove: Callable[[], object]
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Staying:
    """What deleting a sweep leaves, because others need it.

    Args:
        runs: How many of its runs, by the name of the other sweep.
        ends: Of how many of its cells the states, because longer cells of others are to start from them.
    """

    runs: dict[str, int]
    ends: int


def of_sweep(ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease) -> tuple[list[Removal], Staying]:
    """Return what deleting a sweep removes, and what of it stays for others.

    The sweep itself comes last, and its lease with it.
    """

    def end() -> None:
        lease.check()
        storage.stops(sweep.run_id).clear_all()
        lease.abandon()
        ledger.delete_sweep(sweep)

    def delete_cell(run_id: str) -> None:
        lease.check()
        ledger.delete_cell(run_id)

    own = ledger.cells_of(sweep)
    others = [one for one in ledger.list_sweeps() if one.run_id != sweep.run_id and one.shares]
    held = {one.name: holdings_of(ledger, one) for one in others} if sweep.shares else {}
    ends = 0
    # In this order: what a search has just asked for has a number before it is in the plan.
    asked = {one.name: queued_cells(ledger, ledger.parent_run(one)) for one in others if one.name in held}
    wanted = {name: one.ids | asked[name].keys() for name, one in held.items()}
    needed = {name: len(own.keys() & cells) for name, cells in wanted.items()}
    shared = {cell for cells in wanted.values() for cell in cells}
    removals = [
        Removal(
            "runs of cells",
            run.cell_id,
            ledger.artifacts.usage(run.run_id),
            lambda run_id=run.run_id: delete_cell(run_id),
        )
        for run in own.values()
        if run.cell_id not in shared
    ]
    if sweep.shares:
        theirs = {address for one in held.values() for address in one.addresses} | shared
        stored = storage.inventory()
        mine = (holdings_of(ledger, sweep).addresses | own.keys()) & stored.keys() - theirs
        lent = mine & _lent(storage, stored, _pending(ledger, held.values()))
        ends = len(lent)
        removals += [
            _all_of(storage, "checkpoints", address, stored[address]) for address in sorted(mine - lent)
        ]
    else:
        apart = storage.apart(sweep.run_id, create=False)
        removals.append(Removal("checkpoints", "of its own store", apart.usage(), apart.clear))
    size = ledger.artifacts.usage(sweep.run_id)
    removals.append(Removal("sweeps with figures and tables", sweep.name, size, end))
    return removals, Staying(runs={name: count for name, count in needed.items() if count}, ends=ends)


def of_store(ledger: Ledger, storage: Storage, *, ends: bool = False, unknown: bool = False) -> list[Removal]:
    """Return what no sweep needs any more.

    Args:
        ledger: Says which sweeps there are and how their cells stand.
        storage: The checkpoint store.
        ends: Also the last states of completed cells, from which a longer run could go on, unless a cell that
            is to be trained yet does.
        unknown: Also what belongs to no sweep of this MLflow; another MLflow may know it.
    """
    # Before the plans are read: what a search asks for meanwhile is not taken for something unknown.
    stored = storage.inventory()
    sweeps = [sweep for sweep in ledger.list_sweeps() if sweep.shares]
    held = {sweep.name: holdings_of(ledger, sweep) for sweep in sweeps}
    running = [run for run in map(ledger.parent_run, sweeps) if current_holder(run) is not None]
    busy = {ledger.sweep_of(run).name for run in running}
    runs = ledger.lookup([cell for one in held.values() for cell in one.ids])
    lines: set[str] = set()
    needed: set[str] = set()
    for name, one in held.items():
        # What cells of a running sweep start from is unknown where its space no longer gives them.
        unknown = unknown and (name not in busy or one.ids <= one.cells.keys())
        for cell_id in one.ids:
            its_lines = one.lines(cell_id)
            lines |= its_lines
            if name in busy or cell_id not in runs or not runs[cell_id].status.ended:
                needed |= {cell_id, *its_lines}
    needed |= {cell_id for sweep in running for cell_id in queued_cells(ledger, sweep)}
    known = {cell_id for one in held.values() for cell_id in one.ids}
    lent = _lent(storage, stored, needed)
    found: list[Removal] = []
    for address, size in sorted(stored.items()):
        if address in needed:
            continue
        if address in known:
            found.extend(_of_ended_cell(storage, runs[address], size, ends=ends and address not in lent))
        elif address in lines:
            found.extend(_of_line(storage, address, size, ends=ends))
        elif unknown and address not in lent:
            found.append(_all_of(storage, "addresses that MLflow does not know", address, size))
    return found


class Garbage:
    """What no sweep needs any more, and whether that still holds when its turn comes: removing takes minutes.

    A driver takes its lease, stores its plan and reserves an attempt before it trains; each of these is seen
    by then, with one look at the sweeps' own runs and one at the address.

    Args:
        ledger: Says which sweeps there are.
        storage: The checkpoint store.
        find: Returns what is not needed, see `of_store`.
    """

    def __init__(self, ledger: Ledger, storage: Storage, find: Callable[[], list[Removal]]) -> None:
        self._ledger = ledger
        self._storage = storage
        self._find = find
        self._seen: frozenset[object] = frozenset()
        self._free: set[tuple[str, str]] = set()

    def find(self) -> list[Removal]:
        """Return what is not needed now."""
        # Before, so that whatever begins during the look is seen by the next one.
        self._seen = self._begun()
        found = self._find()
        self._free = {(one.kind, one.name) for one in found}
        return found

    def is_still(self, one: Removal) -> bool:
        """Whether something that was found may be removed now."""
        if self._begun() != self._seen:
            self.find()
        if (one.kind, one.name) not in self._free:
            return False
        return not one.whole or self._storage.usage(one.name) == one.size

    def _begun(self) -> frozenset[object]:
        """Return something that is another as soon as a sweep begins, goes on, or has another plan."""
        return frozenset(
            (
                run.info.run_id,
                last_epoch(run),
                run.data.tags.get(names.TAG_SPACE_SHA256),
                frozenset(queued_cells(self._ledger, run) if current_holder(run) is not None else ()),
            )
            for run in self._ledger.parent_runs()
        )


def _of_ended_cell(storage: Storage, run: CellRun, size: int, *, ends: bool) -> Iterable[Removal]:
    """A completed cell keeps its last commit; what was recorded of it is in MLflow."""
    address = run.cell_id
    if ends or run.status is not Status.COMPLETED:
        yield _all_of(storage, "states of ended cells", address, size)
    elif earlier := sum(storage.superfluous(address, keep=1).values()):
        yield Removal("earlier commits", address, earlier, lambda: storage.prune(address, keep=1))


def _of_line(storage: Storage, line: str, size: int, *, ends: bool) -> Iterable[Removal]:
    """States left for others go; where a cell ended, its line points to the cell's own files, which stay."""
    kind = "states left for other cells"
    manifests = list(storage.manifests(line))
    left = [one for one in manifests if not one.points_elsewhere]
    if ends or len(left) == len(manifests):
        yield _all_of(storage, kind, line, size)
    elif left:
        steps = sorted({manifest.step for manifest in left})
        yield Removal(
            kind,
            line,
            sum(_size(manifest) for manifest in left),
            lambda: [storage.forget(line, step) for step in steps],
        )


def _all_of(storage: Storage, kind: str, address: str, size: int) -> Removal:
    return Removal(kind, address, size, lambda: storage.delete(address), whole=True)


def _size(manifest: Manifest) -> int:
    stored = [part.stored for part in manifest.parts]
    return sum(one.size for one in [*stored, *([manifest.checkpoint] if manifest.checkpoint else [])])


def _pending(ledger: Ledger, held: Iterable[Holdings]) -> set[str]:
    """Return the lines of the cells of these sweeps that have not ended."""
    owner = {cell_id: one for one in held for cell_id in one.cells}
    runs = ledger.lookup(list(owner))
    left = [cell_id for cell_id in owner if cell_id not in runs or not runs[cell_id].status.ended]
    return {line for cell_id in left for line in owner[cell_id].lines(cell_id)}


def _lent(storage: Storage, stored: Collection[str], addresses: Collection[str]) -> set[str]:
    """Return whose files the commits of these addresses list: a line points to where a cell has ended."""
    listed = (one.files for address in addresses if address in stored for one in storage.manifests(address))
    return {file.split("/")[1] for files in listed for file in files}
