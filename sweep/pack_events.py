"""What happens to packs, passed on: commits to the recorder, states to the cells that wait for them."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweep import names
from sweep.forks import Fork, Sharing
from sweep.guide import Guide
from sweep.names import Status
from sweep.packs import PackPlan, make_packs, pack_of
from sweep.progress import Progress, count_of
from sweep.recorder import Recorder
from sweep.retention import Retention
from trainers.cell import Cell

OUT_OF_MEMORY = (
    "OutOfMemoryError",
    "MemoryError",
    "can't allocate memory",
    "out of memory",
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
)
"""What the log of a pack says that ran out of memory: torch's and Ray's error, Python's, torch's on a CPU,
and those of the CUDA driver and its libraries, of which cuDNN 9 has its own word."""


class PackEvents:
    """Receives the events of one training (`sweep.schedule.Events`); nothing here waits.

    Args:
        cells: What is being trained, by id.
        packs: The cells of each pack.
        sharing: What the cells take from each other.
        recorder: Is told of commits, failures and starts.
        progress: Is kept up to date.
        retention: Is told of cells that have ended.
        say: Prints a line.
        guide: May add cells, and compares them; `None` where nobody does.
        begins: The step of the furthest state that is stored for each cell, where there is one.
        joined: Whether it is a cluster's nodes that train, so that each is said once it does.
    """

    def __init__(
        self,
        cells: Mapping[str, Cell],
        packs: Sequence[Sequence[str]],
        sharing: Mapping[str, Sharing],
        recorder: Recorder,
        progress: Progress,
        retention: Retention,
        say: Callable[[str], None],
        guide: Guide | None = None,
        *,
        begins: Mapping[str, int] | None = None,
        joined: bool = False,
    ) -> None:
        self._guide = guide
        self._joined = joined
        self._nodes_said: set[str] = set()
        self._packs = [pack_of(pack, cells, sharing) for pack in packs]
        self._cells = dict(cells)
        self._sharing = dict(sharing)
        self._begins = begins or {}
        self._there: set[Fork] = set()
        self._lost: set[Fork] = set()
        self._parted: list[int] = []
        self._recorder = recorder
        self._progress = progress
        self._retention = retention
        self._say = say
        self._ended: set[str] = set()
        self._unknown: set[str] = set()
        self._rank: Mapping[str, int] = {}
        self._applied: Mapping[str, int] = self._rank
        self._begun: dict[int, float] = {}
        self._held_seconds = 0.0
        self._node_of: dict[int, str] = {}
        self._node_use: dict[str, dict[str, float]] = {}

    def observed(self, pack: int, node: str, use: dict[str, float]) -> None:
        """A worker says on which node it is, and how busy that is."""
        self._node_of[pack] = node
        if self._joined and node not in self._nodes_said:
            self._nodes_said.add(node)
            self._say(f"{node} trains; {count_of(len(self._nodes_said), 'node')} so far")
        # Replaced and not changed: another thread may be reading it.
        self._node_use = {**self._node_use, node: use}

    def nodes(self) -> dict[str, float]:
        """Return how busy the nodes are that were heard of since the last call, as `NODE/NAME`.

        And how many trials those run that are only between two commits.
        """
        heard, self._node_use = self._node_use, {}
        running = Counter(node for pack, node in list(self._node_of.items()) if pack in self._begun)
        found = {f"{node}/{name}": value for node, use in heard.items() for name, value in use.items()}
        return found | {f"{node}/{names.TRIALS_RUNNING}": float(running[node]) for node in {*heard, *running}}

    def prefer(self, order: Sequence[str]) -> None:
        """Let the packs that have not begun come in this order of their cells. From any thread."""
        self._rank = {cell_id: place for place, cell_id in enumerate(order)}

    def in_order(self, packs: list[int]) -> list[int]:
        """Return waiting packs in the order in which they are to begin."""
        rank = self._applied = self._rank
        last = len(rank)
        return sorted(packs, key=lambda pack: min(rank.get(cell, last) for cell in self._packs[pack].cells))

    def is_reordered(self) -> bool:
        """Whether packs are to begin in another order than when that was last asked for."""
        return self._rank is not self._applied

    def held_seconds(self) -> float:
        """Return for how long packs have been on workers, all of them together. From any thread."""
        now = time.monotonic()
        return self._held_seconds + sum(now - begun for begun in list(self._begun.values()))

    def let_go(self, pack: int) -> None:
        """A pack has lost its worker, or needs none any more."""
        if (begun := self._begun.pop(pack, None)) is not None:
            self._held_seconds += time.monotonic() - begun
        self._node_of.pop(pack, None)

    def ready(self, pack: int) -> bool:
        """Whether the states that a pack forks from are there, or will never be."""
        starts = (self._sharing[cell_id].start for cell_id in self._packs[pack].cells)
        return all(start is None or start in self._there or start in self._lost for start in starts)

    def _leave(self, cell_id: str, until: int) -> None:
        """Release the cells that wait for what `cell_id` has left up to a step."""
        self._there.update(fork for fork in self._sharing[cell_id].leaves if fork.step <= until)
        self._lost -= self._there

    def _give_up(self, cell_id: str) -> None:
        """Release the cells that wait for what `cell_id` has not left: they are trained without it."""
        self._lost.update(fork for fork in self._sharing[cell_id].leaves if fork not in self._there)

    def started(self, pack: int) -> None:
        """A worker has begun a pack, or begun it again."""
        self._begun.setdefault(pack, time.monotonic())
        for cell_id in self._unended(pack):
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
            if cell_id not in self._cells:
                self._pass_over(pack, cell_id)
                continue
            self._recorder.submit(cell_id, step=commit["step"], attempt=commit["attempt"])
            self._progress.update(cell_id, status, commit["step"], commit["num_steps"])
            self._leave(cell_id, max(commit["left"], default=0))
            if self._guide is not None:
                self._guide.reported(cell_id, commit["step"], status)
            if status.ended:
                self._ended.add(cell_id)
                self._retention.ended(cell_id)
                self._give_up(cell_id)
        if not self._unended(pack):
            self.let_go(pack)

    def _pass_over(self, pack: int, cell_id: str) -> None:
        """Say once that a worker trains what nobody planned; its pack is left to be gone on with."""
        if cell_id in self._unknown:
            return
        self._unknown.add(cell_id)
        self._say(f"a worker reports cell {cell_id}, which is not in the plan; it is not recorded")
        for planned in self._unended(pack):
            self._give_up(planned)

    def failed(self, pack: int, reason: str, log: str) -> list[int]:
        """A pack is given up; of several cells each is tried by itself, so that only the culprit fails.

        So is one that is left of several: by itself it is tried again before it counts as failed. A pack that
        ran out of memory has no culprit, and goes on as two halves.

        Returns:
            The numbers of the packs that take its place.
        """
        self.let_go(pack)
        left = self._unended(pack)
        together = len(self._packs[pack].cells)
        if left and together > 1:
            size = -(-len(left) // 2) if any(sign in log for sign in OUT_OF_MEMORY) else 1
            how = "one by one" if size == 1 else f"again, {size} at a time"
            self._say(f"{len(left)} of {together} cells that were trained together are tried {how}: {reason}")
            return self._split([left[start : start + size] for start in range(0, len(left), size)])
        for cell_id in left:
            self._recorder.ended(cell_id, Status.FAILED, reason, log=log)
            self._give_up(cell_id)
            self._progress.update(cell_id, Status.FAILED, 0, self._cells[cell_id].num_steps)
            if self._guide is not None:
                self._guide.reported(cell_id, 0, Status.FAILED)
        return []

    def plan(self, pack: int) -> PackPlan:
        """Return a pack by its number, without the cells that cannot begin with the others any more."""
        self._part(pack)
        plan = self._packs[pack]
        return plan if self._guide is None else replace(plan, pauses=self._guide.pauses(plan.cells))

    def _part(self, pack: int) -> None:
        """Let cells of a pack begin by themselves that begin earlier, because a state was not left for them.

        Otherwise all of it would begin there.
        """
        cells = self._packs[pack].cells
        lost = [cell_id for cell_id in cells if self._sharing[cell_id].start in self._lost]
        if not lost:
            return
        self._sharing.update((cell_id, replace(self._sharing[cell_id], start=None)) for cell_id in lost)
        own, *others = make_packs(cells, self._sharing, lanes=len(cells), begins=self._begins)
        self._packs[pack] = pack_of(own, self._cells, self._sharing)
        self._parted += self._split(others)

    def _split(self, packs: Sequence[Sequence[str]]) -> list[int]:
        """Add packs of cells that were in another one; returns their numbers."""
        if self._guide is not None:
            self._guide.parted(packs)
        return self._append(packs)

    def _append(self, packs: Iterable[Sequence[str]]) -> list[int]:
        """Add packs; returns their numbers."""
        first = len(self._packs)
        self._packs.extend(pack_of(pack, self._cells, self._sharing) for pack in packs)
        return list(range(first, len(self._packs)))

    def more(self, seconds: float) -> list[int] | None:
        """Return the packs that have been added, after at most so long; `None` when no more will come."""
        parted, self._parted = self._parted, []
        added = None if self._guide is None else self._guide.take(seconds)
        if added is None:
            return parted or None
        for cells in added:
            self._cells.update(cells)
            self._sharing.update((cell_id, Sharing()) for cell_id in cells)
        return parted + self._append([list(cells) for cells in added])

    def _unended(self, pack: int) -> list[str]:
        return [cell_id for cell_id in self._packs[pack].cells if cell_id not in self._ended]
