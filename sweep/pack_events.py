"""What happens to packs, passed on: commits to the recorder, states to the cells that wait for them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sweep.forks import Fork, Sharing
from sweep.names import Status
from sweep.plan import Plan
from sweep.progress import Progress
from sweep.recorder import Recorder


class PackEvents:
    """Receives the events of one run; nothing here waits.

    Args:
        plan: What is being run.
        packs: The cells of each pack.
        sharing: What the cells take from each other.
        recorder: Is told of commits, failures and starts.
        progress: Is kept up to date.
        say: Prints a line.
    """

    def __init__(
        self,
        plan: Plan,
        packs: Sequence[Sequence[str]],
        sharing: Mapping[str, Sharing],
        recorder: Recorder,
        progress: Progress,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._packs = packs
        self._sharing = sharing
        self._there: set[Fork] = set()
        self._recorder = recorder
        self._progress = progress
        self._say = say
        self._ended: set[str] = set()

    def ready(self, pack: int) -> bool:
        """Whether the states that a pack forks from are there, or will never be."""
        starts = (self._sharing[cell_id].start for cell_id in self._packs[pack])
        return all(start is None or start in self._there for start in starts)

    def _settle(self, cell_id: str, until: float) -> None:
        """Release the cells that wait for what `cell_id` leaves up to a step."""
        self._there.update(fork for fork in self._sharing[cell_id].leaves if fork.step <= until)

    def started(self, pack: int) -> None:
        """A worker has begun a pack, or begun it again."""
        for cell_id in self._packs[pack]:
            if cell_id not in self._ended:
                self._recorder.started(cell_id)
                self._progress.begin(cell_id)

    def reported(self, pack: int, commits: list[dict[str, Any]], problems: list[str]) -> None:
        """A worker has committed."""
        for problem in problems:
            self._say(problem)
        for commit in commits:
            cell_id, status = commit["cell_id"], Status(commit["status"])
            if cell_id in self._ended:
                continue
            self._recorder.submit(cell_id, step=commit["step"], attempt=commit["attempt"])
            self._progress.update(cell_id, status, commit["step"], commit["num_steps"])
            self._settle(cell_id, max(commit["left"], default=0))
            if status.ended:
                self._ended.add(cell_id)
                self._settle(cell_id, math.inf)

    def failed(self, pack: int, reason: str, log: str) -> None:
        """A pack is given up."""
        for cell_id in self._packs[pack]:
            if cell_id not in self._ended:
                self._recorder.ended(cell_id, Status.FAILED, reason, log=log)
                # Whoever waits for it trains from the start instead.
                self._settle(cell_id, math.inf)
                self._progress.update(cell_id, Status.FAILED, 0, self._plan.cells[cell_id].num_steps)
