"""Who may write a sweep's record: a lease on its parent run, since two drivers may start at once anywhere.

MLflow has one atomic operation that serves: a param can be written once. So the holder of epoch n is whoever
wrote the param `lease.<n>`, and it holds for as long as no higher epoch is written. It renews a counter in a
tag. A contender takes over when the holder's process is gone (seen from the same machine), when it has
released (a process knows of itself that it has, also where MLflow was away), or when the counter has not
moved for `stale_seconds` by the contender's own clock; clocks are never compared.

A holder that was stopped for longer than that finds out before it writes: `check` looks at MLflow again
whenever the last look is older than a quarter of the stale time, and there is a fence (`sweep.ledger.fence`)
for what it was about to write when it was stopped. Time goes on while a machine is suspended.
"""

import threading
import time
from collections.abc import Mapping
from types import TracebackType

from mlflow.entities import Run

from sweep.errors import LeaseHeldError, LeaseLostError, LedgerError
from sweep.holder import Holder
from sweep.invocation import hint
from sweep.ledger import Ledger, Sweep
from sweep.ledger.connection import translated
from sweep.ledger.fence import Fence
from sweep.ledger.runs import is_deleted
from sweep.names import PARAM_LEASE_PREFIX, TAG_LEASE_BEAT, TAG_LEASE_RELEASED

RENEW_SECONDS = 2.0
STALE_SECONDS = 20.0
MAX_TAKINGS_WATCHED = 10
"""How many others may take the lease and die while one waits for it."""


