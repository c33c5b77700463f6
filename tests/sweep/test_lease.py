"""The lease on a real SQLite store, with real processes that are killed and stopped."""

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from sweep.errors import LeaseHeldError, LeaseLostError, LedgerError
from sweep.holder import Holder
from sweep.lease import STALE_SECONDS, Lease, current_holder
from sweep.ledger import Ledger, Sweep
from sweep.names import PARAM_LEASE_PREFIX, ROLE_SWEEP, TAG_LEASE_BEAT, TAG_NAME, TAG_ROLE
from tests.sweep.held_lease import LeaseProcess, hold, renew
from tests.sweep.small_sweep import FakeSpace, make_plan, take_over


def pretend(holder: Holder, ledger: Ledger, sweep: Sweep, epoch: int = 1) -> None:
    ledger.client.log_param(sweep.run_id, f"{PARAM_LEASE_PREFIX}{epoch}", holder.to_text())


def elsewhere() -> Holder:
    return Holder(host="far", machine="another", pid=1, process_started="1", since_ms=0, token="t")


def test_one_process_holds_it_and_another_is_told_who(ledger: Ledger, sweep: Sweep) -> None:
    with Lease.acquire(ledger, sweep) as lease:
        assert lease.epoch == 1
        lease.check()
        assert current_holder(ledger.parent_run(sweep)) == lease.holder
        begun = time.monotonic()
        with pytest.raises(LeaseHeldError, match=f"process {os.getpid()} on ") as info:
            Lease.acquire(ledger, sweep)
        assert time.monotonic() - begun < STALE_SECONDS
        assert info.value.exit_code == 2
    assert current_holder(ledger.parent_run(sweep)) is None
    with Lease.acquire(ledger, sweep) as lease:
        assert lease.epoch == 2


def test_a_sweep_that_was_made_twice_at_once_is_run_by_one(ledger: Ledger, sweep: Sweep) -> None:
    tags = {TAG_ROLE: ROLE_SWEEP, TAG_NAME: sweep.name}
    twin = ledger.sweep_of(ledger.client.create_run(sweep.experiment_id, tags=tags))
    with Lease.acquire(ledger, sweep):
        with pytest.raises(LeaseHeldError, match=f"process {os.getpid()} on "):
            Lease.acquire(ledger, twin)
        assert ledger.find_sweep(sweep.name) == sweep
    # What the one that gave way has left is in nobody's way.
    with Lease.acquire(ledger, sweep) as lease:
        lease.check()


def test_the_counter_moves(ledger: Ledger, sweep: Sweep) -> None:
    def beat() -> str:
        return ledger.client.get_run(sweep.run_id).data.tags[TAG_LEASE_BEAT]

    with Lease.acquire(ledger, sweep, renew_seconds=0.05):
        first, deadline = beat(), time.monotonic() + 10
        while beat() == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_holder_elsewhere_that_renews_keeps_it(ledger: Ledger, sweep: Sweep) -> None:
    pretend(elsewhere(), ledger, sweep)
    ledger.client.set_tag(sweep.run_id, TAG_LEASE_BEAT, "1:1")
    renewer = LeaseProcess(renew, ledger.client.tracking_uri, sweep.run_id)
    try:
        with pytest.raises(LeaseHeldError, match="process 1 on far"):
            Lease.acquire(ledger, sweep, stale_seconds=15)
    finally:
        renewer.kill()


def test_a_holder_elsewhere_that_is_silent_loses_it_after_the_stale_time(
    ledger: Ledger, sweep: Sweep
) -> None:
    pretend(elsewhere(), ledger, sweep)
    begun = time.monotonic()
    with Lease.acquire(ledger, sweep, stale_seconds=1.0) as lease:
        assert time.monotonic() - begun >= 1.0
        assert lease.epoch == 2


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"host": 1}'])
def test_a_lease_that_cannot_be_read_is_watched(ledger: Ledger, sweep: Sweep, text: str) -> None:
    ledger.client.log_param(sweep.run_id, f"{PARAM_LEASE_PREFIX}1", text)
    ledger.client.log_param(sweep.run_id, f"{PARAM_LEASE_PREFIX}x", text)
    with Lease.acquire(ledger, sweep, stale_seconds=0.3) as lease:
        assert lease.epoch == 2


