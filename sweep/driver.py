"""Running a sweep is making what is missing of it: one process, under a lease, from plan to record.

    plan -> ledger (find or make the sweep) -> lease -> claims -> runs of the plan's cells -> reconcile record
    and store -> train what is missing (`sweep.training`) -> recorder -> how it stands

Nothing here is needed to survive a kill: the store says what has been trained and MLflow what has been
recorded, and running again makes the rest.
"""

from collections.abc import Callable, Iterable

from rich.console import Console

from search_spaces import Space
from sweep.grid_table import grid_table
from sweep.invocation import resuming
from sweep.lanes import require_gpu_to_look_at
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.places import Places, sqlite_path
from sweep.plan import Plan, make_plan
from sweep.priority import in_order, require_no_search
from sweep.ray_cluster import require_reachable
from sweep.run_options import RunOptions
from sweep.search.journal import Journal
from sweep.search.points import cells_foreseen, plan_of, recorded_events, stored_events
from sweep.storage import Storage
from sweep.sweep_run import SweepRun
from sweep.trainable import require_trainable
from sweep.whereabouts import record_storage, require_its_storage
from trainers.canonical import dataset_entry
from trainers.cell import Cell
from trainers.errors import ConfigError


def run_sweep(
    space: Space,
    places: Places,
    options: RunOptions,
    console: Console,
    *,
    begun: Callable[[], None] = lambda: None,
) -> int:
    """Make what is missing of a space.

    Args:
        space: What is to be run.
        places: Where everything is.
        options: How it is run.
        console: Where it is said how it goes.
        begun: Called once nothing that was asked before counts any more; whoever tries again is `restarted`.

    Returns:
        0 when every cell has ended, 1 when some failed or could not be recorded, 130 when interrupted.

    Raises:
        SharpflatError: It cannot be begun; nothing has been changed.
    """
    if options.first:
        require_no_search(space, options.name)
    planned = make_plan(space)
    foreseen = cells_foreseen(space, planned)
    require_data(foreseen, places)
    require_trainable(space, planned)
    _require_gpu(options)
    require_reachable(options.address)
    ledger, storage = _open(places, options)
    options = options.as_before(ledger.read_trial(options.name))
    _require_gpu(options)
    events = recorded_events(space, ledger, options.name)
    plan = plan_of(space, events)
    _require_cells(plan, places, options)
    in_order(plan, [], options.first)
    table = grid_table(plan.grids, plan.axes, plan.cell_ids)
    sweep = ledger.open_sweep(
        space, table, name=options.name, shares=options.reuse, accept_version=options.accept_version
    )
    if not sweep.shares:
        storage = storage.apart(sweep.run_id)
    # Before the lease: whoever asks from now on asks this driver.
    stop_request = ledger.stop_request(sweep)
    with Lease.acquire(ledger, sweep) as lease:
        # Now that nobody else writes it.
        if not options.accept_storage:
            require_its_storage(ledger, options.name, places.storage)
        journal = Journal(ledger, sweep, lease, stored_events(space, ledger, sweep))
        if space.is_search and journal.events != events:
            plan = plan_of(space, journal.events)
            table = grid_table(plan.grids, plan.axes, plan.cell_ids)
        ledger.write_plan(sweep, space, table, accept_version=options.accept_version)
        record_storage(ledger, sweep, places.storage)
        if options.only is None:
            # One that makes a few cells, those that failed say, may have reasons of its own.
            ledger.write_trial(sweep, options.trial)
        ledger.remove_duplicate_parents(sweep)
        ledger.remove_duplicates(sweep)
        if not options.restarted:
            ledger.clear_stop(sweep, stop_request)
        begun()
        ledger.reopen_sweep(sweep)
        ledger.describe_sweep(sweep, foreseen)
        return SweepRun(space, plan, journal, sweep, ledger, storage, lease, places, options, console).run()


def _require_gpu(options: RunOptions) -> None:
    if options.address is None:
        require_gpu_to_look_at(options.lanes, gpus_per_trial=options.gpus_per_trial)


def _open(places: Places, options: RunOptions) -> tuple[Ledger, Storage]:
    """Open the record and the store; neither is made where the other one cannot be."""
    database = sqlite_path(places.tracking_uri)
    if database is not None and not database.exists():
        storage = Storage.open(places.storage)
        return Ledger.open(places.tracking_uri, artifacts_root=places.artifacts, given=places.given), storage
    ledger = Ledger.open(places.tracking_uri, artifacts_root=places.artifacts, given=places.given)
    if not options.accept_storage:
        require_its_storage(ledger, options.name, places.storage)
    return ledger, Storage.open(places.storage)


def _require_cells(plan: Plan, places: Places, options: RunOptions) -> None:
    """Make sure that cells that are asked for one by one are still what the sweep would run.

    Raises:
        ConfigError: One has another address by now.
    """
    if gone := sorted((options.only or frozenset()) - plan.cells.keys()):
        again = resuming(options, given=places.given)
        raise ConfigError(
            f"cell {gone[0]} is another one by now: a file of yours that it is made of has changed, or the "
            f"version of the numerics. Nothing was changed. Go on with the sweep as it is now: {again}"
        )


def require_data(cells: Iterable[Cell], places: Places) -> None:
    """Load every data set of the cells once, so that a missing one is one message and not a failure per cell.

    Raises:
        DataError: One is missing, damaged or cannot be downloaded.
    """
    for choice in {cell.dataset for cell in cells}:
        entry = dataset_entry(choice)
        entry.load(places.data_folder, choice.resolve("dataset", entry.options))