class Lease:
    """The right to write a sweep's record. `acquire` makes one; it renews itself until `release`.

    Attributes:
        epoch: Counts the takings of this sweep's lease; the highest one holds.
        holder: This process.
    """

    def __init__(
        self,
        ledger: Ledger,
        sweep: Sweep,
        *,
        epoch: int,
        holder: Holder,
        renew_seconds: float,
        stale_seconds: float,
    ) -> None:
        self.epoch = epoch
        self.holder = holder
        self._ledger = ledger
        self._sweep = sweep
        self._renew_seconds = renew_seconds
        self._stale_seconds = stale_seconds
        self._fence = Fence(
            ledger.client,
            sweep.run_id,
            f"{PARAM_LEASE_PREFIX}{epoch + 1}",
            stale_seconds=stale_seconds,
            may_write=self._may_write,
        )
        self._count = 0
        self._looked = self._seen = seconds_since_boot()
        self._taken_by: Holder | None = None
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._renewer = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)

    @classmethod
    def acquire(
        cls,
        ledger: Ledger,
        sweep: Sweep,
        *,
        renew_seconds: float = RENEW_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> "Lease":
        """Take the lease; waits at most `stale_seconds`, and only for a holder that cannot be looked at.

        Raises:
            LeaseHeldError: Another process holds it; the message says which.
            LedgerError: MLflow does not answer.
        """
        me = Holder.this_process()
        try:
            return cls._taken(ledger, sweep, me, renew_seconds=renew_seconds, stale_seconds=stale_seconds)
        except BaseException:
            # The answer may be lost and not the request, and who tries again is not to wait for itself.
            me.give_up()
            raise

    @classmethod
    def _taken(
        cls, ledger: Ledger, sweep: Sweep, me: Holder, *, renew_seconds: float, stale_seconds: float
    ) -> "Lease":
        for _ in range(MAX_TAKINGS_WATCHED):
            run = ledger.parent_run(sweep)
            epochs = _epochs(run.data.params)
            epoch = max(epochs, default=0)
            if epoch:
                _require_free(ledger, sweep, run, epoch, epochs[epoch], stale_seconds)
            try:
                with translated("taking the lease"):
                    ledger.client.log_param(sweep.run_id, f"{PARAM_LEASE_PREFIX}{epoch + 1}", me.to_text())
            except LedgerError as error:
                if error.transient:
                    raise
            # Where another contender was first, the next look says who, and whether it lives.
            if _epochs(ledger.parent_run(sweep).data.params).get(epoch + 1) != me:
                continue
            lease = cls(
                ledger,
                sweep,
                epoch=epoch + 1,
                holder=me,
                renew_seconds=renew_seconds,
                stale_seconds=stale_seconds,
            )
            lease._begin()
            return lease
        raise LedgerError(f"the lease of sweep {sweep.name!r} could not be taken: is its parent run deleted?")

    def _begin(self) -> None:
        self._fence.raise_()
        try:
            self._renew()
            self._renewer.start()
            self._require_only_parent()
        except BaseException:
            self.abandon()
            raise

    def _require_only_parent(self) -> None:
        """Give way where the sweep was made twice at the same moment, and the other one is held too.

        Each looks after it has taken its own lease, so at least one of two sees the other.
        """
        for run in self._ledger.other_parents(self._sweep):
            if (holder := current_holder(run)) is not None:
                self.release()
                raise _held(self._ledger, self._sweep, holder)

    @property
    def held(self) -> bool:
        """Whether no higher epoch was seen at the last look."""
        return self._taken_by is None

    def check(self) -> None:
        """Call before writing: looks again if the last look is not recent.

        Raises:
            LeaseLostError: Another process has taken over; the caller must stop.
            LedgerError: MLflow does not answer, so the caller cannot know.
        """
        if self._taken_by is None and seconds_since_boot() - self._seen > self._stale_seconds / 4:
            self._renew()
        if self._taken_by is not None:
            raise LeaseLostError(
                f"sweep {self._sweep.name!r} was taken over by {self._taken_by}, while this process did not "
                "answer. This process has stopped writing; nothing is lost."
            )

    def _may_write(self) -> bool:
        """Whether no higher epoch was seen a moment ago; for the fence, so it waits for no other thread."""
        if self.held and seconds_since_boot() - self._looked > self._stale_seconds / 4:
            self._look()
        return self.held

    def release(self) -> None:
        """Give the lease back, so that the next one need not wait."""
        if self._released.is_set():
            return
        self._stop_renewing()
        try:
            if self._taken_by is None:
                with translated("releasing the lease"):
                    self._ledger.client.set_tag(self._sweep.run_id, TAG_LEASE_RELEASED, str(self.epoch))
        finally:
            self._fence.lower()

    def abandon(self) -> None:
        """Stop renewing without writing anything: its run is about to be deleted."""
        self._stop_renewing()
        self._fence.lower()

    def _stop_renewing(self) -> None:
        self._released.set()
        if self._renewer.is_alive():
            self._renewer.join()
        self.holder.give_up()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except LedgerError as failure:
            # MLflow is away; a contender sees that this process is gone, or waits for the stale time.
            if error is None and not failure.transient:
                raise

    def _keep_renewing(self) -> None:
        while not self._released.wait(self._renew_seconds):
            try:
                self._renew()
            except LedgerError:
                # While MLflow is away nobody can take over either; `check` tells who wants to write.
                continue
            if not self.held:
                return

    def _renew(self) -> None:
        """Look whether the epoch is still the highest, and if so move the counter."""
        with self._lock:
            begun = seconds_since_boot()
            self._look()
            if not self.held:
                return
            self._count += 1
            with translated("renewing the lease"):
                self._ledger.client.set_tag(self._sweep.run_id, TAG_LEASE_BEAT, f"{self.epoch}:{self._count}")
            # From before the look: what happened during it is not known. Only now: others watch the counter.
            self._seen = begun

    def _look(self) -> None:
        begun = seconds_since_boot()
        run = self._ledger.parent_run(self._sweep)
        if is_deleted(run):
            raise LedgerError(
                f"the run of sweep {self._sweep.name!r} was deleted in MLflow while it went on. Restore it "
                "there, or start the sweep anew with `sweep run`; what was trained is in the store."
            )
        epochs = _epochs(run.data.params)
        if max(epochs) > self.epoch:
            self._taken_by = epochs[max(epochs)]
        else:
            self._looked = begun


def current_holder(run: Run) -> Holder | None:
    """Return who holds the lease on a sweep's parent run, as read, or `None` when it is free.

    Free is: never taken, released, or the process is gone. A holder on another machine that died is still
    reported; only waiting can tell.
    """
    epochs = _epochs(run.data.params)
    epoch = last_epoch(run)
    if not epoch or _was_released(run, epoch) or epochs[epoch].process_state == "gone":
        return None
    return epochs[epoch]


def last_epoch(run: Run) -> int:
    """Return how often the lease on a sweep's parent run was taken."""
    return max(_epochs(run.data.params), default=0)


def _require_free(
    ledger: Ledger, sweep: Sweep, run: Run, epoch: int, holder: Holder, stale_seconds: float
) -> None:
    """Return once the lease of `epoch` no longer holds, or raise `LeaseHeldError`."""
    state = holder.process_state
    if state == "gone" or _was_released(run, epoch):
        return
    if state == "running":
        raise _held(ledger, sweep, holder)
    # Stopped, or elsewhere: only time tells. The counter is compared with itself, on this machine's clock.
    beat = run.data.tags.get(TAG_LEASE_BEAT)
    begun = time.monotonic()
    while True:
        time.sleep(min(0.5, stale_seconds / 10))
        # Before the look, which counts: this process may stand still between the two.
        is_stale = time.monotonic() - begun >= stale_seconds
        run = ledger.parent_run(sweep)
        if max(_epochs(run.data.params)) > epoch or _was_released(run, epoch):
            return
        if run.data.tags.get(TAG_LEASE_BEAT) != beat:
            raise _held(ledger, sweep, holder)
        if is_stale or holder.process_state == "gone":
            return


def _held(ledger: Ledger, sweep: Sweep, holder: Holder) -> LeaseHeldError:
    return LeaseHeldError(
        f"sweep {sweep.name!r} is being run by {holder}. Wait for it, or stop it with "
        f"`{hint('stop', sweep.name, given=ledger.given)}`."
    )


def _epochs(params: Mapping[str, str]) -> dict[int, Holder]:
    numbers = {
        name.removeprefix(PARAM_LEASE_PREFIX): text for name, text in params.items() if _is_lease(name)
    }
    return {int(number): Holder.read(text) for number, text in numbers.items()}


def _is_lease(name: str) -> bool:
    return name.startswith(PARAM_LEASE_PREFIX) and name.removeprefix(PARAM_LEASE_PREFIX).isdecimal()


def _was_released(run: Run, epoch: int) -> bool:
    return run.data.tags.get(TAG_LEASE_RELEASED) == str(epoch)


def seconds_since_boot() -> float:
    """Return a clock that nobody sets and that counts the time that a machine was suspended, where it can."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
