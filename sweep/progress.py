"""What the driver shows while a sweep runs: a live table and bar on a terminal, plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.names import Status

SECONDS_BETWEEN_LINES = 10.0
"""How often a plain line is printed when nothing ends."""

STYLES = {
    Status.COMPLETED: "green",
    Status.DIVERGED: "grey62",
    Status.STOPPED: "cyan",
    Status.FAILED: "red",
    Status.INTERRUPTED: "yellow",
    Status.RUNNING: "blue",
    Status.PENDING: "dim",
}


@dataclass(slots=True)
class Progress:
    """Counts cells by status and steps done; safe to update from any thread.

    Args:
        total_steps: Steps of all cells that this command has to train, and of those that are done.
        statuses: Status of each unique cell of the plan.
        steps_before: Steps that were done before, by cell.
    """

    name: str
    total_steps: int
    statuses: dict[str, Status]
    steps_before: Mapping[str, int] = field(default_factory=dict[str, int])
    _expected_steps: int = 0
    _steps: dict[str, int] = field(default_factory=dict[str, int])
    _begun: float = field(default_factory=time.monotonic)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._steps.update(self.steps_before)

    def update(self, cell_id: str, status: Status, step: int, num_steps: int) -> None:
        """Note where a cell is; a cell that ended early spares the rest of its steps."""
        with self._lock:
            self.statuses[cell_id] = status
            self._steps[cell_id] = num_steps if status.ended else step

    def add(self, num_steps: Mapping[str, int]) -> None:
        """Note further cells, by the number of their steps."""
        with self._lock:
            self.total_steps += sum(num_steps.values())
            self.statuses.update(dict.fromkeys(num_steps, Status.PENDING))

    def expect(self, num_steps: int) -> None:
        """Note how many steps there will be of cells that are still to be asked for."""
        with self._lock:
            self._expected_steps = self.total_steps + num_steps

    def begin(self, cell_id: str) -> None:
        """Note that a worker has begun a cell."""
        with self._lock:
            self.statuses[cell_id] = Status.RUNNING

    def counts(self) -> dict[str, int]:
        """Return the number of cells by status, in a fixed order, without zeros."""
        with self._lock:
            counted = Counter(self.statuses.values())
        return {status.value: counted[status] for status in Status if counted[status]}

    def fraction(self) -> float:
        """Return the share of steps done."""
        with self._lock:
            done, total = sum(self._steps.values()), self._total()
        return 1.0 if total == 0 else min(1.0, done / total)

    def eta_seconds(self) -> float | None:
        """Return the seconds left at the rate so far; `None` before there is one and when nothing is left."""
        with self._lock:
            done, total = sum(self._steps.values()), self._total()
        elapsed = time.monotonic() - self._begun
        now = done - sum(self.steps_before.values())
        if now <= 0 or done >= total:
            return None
        return max(0.0, (total - done) * elapsed / now)

    def _total(self) -> int:
        return max(self.total_steps, self._expected_steps)

    def line(self) -> str:
        """Return the state in one line of text."""
        counts = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        eta = self.eta_seconds()
        left = "" if eta is None else f", about {duration(eta)} left"
        return f"{self.name}: {self.fraction():.0%} of steps; {counts}{left}"


def count_of(count: int, noun: str) -> str:
    """Write how many there are: "1 cell", "2,000 cells"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """Return a duration as people write it: 0.2 s, 45 s, 12 min, 3.5 h."""
    if 0 < seconds < 1:
        return f"{seconds:.1g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Display:
    """Shows a `Progress` until closed.

    Args:
        progress: What is shown.
        console: Where.
    """

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress = progress
        self._console = console
        self._last_ended, self._last_line = -1, ""
        self._last_time = time.monotonic()
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4)
            self._live.start()

    def tick(self) -> None:
        """Print a plain line when something ended or some time has passed; does nothing on a terminal."""
        if self._live is not None:
            return
        ended = sum(count for status, count in self._progress.counts().items() if Status(status).ended)
        now = time.monotonic()
        if ended != self._last_ended or now - self._last_time > SECONDS_BETWEEN_LINES:
            self._last_ended, self._last_time = ended, now
            self._print()

    def close(self) -> None:
        """Leave the final state on the screen."""
        if self._live is not None:
            self._live.stop()
        else:
            self._print()

    def _print(self) -> None:
        line = self._progress.line()
        if line != self._last_line:
            self._console.print(line, highlight=False, soft_wrap=True)
        self._last_line = line

    def _render(self) -> Group:
        table = Table(box=None, padding=(0, 2), show_header=False)
        row = [
            Text(f"{count} {status}", style=STYLES[Status(status)])
            for status, count in self._progress.counts().items()
        ]
        table.add_row(Text(self._progress.name, style="bold"), *row)
        eta = self._progress.eta_seconds()
        fraction = self._progress.fraction()
        foot = Table(box=None, padding=(0, 2), show_header=False)
        foot.add_row(
            ProgressBar(total=1.0, completed=fraction, width=40),
            Text(f"{fraction:.0%}"),
            Text("" if eta is None else f"about {duration(eta)} left", style="dim"),
        )
        return Group(table, foot)
