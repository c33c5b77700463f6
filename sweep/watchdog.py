"""A watchdog over a worker: work that stands still ends the process, so that its trial is tried again.

Time is counted in the watchdog's own ticks and not on a clock, so a machine that was suspended, or a process
that was stopped and goes on, is not taken for a hang.
"""

import faulthandler
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

EXIT_HUNG = 70
SECONDS_FOR_NOTE = 10.0


class Watchdog:
    """Watches while it is told to.

    Args:
        seconds: Without a beat for so long, the work hangs.
        leave_note: Is given, in words, where each thread stands, just before the process is ended.
    """

    def __init__(self, seconds: float, leave_note: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._leave_note = leave_note
        self._tick = min(1.0, seconds / 10)
        self._still = 0.0
        self._watching = False
        self._armed = -math.inf
        self._closed = threading.Event()
        self._worker = threading.get_ident()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @contextmanager
    def watching(self) -> Generator[None]:
        """Watch what is done inside."""
        self._worker = threading.get_ident()
        self.beat()
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            self._armed = -math.inf
            faulthandler.cancel_dump_traceback_later()

    def beat(self) -> None:
        """Say that the work goes on, as often as one likes."""
        self._still = 0.0
        now = time.monotonic()
        if now - self._armed < self._tick:
            return
        self._armed = now
        # For a hang that never lets another thread of Python run: ends the process without a note.
        faulthandler.dump_traceback_later(2 * self._seconds + SECONDS_FOR_NOTE, exit=True)

    def close(self) -> None:
        """Stop watching for good."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(self._tick):
            self._still = self._still + self._tick if self._watching else 0.0
            if self._still > self._seconds:
                # The note is put into the store, which may be what hangs.
                note = threading.Thread(target=self._leave_note, args=(self._text(),), daemon=True)
                note.start()
                note.join(SECONDS_FOR_NOTE)
                os._exit(EXIT_HUNG)

    def _text(self) -> str:
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            threads = file.read()
        # "Thread 0x… (most recent call first):", then a line a call.
        _, _, mine = threads.partition(f"0x{self._worker:016x}")
        calls = [line.strip() for line in mine.splitlines()[1:2]]
        where = f" in {calls[0]}" if calls else ""
        return f"hung: no progress for {self._seconds:g} s{where}\n\n{threads}"
