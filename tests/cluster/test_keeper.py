"""The keeper of drivers: what is killed comes back, what ends by itself does not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.keeper import RESTARTS, STOPPED_IS_DONE, keep, main


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


@pytest.mark.parametrize("restarted", [False, True])
def test_a_driver_is_told_that_it_follows_another(restarted: bool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    told = f"print(os.environ.get('SWEEP_RESTARTED'), file=open({str(tmp_path / 'told')!r}, 'a'))\n"
    code = keep(driver(log, told + "runs == 2 or os.kill(os.getpid(), 9)"), pause=0, restarted=restarted)
    assert code == 0
    assert (tmp_path / "told").read_text().split() == ["1" if restarted else "None", "1"]


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_a_driver_that_ends_by_itself_is_not(code: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert keep(driver(log, f"sys.exit({code})"), pause=0) == code
    assert runs_of(log) == 1


def test_who_begins_failed_jobs_again_does_not_hear_of_one_that_a_user_stopped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert keep(driver(log, "sys.exit(130)"), pause=0, stopped_is_done=True) == 0
    # A signal (the node is going away) is no wish of the user's.
    signalled = "os.kill(os.getppid(), 15); time.sleep(0.2); sys.exit(130)"
    assert keep(driver(log, signalled), pause=0, stopped_is_done=True) == 130
    # Nor of cells that failed and of bad input: the driver is told to end with 0 then.
    told = "sys.exit(0 if os.environ.get('SWEEP_FAILED_IS_DONE') else 1)"
    assert keep(driver(log, told), pause=0, stopped_is_done=True) == 0
    assert keep(driver(log, told), pause=0) == 1
    for code in (1, 2):
        assert keep(driver(log, f"sys.exit({code})"), pause=0, stopped_is_done=True) == code


@pytest.mark.parametrize(
    ("arguments", "expected"), [(["run", "demo"], False), ([STOPPED_IS_DONE, "run", "demo"], True)]
)
def test_what_is_left_of_its_arguments_is_the_driver_s(
    arguments: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[list[str], bool, bool]] = []

    def keep_it(command: list[str], *, stopped_is_done: bool, restarted: bool) -> int:
        kept.append((command, stopped_is_done, restarted))
        return 7

    monkeypatch.setattr("cluster.keeper.keep", keep_it)
    assert main(arguments) == 7
    command = [sys.executable, "-m", "sweep", "run", "demo"]
    # KubeRay does not tell a first try from a second one.
    assert kept == [(command, expected, expected)]
    for restarts, restarted in (("0", expected), ("1", True)):
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
        main(arguments)
        assert kept.pop() == (command, expected, restarted)


def test_it_gives_up_on_a_driver_that_is_always_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert keep(driver(log, "os.kill(os.getpid(), 9)"), pause=0) == 137
    assert runs_of(log) == 1 + RESTARTS


def test_who_is_told_to_end_between_two_drivers_starts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setattr("cluster.keeper.time.sleep", lambda seconds: signal.raise_signal(signal.SIGTERM))
    assert keep(driver(log, "os.kill(os.getpid(), 9)"), pause=1) == 137
    assert runs_of(log) == 1


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
