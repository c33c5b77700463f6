"""Puts a sweep's guide together from its space and its journal."""

from collections.abc import Callable, Hashable, Iterable

from search_spaces import Space
from sweep.claims import Claims
from sweep.guide import Guide
from sweep.ledger import Ledger, Sweep
from sweep.plan import Plan
from sweep.progress import count_of
from sweep.search.asking import Asking
from sweep.search.events import Decided, Event, Released
from sweep.search.journal import Journal
from sweep.search.known import known_configurations
from sweep.search.points import add_known, cells_foreseen, cells_now, withdrawn_now
from sweep.search.steering import Steering
from sweep.search.stoppers import ALONG, Stopper
from sweep.spending import Spending
from sweep.stopping import Stop
from sweep.storage import Storage


def make_guide(
    space: Space,
    plan: Plan,
    journal: Journal,
    *,
    sweep: Sweep,
    ledger: Ledger,
    storage: Storage,
    claims: Claims | None,
    spending: Spending,
    asks: bool,
    stop: Stop,
    say: Callable[[str], None],
) -> Guide | None:
    """Return what asks for cells and compares them; `None` for a grid without a stopper.

    Args:
        space: The sweep's space.
        plan: Its plan; grows.
        journal: Its journal.
        sweep: The sweep.
        ledger: The record.
        storage: The checkpoint store.
        claims: Whose cells are.
        spending: What the search has taken.
        asks: Whether this command may ask for more cells than it has; else it only answers.
        stop: Ends the asking.
        say: Prints a line.

    Raises:
        ConfigError: The search has no budget.
    """
    spec = space.spec.stopper
    if not space.is_search and spec is None:
        return None
    return Steering(
        space=space,
        plan=plan,
        sweep=sweep,
        ledger=ledger,
        storage=storage,
        claims=claims,
        journal=journal,
        # In this order: what is known beforehand is in the journal and in the plan.
        asking=_asking(space, plan, journal, sweep, ledger, spending, say) if space.is_search else None,
        stopper=None if spec is None else _stopper(space, plan, journal),
        asks=asks,
        elapsed=lambda: spending.search_seconds,
        stop=stop,
        say=say,
    )


def _asking(
    space: Space,
    plan: Plan,
    journal: Journal,
    sweep: Sweep,
    ledger: Ledger,
    spending: Spending,
    say: Callable[[str], None],
) -> Asking:
    """Return the study as the journal leaves it; a new one is told what is known beforehand."""
    space.search.require_budget()
    withdrawn = withdrawn_now(plan, space.search, journal.events)
    journal.append(withdrawn)
    asking = Asking(space.search, journal.events, cells_now(plan, space.search, journal.events))
    spending.search_took(asking.seconds)
    if not asking.is_exact:
        say("the sampler answers otherwise than when the search was begun (another version of Optuna?)")
        say("it goes on from all that was asked and told, but not from the state in which it was")
    if withdrawn:
        many = count_of(len(withdrawn), "configuration")
        say(f"{sweep.name}: the cells of {many} known beforehand are other ones by now, which do not count")
    if asking.moved:
        many = count_of(len(asking.moved), "configuration")
        say(f"{sweep.name}: the cells of {many} are other ones by now, and are run; answers stand until then")
        if gone := sum(not asking.has_cells(number) for number in asking.moved):
            say(f"{sweep.name}: {gone} of these are no valid cells any more, and are not run")
    if not journal.events and space.search.reuse and sweep.shares:
        known = known_configurations(space, ledger, sweep)
        journal.append(known)
        for one in known:
            asking.know(one)
            add_known(plan, space, one)
        if known:
            say(f"{sweep.name}: {len(known)} configurations were run before and are known to the sampler")
    return asking


def _stopper(space: Space, plan: Plan, journal: Journal) -> Stopper:
    """Return the stopping rule as the journal leaves it."""
    spec = space.spec.stopper
    assert spec is not None, "asked for where there is one"

    def group_of(cell_id: str) -> Hashable:
        cell = plan.cells.get(cell_id)
        return None if cell is None else (cell.seed, cell.loss, cell.dataset)

    events = journal.events
    stopper = Stopper(spec, first_rung(events) or default_grace(space, plan), group_of)
    for event in events:
        if isinstance(event, Decided):
            stopper.learn(event)
        elif isinstance(event, Released):
            stopper.release(event.cell_id)
    return stopper


def default_grace(space: Space, plan: Plan) -> int:
    """Return the first rung where the rule names none: a tenth of the longest cell.

    It is no earlier than the first evaluation after the start, as nothing is known of a cell before.
    """
    cells = cells_foreseen(space, plan)
    return max(max(cell.num_steps for cell in cells) // 10, *(cell.evaluate_every for cell in cells))


def first_rung(events: Iterable[Event]) -> int | None:
    """Return the first step at which cells were compared; `None` where none were."""
    rungs = (event.step for event in events if isinstance(event, Decided) and event.step != ALONG)
    return min(rungs, default=None)
