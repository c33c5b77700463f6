"""Puts a sweep's guide together from its space and its journal."""

from collections.abc import Callable, Hashable

from search_spaces import Space
from sweep.claims import Claims
from sweep.guide import Guide
from sweep.ledger import Ledger, Sweep
from sweep.plan import Plan
from sweep.search.asking import Asking
from sweep.search.events import Decided, Released
from sweep.search.journal import Journal
from sweep.search.known import known_configurations
from sweep.search.points import add_known
from sweep.search.steering import Steering
from sweep.search.stoppers import Stopper
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
    stop: Stop,
    say: Callable[[str], None],
) -> Guide | None:
    """Return what asks for cells and compares them; `None` for a grid without a stopper.

    Raises:
        ConfigError: The search has no budget.
    """
    spec = space.spec.stopper
    if not space.is_search and spec is None:
        return None
    asking = None
    if space.is_search:
        space.search.require_budget()
        asking = Asking(space.search, journal.events)
        if not asking.is_exact:
            say("the sampler answers otherwise than when the search was begun (another version of Optuna?)")
            say("it goes on from all that was asked and told, but not from the state in which it was")
        if not journal.events and space.search.reuse and sweep.shares:
            known = known_configurations(space, ledger, sweep)
            journal.append(known)
            for one in known:
                asking.know(one)
                add_known(plan, space, one.configuration)
            if known:
                say(f"{sweep.name}: {len(known)} configurations were run before and are known to the sampler")
    return Steering(
        space=space,
        plan=plan,
        sweep=sweep,
        ledger=ledger,
        storage=storage,
        claims=claims,
        journal=journal,
        stopper=None if spec is None else _stopper(space, plan, journal),
        asking=asking,
        stop=stop,
        say=say,
    )


def _stopper(space: Space, plan: Plan, journal: Journal) -> Stopper:
    """Return the stopping rule as the journal leaves it."""
    spec = space.spec.stopper
    assert spec is not None, "asked for where there is one"

    def group_of(cell_id: str) -> Hashable:
        cell = plan.cells.get(cell_id)
        return None if cell is None else (cell.seed, cell.loss, cell.dataset)

    stopper = Stopper(spec, space.longest, group_of)
    for event in journal.events:
        if isinstance(event, Decided):
            stopper.learn(event)
        elif isinstance(event, Released):
            stopper.release(event.cell_id)
    return stopper
