"""The keeper of drivers: what is killed comes back, what ends by itself does not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.keeper import RESTARTS, keep


def runs_of(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def driver(log: Path, then: str) -> list[str]:
    """Return a command that notes that it has run, and then does as told; `runs` counts this run too."""
    note = f"log = open({str(log)!r}, 'a+'); print(file=log, flush=True); log.seek(0); runs = len(log.read())"
    return [sys.executable, "-c", f"import os, sys, time\n{note}\n{then}"]


def test_a_driver_that_is_killed_is_started_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    assert keep(driver(log, "sys.exit(1) if runs == 3 else os.kill(os.getpid(), 9)"), pause=0) == 1
    assert runs_of(log) == 3
    assert capfd.readouterr().out.count("ended by SIGKILL; it goes on") == 2


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_a_driver_that_ends_by_itself_is_not(code: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert keep(driver(log, f"sys.exit({code})"), pause=0) == code
    assert runs_of(log) == 1


def test_it_gives_up_on_a_driver_that_is_always_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert keep(driver(log, "os.kill(os.getpid(), 9)"), pause=0) == 137
    assert runs_of(log) == 1 + RESTARTS


def test_a_job_that_is_stopped_stays_stopped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = f"from cluster.keeper import keep; raise SystemExit(keep({driver(log, 'time.sleep(60)')!r}))"
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        while not runs_of(log):
            assert process.poll() is None
            time.sleep(0.02)
        # As Ray does it: everything that belongs to the job gets the signal.
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert runs_of(log) == 1
