"""A pack of cells between the trainer and the checkpoint store: begin, train a while, commit.

No Ray here: a trial (`sweep.trial`) drives it on a cluster and `sweep cell` in this process.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sweep.names import EIGENSPACE_UNCONVERGED, FINAL_STEPS, FINAL_TEST_ACCURACY, FINAL_TRAIN_LOSS
from sweep.storage import Manifest, Storage
from trainers.canonical import cell_id
from trainers.cell import Cell
from trainers.checkpoint import LaneState, decode, encode
from trainers.data import Dataset
from trainers.errors import CheckpointError
from trainers.history import TEST_ACCURACY, TRAIN_LOSS, History
from trainers.lane import Lane
from trainers.training import Trainer

SECONDS_BETWEEN_LOOKS = 0.25
"""How often the clock is looked at while training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What one commit of one cell made durable; small enough to report.

    Args:
        cell_id: Which cell.
        step: Up to which step.
        attempt: By which attempt.
        status: "completed" or "diverged" when the cell has ended, else "running".
        num_steps: The cell's planned end.
    """

    cell_id: str
    step: int
    attempt: int
    status: str
    num_steps: int


class Pack:
    """Trains cells of one shape from what the store holds.

    Args:
        cells: The cells.
        storage: The checkpoint store.
        data_folder: Where data sets are kept.
        device: Torch device.
        environment: Facts about this attempt, recorded with every commit.
        report: Receives a line for each damaged file that was passed over.
        data: The loaded data set, where the caller has it.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        storage: Storage,
        *,
        data_folder: Path,
        device: str = "cpu",
        environment: dict[str, Any] | None = None,
        report: Callable[[str], None] = print,
        data: Dataset | None = None,
    ) -> None:
        self._storage = storage
        self._environment = environment or {}
        self._ids = [cell_id(cell) for cell in cells]
        self._attempts = [storage.begin_attempt(address) for address in self._ids]
        self.trainer = Trainer(cells, data_folder=data_folder, data=data, device=device)
        self._manifests: list[Manifest | None] = [None] * len(cells)
        self._steps_a_look = 1
        self._resume(report)

    def _resume(self, report: Callable[[str], None]) -> None:
        """Go on from the newest state that every lane has; without one, from the start."""
        found = [self._latest(address, None, report) for address in self._ids]
        common = min((manifest.step for manifest in found if manifest is not None), default=0)
        if any(manifest is None for manifest in found) or common == 0:
            return
        chosen = [
            manifest
            if manifest is not None and (manifest.outcome is not None or manifest.step == common)
            else self._latest(address, common, report)
            for address, manifest in zip(self._ids, found, strict=True)
        ]
        manifests = [manifest for manifest in chosen if manifest is not None]
        running = {manifest.step for manifest in manifests if manifest.outcome is None}
        if len(manifests) < len(chosen) or len(running) > 1:
            return
        states: list[LaneState] = [decode(self._storage.read_checkpoint(manifest)) for manifest in manifests]
        self.trainer.restore(states)
        self._manifests = list(manifests)

    def _latest(self, address: str, max_step: int | None, report: Callable[[str], None]) -> Manifest | None:
        manifest, problems = self._storage.latest(address, max_step=max_step)
        for problem in problems:
            report(problem)
        if manifest is None:
            return None
        try:
            decode(self._storage.read_checkpoint(manifest))
        except CheckpointError as error:
            report(f"cell {address}, step {manifest.step}: {error} The previous state is used.")
            return self._latest(address, manifest.step - 1, report) if manifest.step > 0 else None
        return manifest

    @property
    def finished(self) -> bool:
        """Whether every cell has an outcome."""
        return self.trainer.finished

    def train(self, seconds: float) -> None:
        """Train for about `seconds`, or until every cell has ended.

        How often the clock is looked at has no influence on the numbers.
        """
        deadline = time.monotonic() + seconds
        while not self.trainer.finished:
            start, begun = self.trainer.step, time.monotonic()
            self.trainer.advance(start + self._steps_a_look)
            now = time.monotonic()
            if now >= deadline:
                return
            rate = max(1, self.trainer.step - start) / max(now - begun, 1e-6)
            self._steps_a_look = max(1, min(2 * self._steps_a_look, int(rate * SECONDS_BETWEEN_LOOKS)))

    def commit(self) -> list[Committed]:
        """Make every lane's progress durable; a lane that had ended before is left as it is."""
        return [self._commit_lane(index, lane) for index, lane in enumerate(self.trainer.lanes)]

    def _commit_lane(self, index: int, lane: Lane) -> Committed:
        address, attempt, previous = self._ids[index], self._attempts[index], self._manifests[index]
        state = self.trainer.state(index)
        if previous is None or (previous.outcome is None and (state.step > previous.step or lane.outcome)):
            history = table_of(self.trainer.drain(index))
            start = 0 if previous is None else previous.step
            outcome = None
            if lane.outcome is not None:
                outcome = {"status": lane.outcome.status, "reason": lane.outcome.reason, "step": lane.outcome.step}
                if previous is not None:
                    earlier = self._storage.read_parts(previous)
                    history = joined(earlier, history)
                previous, start = None, 0
            self._manifests[index] = self._storage.commit(
                address,
                attempt=attempt,
                step=state.step,
                checkpoint=encode(state),
                part=history,
                start=start,
                previous=previous,
                outcome=outcome,
                summary={"finals": finals_of(lane, state.step), "environment": self._environment},
            )
            self._storage.prune(address)
        status = "running" if lane.outcome is None else lane.outcome.status
        return Committed(
            cell_id=address, step=state.step, attempt=attempt, status=status, num_steps=lane.num_steps
        )


def table_of(history: History) -> pa.Table:
    """Return a history as an Arrow table: step, timestamp_ms, then the series in alphabetical order."""
    columns: dict[str, pa.Array] = {
        "step": pa.array(history.steps, pa.int64()),
        "timestamp_ms": pa.array(history.timestamps_ms, pa.int64()),
    }
    for name, values in sorted(history.series.items()):
        columns[name] = pa.array(values, pa.float64(), from_pandas=False)
    return pa.table(columns)


def joined(earlier: pa.Table, later: pa.Table) -> pa.Table:
    """Return one history out of two that follow each other, its columns ordered as `table_of` orders them."""
    table = pa.concat_tables([earlier, later], promote_options="default").combine_chunks()
    names = [name for name in table.column_names if name not in ("step", "timestamp_ms")]
    return table.select(["step", "timestamp_ms", *sorted(names)])


def finals_of(lane: Lane, step: int) -> dict[str, float]:
    """Return the final metrics of a lane as they stand."""
    finals = {FINAL_STEPS: float(step)}
    if TRAIN_LOSS in lane.finals:
        finals[FINAL_TRAIN_LOSS] = lane.finals[TRAIN_LOSS]
    if TEST_ACCURACY in lane.finals:
        finals[FINAL_TEST_ACCURACY] = lane.finals[TEST_ACCURACY]
    if lane.refreshes:
        finals[EIGENSPACE_UNCONVERGED] = lane.unconverged / lane.refreshes
    return finals
