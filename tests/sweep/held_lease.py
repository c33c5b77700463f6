"""A lease in another process, which is killed and stopped: who holds it, and who only renews it."""

import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

from mlflow import MlflowClient

from sweep.errors import LeaseLostError
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.names import TAG_LEASE_BEAT
from tests.forked import FORKED

SECONDS_BETWEEN_BEATS = 0.2


class LeaseProcess:
    """A forked process that answers once it has begun.

    Args:
        target: What it does, with its end of a pipe before the other arguments.
        arguments: Those.
    """

    def __init__(self, target: object, *arguments: object) -> None:
        self._answers, theirs = FORKED.Pipe()
        self._process = FORKED.Process(target=target, args=(theirs, *arguments), daemon=True)  # type: ignore[arg-type]
        self._process.start()
        theirs.close()
        self.begun: str = self._answers.recv()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def ask(self) -> str:
        """Ask for, and return, what it says of its lease."""
        self._answers.send("go")
        return self._answers.recv()

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """Stop it, and return once it stands still: inside the kernel it goes on for a moment."""
        self.send_signal(signal.SIGSTOP)
        while Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once, and return when it is gone."""
        self._process.kill()
        self._process.join()


def hold(asked: Connection, tracking_uri: str, stale_seconds: float) -> None:
    """Hold the lease of the sweep "little", and say whether it is held when asked."""
    ledger = Ledger.open(tracking_uri)
    sweep = ledger.find_sweep("little")
    lease = Lease.acquire(ledger, sweep, renew_seconds=0.1, stale_seconds=stale_seconds)
    asked.send("held")
    while True:
        asked.recv()
        try:
            lease.check()
            asked.send("may write")
        except LeaseLostError as error:
            asked.send(f"lost {error}")


def renew(begun: Connection, tracking_uri: str, run_id: str) -> None:
    """Renew the first lease of a sweep, as its holder does."""
    client = MlflowClient(tracking_uri)
    for count in range(1000):
        client.set_tag(run_id, TAG_LEASE_BEAT, f"1:{count + 2}")
        if count == 0:
            begun.send("renewed")
        time.sleep(SECONDS_BETWEEN_BEATS)
