"""What a search may come to before it has asked anything: as many random cells as its budget has."""

from search_spaces import Space
from search_spaces.search import SearchSpec
from sweep.plan import Plan
from sweep.search.study import Study
from trainers.errors import ConfigError

MOST_CELLS = 1000
MOST_DRAWS_A_CELL = 20


def foreseen_plan(space: Space) -> Plan:
    """Return a plan to estimate a search by, of whole configurations; empty where only its time is limited.

    Args:
        space: A space with a search. The sampler that it names would ask for other cells, of the same kinds.
    """
    search, plan = space.search, Plan(space.name)
    limits = [search.cells_asked] if search.cells_asked is not None else []
    limits += [search.steps // space.longest] if search.steps is not None else []
    whole = search.cells_a_configuration
    wanted = max(whole, min([*limits, MOST_CELLS]) // whole * whole) if limits else 0
    study = Study(search.model_copy(update={"sampler": "random"}))
    for _ in range(wanted * MOST_DRAWS_A_CELL):
        if len(plan.cells) + whole > wanted:
            break
        try:
            points = space.sampled(study.ask())
        except ConfigError:
            # No valid cell; a search passes over it too.
            continue
        for point in points:
            plan.add(point)
    return plan


def search_text(search: SearchSpec) -> str:
    """Say what is searched, by whom and how far."""
    limits = {"cells": search.cells, "steps": search.steps, "seconds": search.seconds}
    budget = ", ".join(f"{limit:,g} {name}" for name, limit in limits.items() if limit is not None)
    seeds = f", {len(search.seeds)} a configuration" if len(search.seeds) > 1 else ""
    return f"{search.sampler} over {', '.join(search.axes)}; at most {budget}{seeds}"
