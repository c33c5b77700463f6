"""What happens in a search, in the order in which it happens: the lines of the journal."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from search_spaces.axes import AxisSpec
from search_spaces.reports import AxisValue
from search_spaces.search import SearchSpec
from search_spaces.strict import infinity

Configuration = dict[str, AxisValue]
"""A value or label for each axis of the search."""

INFINITE = {float("inf"): "inf", float("-inf"): "-inf"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a configuration's cells came to, as the sampler is told. No number in it is NaN or infinite.

    Args:
        state: "complete"; "pruned" when a cell was stopped early; "failed" when there is nothing to learn;
            "excluded" when it is not to be run, or is no valid cell.
        objectives: Mean over the seeds, made worse by `risk` spreads; empty where it failed or is excluded.
        spreads: Sample standard deviations over the seeds, 0 for one seed.
        diverged: Share of the seeds that diverged.
        step: The step that was reached, of a pruned one.
    """

    state: Literal["complete", "pruned", "failed", "excluded"]
    objectives: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()
    diverged: float = 0.0
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A configuration that had been run before the search began; it costs nothing.

    Args:
        configuration: A value or label for each axis.
        result: What it had come to.
        cells: Its cells, one a seed; none where an earlier version wrote it.
    """

    configuration: Configuration
    result: Result
    cells: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """The cells of a known configuration have other addresses by now: it counts no more.

    The sampler began with it, and has to when the journal is replayed.
    """

    configuration: Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The sampler was asked for a configuration.

    Args:
        number: Counts the questions, from 0.
        configuration: The answer.
        cells: Its cells, one a seed; empty where it is excluded or no valid cell.
        new: How many of them nobody had asked for or run before.
        steps: Steps of these.
        seconds: Time spent on the search until then.
        theirs: Those that another sweep was to run first, which are not charged.
    """

    number: int
    configuration: Configuration
    cells: tuple[str, ...]
    new: int = 0
    steps: int = 0
    seconds: float = 0.0
    theirs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A cell that another sweep was to run is trained here after all, and charged to the budget.

    Args:
        cell_id: The cell.
        steps: Its steps.
    """

    cell_id: str
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The sampler was told what became of a configuration.

    Args:
        number: Of the question.
        result: What it was told.
        spared: Steps that its cells were counted with and did not take, because they ended early.
    """

    number: int
    result: Result
    spared: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """What had failed or was stopped early has come to more since: this counts in the account.

    So does what became of a configuration whose cells have other addresses by now. The sampler is not told
    again; it went on from the earlier answer, and has to when the journal is replayed.

    Args:
        number: Of the question.
        result: What its configuration came to after all.
    """

    number: int
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A cell came to a rung.

    Args:
        cell_id: The cell.
        step: The rung; 0 where it is stopped along with another seed of its configuration.
        value: The metric there, the last one recorded up to it; the other's where it is stopped along.
        stops: Whether it is stopped.
        reason: Why it is, in a line.
    """

    cell_id: str
    step: int
    value: float
    stops: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A stopped cell goes on, and is not stopped by a stopper again."""

    cell_id: str


Event = Known | Withdrawn | Asked | Taken | Told | Corrected | Decided | Released
_KINDS: dict[str, type[Any]] = {
    "known": Known,
    "withdrawn": Withdrawn,
    "asked": Asked,
    "taken": Taken,
    "told": Told,
    "corrected": Corrected,
    "decided": Decided,
    "released": Released,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def still_known(events: Sequence[Event]) -> list[Known]:
    """Return what was known before the search began and counts."""
    withdrawn = {frozenset(event.configuration.items()) for event in events if isinstance(event, Withdrawn)}
    known = (event for event in events if isinstance(event, Known))
    return [event for event in known if frozenset(event.configuration.items()) not in withdrawn]


def decided_to_stop(events: Iterable[Event]) -> set[str]:
    """Return the cells that are to stop by what was decided, and were not let go on since."""
    found: set[str] = set()
    for event in events:
        if isinstance(event, Decided) and event.stops:
            found.add(event.cell_id)
        elif isinstance(event, Released):
            found.discard(event.cell_id)
    return found


def event_to_json(event: Event) -> dict[str, Any]:
    """Return an event as JSON values, infinity as text."""
    facts = asdict(event)
    if (found := facts.get("configuration")) is not None:
        facts["configuration"] = {
            name: INFINITE.get(value, value) if isinstance(value, float) else value
            for name, value in found.items()
        }
    return {"kind": _NAMES[type(event)], **facts}


def event_from_json(facts: dict[str, Any], search: SearchSpec | None = None) -> Event:
    """Read an event back.

    Args:
        facts: What `event_to_json` gave.
        search: Whose event it is: text that reads as infinity is the number but where its axis has such a
            label. Without it, it always is.

    Raises:
        KeyError: Unknown kind.
        TypeError: Its fields are others.
    """
    facts = dict(facts)
    kind = _KINDS[facts.pop("kind")]
    if (found := facts.get("configuration")) is not None:
        facts["configuration"] = {
            name: value if _is_label(search, name, value) else infinity(value)
            for name, value in found.items()
        }
    if (result := facts.get("result")) is not None:
        lists: dict[str, Any] = {name: tuple(result[name]) for name in ("objectives", "spreads")}
        facts["result"] = Result(**{**result, **lists})
    for name in facts.keys() & {"cells", "theirs"}:
        facts[name] = tuple(facts[name])
    return kind(**facts)


def _is_label(search: SearchSpec | None, name: str, value: AxisValue) -> bool:
    axis = None if search is None else search.axes.get(name)
    return isinstance(axis, AxisSpec) and isinstance(value, str) and value in axis.labels