def test_a_reused_process_id_is_not_the_holder(ledger: Ledger, sweep: Sweep) -> None:
    me = Holder.this_process()
    other = Holder(host=me.host, machine=me.machine, pid=me.pid, process_started="1", since_ms=0, token="t")
    assert other.process_state == "gone"
    pretend(other, ledger, sweep)
    assert current_holder(ledger.parent_run(sweep)) is None
    with Lease.acquire(ledger, sweep, stale_seconds=3600) as lease:
        assert lease.epoch == 2


def test_a_higher_epoch_ends_the_right_to_write(ledger: Ledger, sweep: Sweep) -> None:
    lease = Lease.acquire(ledger, sweep, renew_seconds=0.05)
    take_over(ledger, sweep, 2, elsewhere().to_text())
    deadline = time.monotonic() + 10
    while lease.held:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(LeaseLostError, match="taken over by process 1 on far"):
        lease.check()
    beat = ledger.client.get_run(sweep.run_id).data.tags[TAG_LEASE_BEAT]
    lease.release()
    tags = ledger.client.get_run(sweep.run_id).data.tags
    assert tags[TAG_LEASE_BEAT] == beat
    assert "sweep.lease_released" not in tags


def test_what_a_lost_lease_no_longer_covers_is_not_committed(ledger: Ledger, sweep: Sweep) -> None:
    client = ledger.client
    with Lease.acquire(ledger, sweep, renew_seconds=3600, stale_seconds=3600) as lease:
        client.log_metric(sweep.run_id, "before", 1.0)
        take_over(ledger, sweep, 2, elsewhere().to_text())
        # The lease was looked at a moment ago, so only the fence can know.
        lease.check()
        for write in (
            lambda: client.log_metric(sweep.run_id, "after", 1.0),
            lambda: client.set_tag(sweep.run_id, "after", "1"),
            lambda: client.log_param(sweep.run_id, "after", "1"),
            lambda: client.create_run(sweep.experiment_id),
            lambda: client.set_terminated(sweep.run_id),
        ):
            with pytest.raises(MlflowException, match="is taken; nothing was written"):
                write()
        run = client.get_run(sweep.run_id)
        assert "before" in run.data.metrics and run.info.status == "RUNNING"
        assert "after" not in {*run.data.metrics, *run.data.tags, *run.data.params}
        assert len(client.search_runs([sweep.experiment_id])) == 1
        with pytest.raises(LedgerError) as info:
            lease.release()
        assert info.value.transient
    client.log_metric(sweep.run_id, "after", 1.0)


def test_a_deleted_sweep_has_no_lease(ledger: Ledger, sweep: Sweep) -> None:
    ledger.client.delete_run(sweep.run_id)
    with pytest.raises(LedgerError, match="deleted"):
        Lease.acquire(ledger, sweep)


@pytest.fixture
def holder(ledger: Ledger, sweep: Sweep) -> Iterator[LeaseProcess]:
    process = LeaseProcess(hold, ledger.client.tracking_uri, 2.0)
    assert process.begun == "held"
    yield process
    process.kill()


def test_a_killed_holder_frees_it_at_once(ledger: Ledger, sweep: Sweep, holder: LeaseProcess) -> None:
    assert holder.ask() == "may write"
    with pytest.raises(LeaseHeldError, match=f"process {holder.pid} on "):
        Lease.acquire(ledger, sweep)
    holder.kill()
    begun = time.monotonic()
    with Lease.acquire(ledger, sweep, stale_seconds=3600) as lease:
        assert time.monotonic() - begun < 60
        assert lease.epoch == 2


