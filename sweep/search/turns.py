"""A thread that takes turns beside Tune's loop, through moments without MLflow or a store, too."""

import threading
from collections.abc import Callable

from sweep.errors import LedgerError, StorageError

SECONDS_BETWEEN_TURNS = 1.0
"""How long the thread waits for news, and before it tries again what MLflow or the store did not take."""


class Turns:
    """Calls a function on a thread of its own until it is closed, and a last time then.

    Args:
        turn: Settles what there is to settle, and returns whether all could be. It may be broken off where
            MLflow or the store does not answer, and goes on where it was when it is called again.

    Attributes:
        changed: Guards what the threads have in common; notified of news and of the end.
        failure: What has ended the thread.
        closing: Whether the last turn has come.
    """

    def __init__(self, turn: Callable[[], bool]) -> None:
        self.changed = threading.Condition()
        self.failure: BaseException | None = None
        self.closing = False
        self._turn = turn
        self._has_news = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; again after `close`, too."""
        self.closing = False
        self._thread = threading.Thread(target=self._work, name="steering", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there are news; the caller holds `changed`."""
        self._has_news = True
        self.changed.notify_all()

    def close(self) -> None:
        """Take the last turn and end.

        Raises:
            BaseException: What has ended the thread before.
        """
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _work(self) -> None:
        try:
            while not self.closing:
                self._has_news = False
                self._rest(is_settled=self._try())
            self._try()
        except BaseException as failure:
            # Raised again in the driver's thread.
            self.failure = failure
        finally:
            with self.changed:
                self.changed.notify_all()

    def _try(self) -> bool:
        """Take a turn; returns whether all is settled."""
        try:
            return self._turn()
        except StorageError:
            return False
        except LedgerError as error:
            if not error.transient:
                raise
            return False

    def _rest(self, *, is_settled: bool) -> None:
        with self.changed:
            self.changed.wait_for(
                lambda: self.closing or (is_settled and self._has_news), SECONDS_BETWEEN_TURNS
            )
