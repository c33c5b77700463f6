"""Making room: what `sweep delete` and `sweep gc` would remove, in words and bytes, and removing it.

Nothing is removed that a run in progress, or a sweep that is not complete, could still use; what other sweeps
refer to stays. Each removal may be repeated, so a command that was broken off is completed by the next one.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from sweep import names
from sweep.claims import queued_cells
from sweep.holdings import Holdings, holdings_of, unended_lines
from sweep.lease import Lease, current_holder, last_epoch
from sweep.ledger import CellRun, Ledger, ParentRun, Sweep
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

    The sweep itself comes last, and its lease with it; until then the caller checks the lease before each.
    """

    def end() -> None:
        storage.stops(sweep.run_id).clear_all()
        # Files may take longer than an abandoned lease holds.
        ledger.artifacts.clear(sweep.run_id)
        lease.check()
        lease.abandon()
        ledger.delete_sweep(sweep)

    sweeps, holdings = ledger.list_sweeps(), holdings_of(ledger, sweep)
    own = _left_by_deleted(ledger, sweep, holdings, sweeps) | ledger.cells_of(sweep)
    others = [one for one in sweeps if one.run_id != sweep.run_id and one.shares]
    held = {one.name: holdings_of(ledger, one) for one in others} if sweep.shares else {}
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
            lambda run_id=run.run_id: ledger.delete_cell(run_id),
        )
        for run in own.values()
        if run.cell_id not in shared
    ]
    home = storage if sweep.shares else storage.apart(sweep.run_id, create=False)
    stored = home.inventory()
    mine, lent = set(stored), set[str]()
    if sweep.shares:
        theirs = {address for one in held.values() for address in one.addresses} | shared
        mine = (holdings.addresses | own.keys()) & stored.keys() - theirs
        lent = mine & _lent(storage, stored, unended_lines(ledger, held.values()))
    removals += [_all_of(home, "checkpoints", address, stored[address]) for address in sorted(mine - lent)]
    size = ledger.artifacts.usage(sweep.run_id)
    removals.append(Removal("sweeps with figures and tables", sweep.name, size, end))
    return removals, Staying(runs={name: count for name, count in needed.items() if count}, ends=len(lent))


def _left_by_deleted(
    ledger: Ledger, sweep: Sweep, holdings: Holdings, sweeps: Collection[Sweep]
) -> dict[str, CellRun]:
    """Return the runs of a sweep's cells that sweeps have made which are deleted by now."""
    homes = {one.experiment_id for one in sweeps}
    runs = ledger.lookup(holdings.ids, sweep)
    return {cell_id: run for cell_id, run in runs.items() if run.experiment_id not in homes}


def of_store(ledger: Ledger, storage: Storage, *, ends: bool = False, unknown: bool = False) -> list[Removal]:
    """Return what no sweep needs any more.

    Args:
        ledger: Says which sweeps there are and how their cells stand.
        storage: The checkpoint store.
        ends: Also the last states of completed and stopped cells, from which a longer run could go on, unless
            a cell that is to be trained yet does.
        unknown: Also what belongs to no sweep of this MLflow; another MLflow may know it.
    """
    seen = _Survey.of(ledger, storage)
    lines: set[str] = set()
    needed: set[str] = set()
    for name, one in seen.held.items():
        is_busy = name in seen.busy
        # What cells of a running sweep start from is unknown where its space no longer gives them.
        unknown = unknown and (not is_busy or one.ids <= one.cells.keys())
        lines |= one.addresses_of(one.ids) - one.ids
        needed |= one.addresses_of(one.ids if is_busy else seen.unended(name))
    needed |= {cell_id for run in seen.busy.values() for cell_id in queued_cells(ledger, run)}
    known = {cell_id for one in seen.held.values() for cell_id in one.ids}
    lent = _lent(storage, seen.stored, needed)
    found: list[Removal] = []
    for address, size in sorted(seen.stored.items()):
        if address in needed:
            continue
        if address in known:
            found.extend(_of_ended_cell(storage, seen.runs[address], size, ends=ends and address not in lent))
        elif address in lines:
            found.extend(_of_line(storage, address, size, ends=ends))
        elif unknown and address not in lent:
            found.append(_all_of(storage, "addresses that MLflow does not know", address, size))
    return found


def of_unfinished(ledger: Ledger, storage: Storage) -> dict[str, int]:
    """Return the bytes that are kept for cells to go on from, by the sweeps that no driver goes on with."""
    seen, found = _Survey.of(ledger, storage), dict[str, int]()
    for run in ledger.parent_runs():
        sweep = ledger.sweep_of(run)
        if current_holder(run) is not None:
            continue
        if sweep.name in seen.held:
            addresses = seen.held[sweep.name].addresses_of(seen.unended(sweep.name))
            found[sweep.name] = sum(seen.stored.get(address, 0) for address in addresses)
        elif run.info.status != Status.COMPLETED.mlflow_status:
            found[sweep.name] = storage.apart(sweep.run_id, create=False).usage()
    return {name: size for name, size in found.items() if size}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """What is stored, and how the sweeps stand that share it.

    Args:
        stored: Bytes by address.
        held: What each sweep refers to, by its name.
        busy: The own runs of those that have a driver, by name.
        runs: The runs of all their cells.
    """

    stored: Mapping[str, int]
    held: Mapping[str, Holdings]
    busy: Mapping[str, ParentRun]
    runs: Mapping[str, CellRun]

    @classmethod
    def of(cls, ledger: Ledger, storage: Storage) -> "_Survey":
        """Look at all of it."""
        # Before the plans are read: what a search asks for meanwhile is not taken for something unknown.
        stored = storage.inventory()
        sweeps = [sweep for sweep in ledger.list_sweeps() if sweep.shares]
        held = {sweep.name: holdings_of(ledger, sweep) for sweep in sweeps}
        looked = {sweep.name: ledger.parent_run(sweep) for sweep in sweeps}
        busy = {name: run for name, run in looked.items() if current_holder(run) is not None}
        runs = ledger.lookup([cell for one in held.values() for cell in one.ids])
        return cls(stored=stored, held=held, busy=busy, runs=runs)

    def unended(self, name: str) -> set[str]:
        """Return the cells of a sweep that have not ended."""
        return {
            cell_id
            for cell_id in self.held[name].ids
            if cell_id not in self.runs or not self.runs[cell_id].status.ended
        }


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
    """A cell that may go on, completed or stopped, keeps its last commit; its record is in MLflow."""
    address = run.cell_id
    if ends or run.status not in (Status.COMPLETED, Status.STOPPED):
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


def _lent(storage: Storage, stored: Collection[str], addresses: Collection[str]) -> set[str]:
    """Return whose files the commits of these addresses list: a line points to where a cell has ended."""
    listed = (one.files for address in addresses if address in stored for one in storage.manifests(address))
    return {file.split("/")[1] for files in listed for file in files}
