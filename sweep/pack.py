"""A pack of cells between the trainer and the checkpoint store: begin, train a while, commit.

No Ray here: a trial (`sweep.trial`) drives it on a cluster and `sweep cell` in this process.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pyarrow.compute import field

from sweep.attempts import attempts_of
from sweep.ends import publish_end
from sweep.forks import fork_at, lines_of
from sweep.lane_results import finals_of, joined, table_of
from sweep.packs import pack_name
from sweep.storage import Manifest, Storage, Tidying
from trainers.canonical import cell_id
from trainers.cell import Cell
from trainers.checkpoint import LaneState, decode, encode
from trainers.data import Dataset
from trainers.errors import CheckpointError
from trainers.lane import OWN_FINALS, Lane
from trainers.objective import unheard
from trainers.training import Trainer

SECONDS_BETWEEN_LOOKS = 0.25
"""How long is trained between two looks around."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What one commit of one cell made durable; small enough to report.

    Args:
        cell_id: Which cell.
        step: Up to which step.
        attempt: By which attempt.
        status: "completed", "diverged" or "stopped" when the cell has ended, else "running".
        num_steps: The cell's planned end.
        left: Steps of the states that it has left for other cells so far.
    """

    cell_id: str
    step: int
    attempt: int
    status: str
    num_steps: int
    left: tuple[int, ...] = ()


class Pack:
    """Trains cells of one shape from what the store holds.

    Args:
        cells: The cells.
        storage: The checkpoint store.
        leaves: For each cell, the steps at which it leaves its state for others (`sweep.forks`).
        data_folder: Where data sets are kept.
        device: Torch device.
        environment: Facts about this attempt, recorded with every commit.
        report: Receives a line for each damaged file that was passed over.
        data: The loaded data set, where the caller has it.
        beat: Called whenever the work has gone on: as the trainer does, and with every cell whose commits are
            looked at or added to.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        storage: Storage,
        *,
        data_folder: Path,
        leaves: Sequence[Sequence[int]] = (),
        device: str = "cpu",
        environment: dict[str, Any] | None = None,
        report: Callable[[str], None] = print,
        data: Dataset | None = None,
        beat: Callable[[], None] = unheard,
    ) -> None:
        self._storage = storage
        self._beat = beat
        self._environment = environment or {}
        self._cells = list(cells)
        self._ids = [cell_id(cell) for cell in cells]
        self._name = pack_name(self._ids)
        self._leaves = [sorted(steps) for steps in leaves] or [[] for _ in cells]
        self._left: list[set[int]] = [set() for _ in cells]
        self._attempts = [self._begin_attempt(address) for address in self._ids]
        self._tidying = [Tidying(storage, address) for address in self._ids]
        self.trainer = Trainer(cells, data_folder=data_folder, data=data, device=device, beat=beat)
        self._manifests: list[Manifest | None] = [None] * len(cells)
        self._common: int | None = None
        """The last step of which every lane that trains has a state in the store."""
        self._origins: dict[int, Manifest] = {}
        self._forked_from: dict[int, dict[str, Any]] = {}
        self._train_seconds = 0.0
        self._device_seconds = [0.0] * len(cells)
        """Of each lane: while some train together, each of them has an equal share."""
        self._earlier: list[list[dict[str, Any]]] = [[] for _ in cells]
        """The attempts that have trained what a lane goes on from."""
        self._start = 0
        self._resume(report)
        for index, steps in enumerate(self._leaves):
            self._left[index].update(step for step in steps if step < self._passed(index))
        self._leave()

    def _begin_attempt(self, address: str) -> int:
        self._beat()
        return self._storage.begin_attempt(address)

    def _resume(self, report: Callable[[str], None]) -> None:
        """Go on from the newest state that every lane has, its own or one that another cell left.

        Where there is none, the lanes begin anew, but for those that have ended: they stay so.
        """
        found = [self._starting_point(index, None, report) for index in range(len(self._ids))]
        begun = [state.step for state in found if state is not None and not _has_ended(state)]
        common = min(begun, default=None)
        chosen = self._at_step(common, found, report)
        if chosen is None:
            chosen = [state if state is not None and _has_ended(state) else None for state in found]
            common = None
            if max(begun, default=0) > 0:
                report(
                    f"a pack of {chosen.count(None)} cells begins at step 0: there is no step of which each "
                    f"of them has a state; {len(begun)} had one, at step {max(begun):,} at most."
                )
        if all(state is None for state in chosen):
            return
        self.trainer.restore(
            [self.trainer.state(index) if state is None else state for index, state in enumerate(chosen)]
        )
        self._start = self.trainer.step
        for index, state in enumerate(chosen):
            if state is not None:
                self._adopt(index, state)
        self._common = common

    def _at_step(
        self, common: int | None, found: Sequence[LaneState | None], report: Callable[[str], None]
    ) -> list[LaneState | None] | None:
        """Return a state of each lane, of step `common` but where it has ended; `None` where one has none.

        Args:
            common: The step; `None` where all have ended.
            found: The newest state of each lane.
            report: See `Pack`.
        """
        newest = [state for state in found if state is not None]
        if len(newest) < len(found):
            return None
        chosen: list[LaneState | None] = []
        for index, state in enumerate(newest):
            fits = _has_ended(state) or state.step == common
            earlier = state if fits else self._starting_point(index, common, report)
            if earlier is None or not (fits or earlier.step == common):
                return None
            chosen.append(earlier)
        return chosen

    def _passed(self, index: int) -> int:
        """Return up to where a lane has gone: the trainer's step, or that at which the lane had ended."""
        own = self._manifests[index]
        return self.trainer.step if own is None or own.outcome is None else own.step

    def _starting_point(
        self, index: int, max_step: int | None, report: Callable[[str], None]
    ) -> LaneState | None:
        """Return the furthest state that a cell can start from, up to `max_step`."""
        self._beat()
        self._origins.pop(index, None)
        own = self._latest(self._ids[index], max_step, report)
        best: LaneState | None = None
        if own is not None:
            self._origins[index], best = own
        for line, start, stop in lines_of(self._cells[index]):
            limit = stop if max_step is None else min(stop, max_step)
            if best is not None and (_has_ended(best) or limit <= best.step):
                break
            if (left := self._latest(line, limit, report)) is None:
                continue
            manifest, state = left
            if start < manifest.step and (best is None or manifest.step > best.step):
                best = relabelled(state, self._ids[index])
                self._origins[index] = manifest
                break
        return best

    def _adopt(self, index: int, state: LaneState) -> None:
        """Take over the history that belongs to a restored state; another cell's becomes the cell's own."""
        self._beat()
        origin = self._origins[index]
        if origin.cell_id == self._ids[index]:
            self._manifests[index] = origin
            self._earlier[index] = attempts_of(origin)
            return
        history = self._storage.read_parts(origin)
        before = history.filter(field("step") < state.step)
        self._forked_from[index] = {"line": origin.cell_id, "step": state.step}
        self._manifests[index] = self._storage.commit(
            self._ids[index],
            attempt=self._attempts[index],
            step=state.step,
            checkpoint=encode(state),
            part=before,
            start=0,
            previous=None,
            summary=self._summary(index, state.step),
        )

    def _summary(self, index: int, step: int) -> dict[str, Any]:
        previous = self._manifests[index]
        forked_from = self._forked_from.get(index) or (
            previous.summary.get("forked_from") if previous else None
        )
        environment = {
            **self._environment,
            "attempt": self._attempts[index],
            "start": self._start,
            "stop": step,
            "train_seconds": round(self._train_seconds, 3),
            "device_seconds": round(self._device_seconds[index], 6),
            "lanes": len(self._cells),
            "pack": self._name,
        }
        summary: dict[str, Any] = {
            "finals": finals_of(self.trainer.lanes[index], step),
            "environment": environment,
        }
        if self._earlier[index]:
            summary["earlier_attempts"] = self._earlier[index]
        return summary | ({"forked_from": forked_from} if forked_from else {})

    def _latest(
        self, address: str, max_step: int | None, report: Callable[[str], None]
    ) -> tuple[Manifest, LaneState] | None:
        """Return the newest commit whose state can be used, and that state."""
        manifest, problems = self._storage.latest(address, max_step=max_step)
        for problem in problems:
            report(problem)
        if manifest is None:
            return None
        try:
            return manifest, decode(self._storage.read_checkpoint(manifest))
        except CheckpointError as error:
            report(f"cell {address}, step {manifest.step}: {error} The previous state is used.")
            return self._latest(address, manifest.step - 1, report) if manifest.step > 0 else None

    @property
    def finished(self) -> bool:
        """Whether every cell has an outcome."""
        return self.trainer.finished

    def stop(self, cell_id: str, reason: str) -> None:
        """End a cell where it is, because somebody asks for it; the next commit says so."""
        self.trainer.stop(self._ids.index(cell_id), reason)

    def train(self, seconds: float, *, pauses: Sequence[int] = ()) -> None:
        """Train for about `seconds`, up to one of the steps `pauses`, or until every cell has ended.

        The clock has no influence on the numbers: see `Trainer.advance`.

        Args:
            seconds: Time until the next commit.
            pauses: Steps at which a commit is wanted at once.
        """
        deadline = time.monotonic() + seconds
        last = max(lane.num_steps for lane in self.trainer.lanes)
        while not self.trainer.finished:
            start, begun = self.trainer.step, time.monotonic()
            ahead = [step for step in pauses if step > start]
            training = [index for index, lane in enumerate(self.trainer.lanes) if lane.outcome is None]
            until = min(deadline, begun + SECONDS_BETWEEN_LOOKS)
            nearest = min([last, *self._next_leaves(start), *ahead])
            self.trainer.advance(nearest, pause=partial(_is_past, until))
            elapsed = time.monotonic() - begun
            self._train_seconds += elapsed
            for index in training:
                self._device_seconds[index] += elapsed / len(training)
            self._leave()
            if _is_past(deadline) or self.trainer.step in pauses:
                return

    def _next_leaves(self, step: int) -> list[int]:
        return [leave for leaves in self._leaves for leave in leaves if leave > step]

    def _leave(self) -> None:
        """Where a lane has come to a step at which others fork from it, store its state for them."""
        step = self.trainer.step
        for index, lane in enumerate(self.trainer.lanes):
            if step in self._leaves[index] and step not in self._left[index] and lane.outcome is None:
                self._commit_lane(index, lane)
                self._publish(index, step)

    def _publish(self, index: int, step: int) -> None:
        """Store a lane's state and its history before `step` under the address of its line."""
        fork, own = fork_at(self._cells[index], step), self._manifests[index]
        assert own is not None, "a state is left only after it was committed"
        there, _ = self._storage.latest(fork.line, max_step=step)
        if there is None or there.step != step:
            self._storage.commit(
                fork.line,
                attempt=self._storage.begin_attempt(fork.line),
                step=step,
                checkpoint=self._storage.read_checkpoint(own),
                part=self._storage.read_parts(own),
                start=0,
                previous=None,
                summary={"left_by": self._ids[index]},
            )
        self._left[index].add(step)

    def commit(self) -> list[Committed]:
        """Make every lane's progress durable; a lane that had ended before is left as it is."""
        committed = [self._commit_lane(index, lane) for index, lane in enumerate(self.trainer.lanes)]
        self._common = self.trainer.step
        return committed

    def _commit_lane(self, index: int, lane: Lane) -> Committed:
        self._beat()
        address, attempt, previous = self._ids[index], self._attempts[index], self._manifests[index]
        state = self.trainer.state(index)
        if previous is None or (previous.outcome is None and (state.step > previous.step or lane.outcome)):
            history = table_of(self.trainer.drain(index))
            start = 0 if previous is None else previous.step
            outcome = None
            if lane.outcome is not None:
                outcome = {
                    "status": lane.outcome.status,
                    "reason": lane.outcome.reason,
                    "step": lane.outcome.step,
                }
                if previous is not None:
                    earlier = self._storage.read_parts(previous)
                    history = joined(earlier, history)
                previous, start = None, 0
            manifest = self._manifests[index] = self._storage.commit(
                address,
                attempt=attempt,
                step=state.step,
                checkpoint=encode(state),
                part=history,
                start=start,
                previous=previous,
                outcome=outcome,
                summary=self._summary(index, state.step),
            )
            # A lane that leaves its state is ahead of the others: the pack goes on from what all have.
            self._tidying[index].after(manifest, needed=self._common)
        self._publish_end(index)
        status = "running" if lane.outcome is None else lane.outcome.status
        kept = self._manifests[index]
        return Committed(
            cell_id=address,
            step=state.step,
            # Of an earlier one where there was nothing to commit.
            attempt=attempt if kept is None else kept.attempt,
            status=status,
            num_steps=lane.num_steps,
            left=tuple(sorted(self._left[index])),
        )

    def _publish_end(self, index: int) -> None:
        """Tell longer runs where a cell has ended, also when an earlier attempt was killed before it did."""
        own = self._manifests[index]
        if own is None or own.step in self._left[index]:
            return
        if publish_end(self._storage, self._cells[index], own):
            self._left[index].add(own.step)


def _is_past(moment: float) -> bool:
    return time.monotonic() >= moment


def _has_ended(state: LaneState) -> bool:
    return state.scalars.get("outcome") is not None


def relabelled(state: LaneState, address: str) -> LaneState:
    """Return another cell's state as the state of the cell `address`, which has not ended there."""
    return replace(state, cell_id=address, scalars={**state.scalars, "outcome": None, OWN_FINALS: {}})
