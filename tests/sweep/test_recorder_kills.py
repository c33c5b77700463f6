"""A recorder that is broken off between any two writes, and the one that comes after it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.lease import Lease
from sweep.names import Status
from sweep.storage import Manifest, Storage
from tests.fresh_database import fresh_database
from tests.sweep.recording import (
    CELL_ID,
    END,
    WAIT_SECONDS,
    commit,
    new_recorder,
    record_all,
    record_of,
    submit,
)
from tests.sweep.small_sweep import FakeSpace, make_plan, open_ledger


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.recorder.FIRST_RETRY_SECONDS", 0.01)


class Killed(BaseException):
    """Stands for a kill: nothing catches it, nothing is tidied up."""


WRITES = ("create_run", "log_batch", "set_tag", "set_terminated", "update_run")


def test_broken_off_between_any_two_writes_the_record_is_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attempt(name: str, deadly: int) -> tuple[int, dict[str, Any]]:
        """Record with a kill before write number `deadly`, then again; returns the writes and the record."""
        place = folder / name
        place.mkdir()
        (place / "mlflow.db").write_bytes(fresh_database())
        ledger, storage = open_ledger(place), Storage.open(place / "storage")
        sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
        manifests: list[Manifest] = []
        for step in (35, 70, END):
            manifests.append(commit(storage, step, manifests[-1] if manifests else None))
        # The outcome is in the store from the start only for the recorder that comes after the kill.
        last = Path(storage.place) / manifests[-1].file
        hidden = last.rename(last.with_suffix(".hidden"))
        lease = Lease.acquire(ledger, sweep, renew_seconds=3600)
        count = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == deadly:
                    raise Killed
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for write in WRITES:
                patch.setattr(ledger.client, write, counted(getattr(ledger.client, write)))
            patch.setattr(ledger.artifacts, "put", counted(ledger.artifacts.put))
            recorder = new_recorder(ledger, storage, sweep, lease)
            recorder.start()
            try:
                recorder.started(CELL_ID)
                recorder.drain(WAIT_SECONDS)
                for manifest in manifests:
                    if manifest.outcome is not None:
                        hidden.rename(last)
                    submit(recorder, manifest)
                    recorder.drain(WAIT_SECONDS)
            except Killed:
                assert count == deadly
            recorder.close()
        if hidden.exists():
            hidden.rename(last)
        record_all(ledger, storage, sweep, lease, manifests)
        lease.release()
        return count, record_of(ledger, place)

    writes, undisturbed = attempt("undisturbed", 0)
    assert undisturbed["status"][0] is Status.COMPLETED
    assert len(undisturbed["metrics"]) == len(set(undisturbed["metrics"]))
    assert writes >= 10
    for deadly in range(1, writes + 1):
        count, record = attempt(f"killed {deadly}", deadly)
        assert count == deadly
        assert record == undisturbed
