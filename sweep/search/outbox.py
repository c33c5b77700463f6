"""What happens in a turn of the steering: events, and effects that come once these are durable."""

from collections.abc import Callable, Iterable

from sweep.search.events import Event
from sweep.search.journal import Journal


class Outbox:
    """Collects a turn's events and their effects.

    Args:
        journal: Where events are kept.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._events: list[Event] = []
        self._effects: list[Callable[[], None]] = []

    def write(self, *events: Event) -> None:
        """Take note of events."""
        self._events += events

    def then(self, effects: Iterable[Callable[[], None]]) -> None:
        """Take note of what is to be done, in this order, once the events so far are durable."""
        self._effects += effects

    def comes_again(self, effect: Callable[[], None]) -> bool:
        """Whether an effect that is being done is to be done once more."""
        return self._effects.count(effect) > 1

    def keep(self) -> None:
        """Make what happened durable; its effects come with the next flush.

        Raises:
            LedgerError: MLflow does not answer; what is left comes with the next call.
        """
        self._journal.append(self._events)
        self._events = []

    def flush(self) -> None:
        """Make what happened durable, and then let it take effect.

        Raises:
            LedgerError: MLflow does not answer; what is left comes with the next flush.
        """
        self.keep()
        while self._effects:
            self._effects[0]()
            del self._effects[0]
