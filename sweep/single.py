"""One cell in this process, without Ray and without a record: for debugging and for a quick look."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from search_spaces import Space, list_spaces, load_space
from sweep.errors import LedgerError
from sweep.invocation import hint
from sweep.stored import stored_cells, stored_sweeps
from trainers.canonical import canonical_form, cell_id
from trainers.cell import Cell
from trainers.errors import ConfigError
from trainers.history import BATCH_LOSS
from trainers.training import Trainer

MIN_PREFIX = 4
SHOWN = ("train/loss", "test/accuracy", "train/grad_norm", "curvature/lambda_1", "curvature/chi")


def find_cell(
    address: str, tracking_uri: str, space: str | None, *, smoke: bool, overrides: Sequence[str]
) -> Cell:
    """Find a cell by its address or the first digits of it.

    Args:
        address: At least four hex digits.
        tracking_uri: Where recorded sweeps are, searched when `space` is `None`, before the named spaces.
        space: A space to search instead.
        smoke: Search the space's small variant.
        overrides: `--set` overrides of the space.

    Raises:
        ConfigError: No cell, or several, begin with these digits.
    """
    if len(address) < MIN_PREFIX:
        raise ConfigError(f"CELL_ID: found {address!r}; expected at least {MIN_PREFIX} hex digits.")
    found: dict[str, Cell] = {}
    unread: list[str] = []
    for candidate in _candidates(tracking_uri, space, smoke, overrides, unread):
        for cell in candidate:
            identity = cell_id(cell)
            if identity.startswith(address):
                found[identity] = cell
        if address in found:
            return found[address]
    if not found:
        where = f"space {space!r}" if space else "the recorded sweeps and the named spaces"
        lists = hint("plan", "SPACE", "--json")
        more = "".join(f"\nsweep {line}" for line in unread)
        raise ConfigError(f"no cell {address!r} in {where}; `{lists}` lists a space's cells.{more}")
    if len(found) > 1:
        raise ConfigError(f"{address!r} is ambiguous: {', '.join(sorted(found))}.")
    return next(iter(found.values()))


def _candidates(
    tracking_uri: str, space: str | None, smoke: bool, overrides: Sequence[str], unread: list[str]
) -> Iterator[Iterator[Cell]]:
    """Yield the cells of each space to be searched; `unread` receives why those of a sweep cannot be told."""
    if space is not None:
        yield _cells(load_space(space, smoke=smoke, overrides=overrides))
        return
    for name in stored_sweeps(tracking_uri):
        try:
            cells = stored_cells(tracking_uri, name)
        except (ConfigError, LedgerError) as error:
            if isinstance(error, LedgerError) and error.transient:
                raise
            # A file of the user's is gone, or no plan was stored: the others may have the cell.
            unread.append(f"{name!r} could not be looked at: {error}")
            continue
        yield iter(cells)
    for name, _ in list_spaces():
        yield _cells(load_space(name))
        yield _cells(load_space(name, smoke=True))


def _cells(space: Space) -> Iterator[Cell]:
    return (point.cell for point in space.points())


def run_cell(cell: Cell, data_folder: Path, console: Console, *, steps: int | None) -> None:
    """Train a cell and print its evaluation points as they come."""
    console.print(f"cell {cell_id(cell)}")
    console.print(json.dumps(canonical_form(cell), indent=1), markup=False)
    trainer = Trainer([cell], data_folder=data_folder)
    lane = trainer.lanes[0]
    end = min(steps or lane.num_steps, lane.num_steps)
    console.print("  ".join(["step".rjust(7), *(name.rjust(18) for name in SHOWN)]))
    while not trainer.finished and trainer.step < end:
        trainer.advance(min(end, trainer.step - trainer.step % cell.evaluate_every + cell.evaluate_every))
        history = trainer.drain(0)
        for row, step in enumerate(history.steps):
            if history.timestamps_ms[row] is None:
                continue
            values = [history.series[name][row] if name in history.series else None for name in SHOWN]
            cells = ["".rjust(18) if value is None else f"{value:18.6g}" for value in values]
            console.print("  ".join([f"{step:7d}", *cells]))
        losses = [value for value in history.series.get(BATCH_LOSS, []) if value is not None]
        if losses and not math.isfinite(losses[-1]):
            console.print(f"  the minibatch loss is {losses[-1]}")
    if lane.outcome is None:
        console.print(f"stopped at step {trainer.step} of {lane.num_steps}, as asked.")
    else:
        reason = f": {lane.outcome.reason}" if lane.outcome.reason else ""
        console.print(f"{lane.outcome.status} at step {lane.outcome.step}{reason}")
    if lane.refreshes:
        console.print(
            f"{lane.refreshes} eigenspace refreshes, {lane.unconverged} not converged, "
            f"{lane.columns / lane.refreshes:.0f} Hessian products each"
        )
