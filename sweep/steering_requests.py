"""What users ask of a sweep and its cells: stop, run again, run first; written without its driver."""

from collections.abc import Mapping, Sequence

from sweep.errors import LedgerError
from sweep.invocation import TRAINS, hint
from sweep.lease import current_holder
from sweep.ledger import Ledger, Sweep
from sweep.names import Status
from sweep.plan import make_plan
from sweep.priority import in_order, require_no_search
from sweep.run_options import TRIAL, RunOptions
from sweep.stored import stored_space
from trainers.errors import ConfigError

MIN_PREFIX = 4


def request_stop(
    tracking_uri: str, name: str, cells: Sequence[str], *, given: Mapping[str, str] | None = None
) -> str:
    """Ask the driver of a sweep to stop, or to stop these cells; returns what to tell the user.

    Raises:
        ConfigError: There is no such sweep or cell.
    """
    ledger = Ledger.open(tracking_uri, create=False)
    sweep = ledger.find_sweep(name)
    if not cells:
        ledger.request_stop(sweep)
        if current_holder(ledger.parent_run(sweep)) is None:
            return (
                f"asked {name} to stop. It has no driver now: one of a RayJob (also one applied anew) or "
                "of a job that SLURM has queued again stops at once, and one that you start goes on."
            )
        return f"asked {name} to stop; its driver does so after the next checkpoints."
    found = _named(ledger, sweep, cells)
    runs = ledger.lookup(found, sweep)
    ended = [cell for cell in found if cell in runs and runs[cell].status.ended]
    if ended:
        raise ConfigError(f"cell {ended[0]} has ended ({runs[ended[0]].status}); nothing was asked.")
    ledger.request_cell_stops(sweep, found)
    before = RunOptions(name=name, unsaid=frozenset(TRIAL)).as_before(ledger.read_trial(name))
    again = hint("resume", name, "--cell", found[0], *before.typed, given=given, options=TRAINS)
    return f"asked {name} to stop {len(found)} cells; go on with one: {again}"


def request_first(tracking_uri: str, name: str, first: Sequence[str]) -> str:
    """Say which cells of a sweep come first, now and when it goes on; returns what to tell the user.

    Raises:
        ConfigError: There is no such sweep, axis, value or cell; or it is a search, which has its own order.
    """
    space = stored_space(tracking_uri, name)
    require_no_search(space, name)
    in_order(make_plan(space), [], first)
    ledger = Ledger.open(tracking_uri, create=False)
    ledger.request_first(ledger.find_sweep(name), first)
    if not first:
        return f"{name} runs what is left in the order of its plan."
    return f"{name} runs cells with {', '.join(first)} first; those that are being trained go on."


def cells_named(tracking_uri: str, name: str, cells: Sequence[str]) -> list[str]:
    """Return the cells of a sweep that these addresses, or their first digits, name.

    Raises:
        ConfigError: One names none, or several.
    """
    ledger = Ledger.open(tracking_uri, create=False)
    return _named(ledger, ledger.find_sweep(name), cells)


def failed_cells(tracking_uri: str, name: str, cells: Sequence[str]) -> list[str]:
    """Return the cells of a sweep that have failed; of `cells`, where some are named.

    Raises:
        ConfigError: There is no such sweep or cell, or a named one has not failed.
    """
    ledger = Ledger.open(tracking_uri, create=False)
    sweep = ledger.find_sweep(name)
    wanted = _named(ledger, sweep, cells) if cells else _all(ledger, sweep)
    runs = ledger.lookup(wanted, sweep)
    failed = [cell for cell in wanted if cell in runs and runs[cell].status is Status.FAILED]
    if cells and len(failed) < len(wanted):
        other = next(cell for cell in wanted if cell not in failed)
        status = runs[other].status if other in runs else Status.PENDING
        raise ConfigError(f"cell {other} has not failed; it is {status}.")
    return failed


def _all(ledger: Ledger, sweep: Sweep) -> list[str]:
    table = ledger.read_cells(sweep)
    if table is None:
        raise LedgerError(f"sweep {sweep.name!r} has no stored plan; start it again with `sweep run`.")
    return list(dict.fromkeys(table["cell_id"].to_pylist()))


def _named(ledger: Ledger, sweep: Sweep, cells: Sequence[str]) -> list[str]:
    known = _all(ledger, sweep)
    named: list[str] = []
    for text in cells:
        found = [cell for cell in known if cell.startswith(text)] if len(text) >= MIN_PREFIX else []
        if len(found) != 1:
            what = "several cells" if found else "no cell"
            raise ConfigError(
                f"--cell: found {text!r}, which names {what} of {sweep.name!r}; expected an address "
                f"or at least its first {MIN_PREFIX} digits."
            )
        named += found
    return list(dict.fromkeys(named))
