"""Whether a sweep is to stop, and why: asked for by a signal, by `sweep stop`, or by a lost lease."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

AS_ASKED = "as `sweep stop` asked"


class Stop:
    """Set once; the first reason counts.

    Attributes:
        signalled: Whether a signal has asked, be it after something else had.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._why = ""
        self.signalled = False

    @property
    def why(self) -> str:
        """The reason in words that follow "stopped"; empty while nobody has asked."""
        return self._why

    def ask(self, why: str) -> None:
        """Ask to stop after the next checkpoints."""
        if not self._asked.is_set():
            self._why = why
            self._asked.set()

    def asked(self) -> bool:
        """Whether somebody has asked."""
        return self._asked.is_set()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody has asked, and no signal: whoever begins again what fails leaves it at that."""
        return self.asked() and not self.signalled

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for somebody to ask; returns whether somebody has."""
        return self._asked.wait(seconds)

    @contextmanager
    def after(self, seconds: float | None, *, taken: float = 0.0) -> Generator[None]:
        """Ask once so many seconds are over, of which some are already; `None` is never."""
        if seconds is None:
            yield
            return
        why = f"because the time limit of {seconds:g} s is over"
        timer = threading.Timer(max(seconds - taken, 0.0), self.ask, [why])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def by_signals(self, say: Callable[[str], None]) -> Generator[None]:
        """Let the first Ctrl-C or SIGTERM ask, and a second one interrupt at once."""

        def interrupt(signum: int, frame: FrameType | None) -> None:
            if self.signalled:
                raise KeyboardInterrupt
            self.signalled = True
            self.ask(f"by {signal.Signals(signum).name}")
            say("stopping after the next checkpoints; once more stops at once")

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, interrupt) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
