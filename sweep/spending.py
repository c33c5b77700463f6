"""What the commands of a sweep have taken: time, and time on devices; the measure of its limits.

It is kept with the sweep's own run, every few seconds, for whoever goes on: a driver that is started again by
itself after one that was lost (then the limits of the command are those of both), and a search, whose limit
of time is one of all its commands together. Only time in which a driver ran counts, by each one's own clock.
"""

import time
from collections.abc import Mapping

from sweep.ledger import Ledger, Sweep

SECONDS_BETWEEN_RECORDS = 10.0
"""How much of it a kill may lose."""

COMMAND, SEARCH, HELD = "seconds", "search_seconds", "held_seconds"
"""Keys of what is kept: of the command, of all commands of a search, on devices by the command's trials."""


class Spending:
    """Counts what a command takes, on top of what came before.

    Args:
        ledger: The record.
        sweep: The sweep; its lease is held.
        goes_on: Whether the command follows a driver that was lost, whose limits it has.
        is_kept: Whether there is a limit that anybody who goes on has to know of.
    """

    def __init__(self, ledger: Ledger, sweep: Sweep, *, goes_on: bool, is_kept: bool) -> None:
        self._ledger = ledger
        self._sweep = sweep
        self._is_kept = is_kept
        self._found = ledger.spent(sweep) if is_kept else {}
        counted = (COMMAND, HELD, SEARCH) if goes_on else (SEARCH,)
        self._before = {key: self._found.get(key, 0.0) for key in counted}
        self._held_seconds = 0.0
        self._begun = self._recorded = time.monotonic()

    def begin(self) -> None:
        """Take away what is kept of another command: whoever follows this one is not to find it.

        Raises:
            LedgerError: MLflow does not answer.
        """
        if self._found.keys() - self._before.keys():
            self.close(is_over=True)

    @property
    def seconds(self) -> float:
        """Seconds that the command has taken, those of the drivers that it follows among them."""
        return self._since(COMMAND)

    @property
    def search_seconds(self) -> float:
        """Seconds that all commands of a search have taken."""
        return self._since(SEARCH)

    @property
    def held_seconds(self) -> float:
        """For how long trials of the command were on workers, all of them together."""
        return self._before.get(HELD, 0.0) + self._held_seconds

    def search_took(self, seconds: float) -> None:
        """Say that the search had taken at least so long before: earlier versions kept no more than that."""
        self._before[SEARCH] = max(self._before[SEARCH], seconds)

    def hold(self, seconds: float) -> None:
        """Say for how long this driver's trials have been on workers so far."""
        self._held_seconds = seconds

    def keep(self) -> None:
        """Record it, now and then.

        Raises:
            LedgerError: MLflow does not answer.
        """
        if self._is_kept and time.monotonic() - self._recorded >= SECONDS_BETWEEN_RECORDS:
            self._write({COMMAND: self.seconds, SEARCH: self.search_seconds, HELD: self.held_seconds})

    def close(self, *, is_over: bool) -> None:
        """Record it at the end of a command.

        Args:
            is_over: Whether nobody goes on with its limits: it has come to its end, or to one of them.

        Raises:
            LedgerError: MLflow does not answer.
        """
        if self._is_kept:
            rest = {} if is_over else {COMMAND: self.seconds, HELD: self.held_seconds}
            self._write({SEARCH: self.search_seconds, **rest})

    def _since(self, key: str) -> float:
        return self._before.get(key, 0.0) + time.monotonic() - self._begun

    def _write(self, spent: Mapping[str, float]) -> None:
        self._ledger.write_spent(self._sweep, {key: round(value, 1) for key, value in spent.items()})
        self._recorded = time.monotonic()