@pytest.mark.parametrize("is_other_users", [False, True])
def test_a_holder_whose_process_is_hidden_is_judged_by_its_counter(
    ledger: Ledger,
    sweep: Sweep,
    holder: LeaseProcess,
    is_other_users: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_text, kill = Path.read_text, os.kill

    def hidden(path: Path) -> str:
        if str(path) == f"/proc/{holder.pid}/stat":
            raise FileNotFoundError(errno.ENOENT, "hidden", str(path))
        return read_text(path)

    def forbidden(pid: int, number: int) -> None:
        kill(pid, number)
        if is_other_users and (pid, number) == (holder.pid, 0):
            raise PermissionError(errno.EPERM, "not yours")

    monkeypatch.setattr(Path, "read_text", hidden)
    monkeypatch.setattr(os, "kill", forbidden)
    there = current_holder(ledger.parent_run(sweep))
    assert there is not None and there.process_state is None
    with pytest.raises(LeaseHeldError, match=f"process {holder.pid} on "):
        Lease.acquire(ledger, sweep, stale_seconds=15)
    assert holder.ask() == "may write"
    holder.kill()
    with Lease.acquire(ledger, sweep, stale_seconds=3600) as lease:
        assert lease.epoch == 2


def test_a_stopped_holder_is_followed_after_the_stale_time_and_writes_no_more(
    ledger: Ledger, sweep: Sweep, holder: LeaseProcess
) -> None:
    holder.stop()
    begun = time.monotonic()
    with Lease.acquire(ledger, sweep, stale_seconds=2) as lease:
        assert time.monotonic() - begun >= 2
        holder.send_signal(signal.SIGCONT)
        # Its very first question after waking is answered rightly, whichever thread runs first.
        assert holder.ask().startswith("lost sweep 'little' was taken over by process")
        lease.check()


def test_a_stopped_holder_that_wakes_in_time_keeps_it(
    ledger: Ledger, sweep: Sweep, holder: LeaseProcess
) -> None:
    holder.stop()
    time.sleep(0.5)
    holder.send_signal(signal.SIGCONT)
    assert holder.ask() == "may write"
    with pytest.raises(LeaseHeldError):
        Lease.acquire(ledger, sweep)


def test_without_mlflow_nobody_may_write(
    ledger: Ledger, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lease.acquire(ledger, sweep, renew_seconds=3600, stale_seconds=0.2) as lease:
        time.sleep(0.1)

        def away(run_id: str) -> None:
            raise ConnectionError("away")

        with monkeypatch.context() as patch:
            patch.setattr(ledger.client, "get_run", away)
            with pytest.raises(LedgerError) as info:
                lease.check()
            assert info.value.transient
        lease.check()


def test_a_contender_that_stood_still_looks_once_more(
    ledger: Ledger, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(elsewhere(), ledger, sweep)
    ledger.client.set_tag(sweep.run_id, TAG_LEASE_BEAT, "1:1")
    parent_run, looks = ledger.parent_run, list[int]()

    def frozen_after_a_look(known: Sweep) -> Any:
        found = parent_run(known)
        looks.append(len(looks))
        if len(looks) == 2:
            # For longer than the stale time, in which the holder renews.
            ledger.client.set_tag(sweep.run_id, TAG_LEASE_BEAT, "1:2")
            time.sleep(0.6)
        return found

    monkeypatch.setattr(ledger, "parent_run", frozen_after_a_look)
    with pytest.raises(LeaseHeldError, match="process 1 on far"):
        Lease.acquire(ledger, sweep, stale_seconds=0.5)


@pytest.mark.parametrize("lost", ["at its release", "as the answer to its taking"])
def test_what_this_process_has_given_up_is_free_for_it_whatever_mlflow_knows(
    lost: str, ledger: Ledger, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, done = ledger.client, list[str]()

    def away(run_id: str, key: str, value: str) -> None:
        if key.startswith(PARAM_LEASE_PREFIX):
            log_param(run_id, key, value)
        done.append(key)
        raise ConnectionError("away")

    log_param = client.log_param
    with monkeypatch.context() as patch:
        if lost == "at its release":
            with Lease.acquire(ledger, sweep, renew_seconds=3600):
                patch.setattr(client, "set_tag", away)
        else:
            patch.setattr(client, "log_param", away)
            with pytest.raises(LedgerError) as info:
                Lease.acquire(ledger, sweep)
            assert info.value.transient
    assert len(done) == 1 and current_holder(ledger.parent_run(sweep)) is None
    with Lease.acquire(ledger, sweep, stale_seconds=3600) as lease:
        assert lease.epoch == 2
        with pytest.raises(LeaseHeldError, match=f"process {os.getpid()} on "):
            Lease.acquire(ledger, sweep)


def test_what_mlflow_refuses_for_good_is_said_at_the_end_of_a_lease(
    ledger: Ledger, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MlflowException("no", error_code=INVALID_PARAMETER_VALUE)

    lease = Lease.acquire(ledger, sweep, renew_seconds=3600)
    with pytest.raises(LedgerError, match="releasing the lease"), monkeypatch.context() as patch, lease:
        patch.setattr(ledger.client, "set_tag", refuse)


def test_a_run_that_is_deleted_in_mlflow_is_said_to_be(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    with Lease.acquire(ledger, sweep, stale_seconds=0.0) as lease:
        ledger.client.delete_run(sweep.run_id)
        with pytest.raises(LedgerError, match="was deleted in MLflow") as refused:
            lease.check()
        assert not refused.value.transient
        lease.abandon()
