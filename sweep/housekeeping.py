"""`sweep delete` and `sweep gc` as commands: say what and how much, ask, remove."""

import sys
from collections.abc import Callable, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table

from sweep.errors import NotConfirmedError
from sweep.invocation import REMOVES, hint
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.places import Places
from sweep.removal import Garbage, Removal, of_store, of_sweep, of_unfinished
from sweep.storage import Storage
from sweep.whereabouts import require_its_storage


def delete_sweep(
    name: str, places: Places, console: Console, *, yes: bool, accept_storage: bool = False
) -> None:
    """Delete a sweep: its runs that no other sweep refers to, their files, and checkpoints only it needs.

    Raises:
        ConfigError: There is none of that name.
        LeaseHeldError: It is running.
        LeaseLostError: Another process has taken it over meanwhile; no more is removed.
        OtherStorageError: Its checkpoints are in another store, and that is not accepted.
        NotConfirmedError: Nobody confirmed; nothing was removed.
    """
    ledger = Ledger.open(places.tracking_uri, create=False, given=places.given)
    storage = Storage.open(places.storage, create=False)
    sweep = ledger.find_sweep(name)
    if not accept_storage:
        require_its_storage(ledger, name, places.storage)
    with Lease.acquire(ledger, sweep) as lease:
        removals, staying = of_sweep(ledger, storage, sweep, lease)
        for other, count in staying.runs.items():
            console.print(f"{count} runs stay, because sweep {other!r} refers to them", markup=False)
        if staying.ends:
            console.print(
                f"what {staying.ends} cells of it left stays, because longer cells of others start from it; "
                "once these have ended, `sweep gc --unknown` removes it"
            )

        def again() -> Sequence[Removal]:
            # A sweep that was begun meanwhile may need some of it; one that begins now waits for the end.
            lease.check()
            ledger.announce_deletion(sweep, lease.epoch)
            return of_sweep(ledger, storage, sweep, lease)[0]

        def is_ours(_: Removal) -> bool:
            lease.check()
            return True

        question = f"Delete sweep {name!r} for good?"
        _remove(removals, again, console, yes=yes, question=question, is_still_free=is_ours)


def collect_garbage(places: Places, console: Console, *, yes: bool, ends: bool, unknown: bool) -> None:
    """Remove from the checkpoint store what no sweep needs any more.

    Raises:
        NotConfirmedError: Nobody confirmed; nothing was removed.
    """
    ledger = Ledger.open(places.tracking_uri, create=False, given=places.given)
    storage = Storage.open(places.storage, create=False)

    for name, size in of_unfinished(ledger, storage).items():
        left = f"sweep {name!r} is unfinished and nobody runs it; {in_units(size)} are kept to go on from"
        giving_up = hint("delete", name, given=places.given, options=REMOVES)
        console.print(f"{left}. To give them up, with the sweep: {giving_up}", markup=False, emoji=False)
    garbage = Garbage(ledger, storage, lambda: of_store(ledger, storage, ends=ends, unknown=unknown))
    if not (removals := garbage.find()):
        console.print(f"nothing to remove; {in_units(storage.usage())} are in use")
        return
    _remove(
        removals, garbage.find, console, yes=yes, question="Remove these?", is_still_free=garbage.is_still
    )


def _remove(
    removals: Sequence[Removal],
    again: Callable[[], Sequence[Removal]],
    console: Console,
    *,
    yes: bool,
    question: str,
    is_still_free: Callable[[Removal], bool],
) -> None:
    """Remove what the user was shown and `again` still finds: an answer may take hours."""
    table = Table("what", "how many", "size", box=None, header_style="bold")
    for kind in dict.fromkeys(one.kind for one in removals):
        sizes = [one.size for one in removals if one.kind == kind]
        table.add_row(kind, str(len(sizes)), in_units(sum(sizes)))
    console.print(table)
    # Names are text, and [y/N] is none of the console's styles.
    ask = partial(console.input, markup=False, emoji=False)
    if not yes and not _confirmed(question, ask):
        raise NotConfirmedError("nothing was removed; add --yes to remove without being asked.")
    shown = {(one.kind, one.name) for one in removals}
    left = [one for one in again() if (one.kind, one.name) in shown]
    removed: list[int] = []
    for one in left:
        if is_still_free(one):
            one.remove()
            removed.append(one.size)
    if len(removed) < len(removals):
        console.print(f"{len(removals) - len(removed)} of these stay, because they are needed by now")
    console.print(f"removed {in_units(sum(removed))}")


def _confirmed(question: str, ask: Callable[[str], str]) -> bool:
    if not sys.stdin.isatty():
        return False
    return ask(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def in_units(size: float) -> str:
    """Return a number of bytes as people write it: 512 bytes, 3.4 MiB."""
    if size < 1024:
        return f"{size:.0f} bytes"
    for unit in ("KiB", "MiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} GiB"
