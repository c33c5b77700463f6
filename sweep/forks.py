"""Shared prefixes: what several cells have in common is trained once, and the others fork from it.

    0 ----- SGD ------+------+-------------------> a cell
                      |      +--- Bulk-SGD ------> a cell that forks at its switch point
                      +---------- Dom-SGD -------> another

A *line* is a trajectory with the end of its last phase left open; states along it are stored under its
address, by step. A cell can start from any state on its own lines that is not beyond the line's part in it.
Nothing depends on a state being there: without one a cell is trained from its start, with the same result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trainers.canonical import Stage, address, batch_size_of, record_form, stages, trajectory_form
from trainers.cell import Cell

Rule = tuple[object, ...]
"""What decides how a stage goes on after a given history, besides its end."""


@dataclass(frozen=True, slots=True, order=True)
class Fork:
    """A state that cells may start from.

    Args:
        line: Address of the line.
        step: Updates done.
    """

    line: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What a cell takes from others and does for them in one plan.

    Args:
        start: The state that it waits for, or `None`.
        leaves: States on its way that other cells wait for, by increasing step.
    """

    start: Fork | None = None
    leaves: tuple[Fork, ...] = ()


@dataclass(slots=True)
class _Path:
    cell_id: str
    cell: Cell
    stages: tuple[Stage, ...]
    rules: tuple[Rule, ...]
    start: Fork | None = None
    leaves: set[Fork] = field(default_factory=set[Fork])

    def stage_index(self, step: int) -> int:
        """The stage that does update number `step`."""
        return next(index for index, stage in enumerate(self.stages) if step < stage.stop)


def lines_of(cell: Cell) -> list[tuple[str, int, int]]:
    """Return a cell's lines as (address, first step, last step), the last one first.

    States of a line may be used from just after its first step up to its last step. What is recorded is part
    of the address, because a cell takes over the history too. Where a phase ends on a condition, nobody knows
    beforehand which one a step belongs to: from there on a cell has one line, all its own.
    """
    record = record_form(cell)
    found: list[tuple[str, int, int]] = []
    reduced = stages(cell)
    conditional = [index for index, stage in enumerate(reduced) if stage.condition is not None]
    if conditional:
        own = address({**trajectory_form(cell), "record": record, "kind": "line"})
        found.append((own, reduced[conditional[0]].start, reduced[-1].stop))
    for stage in reversed(reduced[: conditional[0]] if conditional else reduced):
        form = trajectory_form(cell, until=stage.stop)
        schedule = [*form["schedule"]]
        schedule[-1] = {key: value for key, value in schedule[-1].items() if key != "until"}
        line = address({**form, "schedule": schedule, "record": record, "kind": "line"})
        found.append((line, stage.start, stage.stop))
    return found


def fork_at(cell: Cell, step: int) -> Fork:
    """Return the state of a cell after `step` updates."""
    for line, start, stop in lines_of(cell):
        if start < step <= stop:
            return Fork(line, step)
    raise ValueError(f"step {step} is not within the cell's {cell.num_steps} steps")


def plan_sharing(cells: Mapping[str, Cell]) -> dict[str, Sharing]:
    """Decide which cells fork from which states, so that no common prefix is trained twice.

    Args:
        cells: The distinct cells that are to be trained, by id.

    Returns:
        For every cell, what it waits for and what it leaves behind. A cell waits for at most one state, and
        waiting never goes in circles: who leaves a state starts before it.
    """
    roots: dict[tuple[object, ...], list[_Path]] = {}
    for cell_id, cell in cells.items():
        reduced = stages(cell)
        path = _Path(cell_id, cell, reduced, tuple(_rule(cell, stage) for stage in reduced))
        roots.setdefault(_root(cell), []).append(path)
    for group in roots.values():
        _share(group, 0)
    return {
        path.cell_id: Sharing(start=path.start, leaves=tuple(sorted(path.leaves, key=lambda fork: fork.step)))
        for group in roots.values()
        for path in group
    }


def steps_to_train(cells: Mapping[str, Cell], sharing: Mapping[str, Sharing]) -> int:
    """Return the updates that are left when every cell starts from the state that it waits for."""
    return sum(
        cell.num_steps - (start.step if (start := sharing[cell_id].start) is not None else 0)
        for cell_id, cell in cells.items()
    )


def _share(group: Sequence[_Path], base: int) -> None:
    """Share what paths that agree up to step `base` have in common beyond it."""
    by_rule: dict[Rule, list[_Path]] = {}
    for path in group:
        by_rule.setdefault(path.rules[path.stage_index(base)], []).append(path)
    for members in by_rule.values():
        if len(members) < 2:
            continue
        # The one that follows this rule for longest passes all the points at which the others leave it.
        leader = max(members, key=lambda path: path.stages[path.stage_index(base)].stop)
        leaving: dict[int, list[_Path]] = {}
        for path in members:
            if path is not leader:
                leaving.setdefault(_shared_steps(leader, path), []).append(path)
        for step, followers in leaving.items():
            fork = fork_at(leader.cell, step)
            leader.leaves.add(fork)
            for path in followers:
                path.start = fork
            _share([path for path in followers if path.cell.num_steps > step], step)


def _shared_steps(left: _Path, right: _Path) -> int:
    """Return how many first updates two paths have in common."""
    shared = 0
    for index in range(min(len(left.rules), len(right.rules))):
        if left.rules[index] != right.rules[index]:
            break
        stops = left.stages[index].stop, right.stages[index].stop
        shared = min(stops)
        if stops[0] != stops[1]:
            break
    return shared


def _rule(cell: Cell, stage: Stage) -> Rule:
    settings = (
        (cell.holdout_size, cell.holdout_seed, cell.refresh_every, cell.solver) if stage.projects else None
    )
    own = address(trajectory_form(cell)) if stage.condition is not None else None
    return (stage.optimizer, stage.dom_rate, stage.bulk_rate, stage.k, stage.carry, settings, own)


def _root(cell: Cell) -> tuple[object, ...]:
    """What cells must have in common to share anything: all but the schedule."""
    return (
        cell.model,
        cell.dataset,
        cell.loss,
        cell.seed,
        batch_size_of(cell),
        cell.init,
        cell.divergence_factor,
        cell.divergence_every,
        cell.evaluate_every,
        cell.probes,
    )
