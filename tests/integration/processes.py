"""Real `sweep` processes in a home of their own, killed with everything they started when a test ends."""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.cli import main
from tests.forked import FORKED
from tests.fresh_database import fresh_database
from tests.integration.forked_workers import FORKS_VARIABLE, ROOT, take_forks

TAMPERING = Path(__file__).parent / "faults" / "tampering"
TAMPERING_VARIABLE = "SHARPFLAT_TAMPERING"
PATIENCE_SECONDS = 150.0


class Running:
    """A command in a forked process, in the words of `subprocess.Popen`.

    Args:
        arguments: After `sweep`.
        folder: Its working folder.
        environment: All of its environment.
        said: Beginning of the names of the files that it prints to.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], said: Path
    ) -> None:
        self._said = [Path(f"{said}.{stream}") for stream in ("out", "err")]
        self._process = FORKED.Process(
            target=_command, args=(list(arguments), folder, dict(environment), self._said)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, if it has."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Look whether it has ended, and how."""
        return self._process.exitcode

    def communicate(self, *, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end and return what it printed, and its errors."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        out, err = (path.read_text(errors="replace") if path.exists() else "" for path in self._said)
        return out, err


def _command(arguments: list[str], folder: Path, environment: dict[str, str], said: list[Path]) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(said, start=1):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), number)
    if TAMPERING_VARIABLE in os.environ:
        # As Python does at the start of Ray's workers, which find it on their path.
        runpy.run_path(str(TAMPERING / "sitecustomize.py"))
    if FORKS_VARIABLE in os.environ:
        take_forks(os.environ[FORKS_VARIABLE])
    sys.argv = ["sweep", *arguments]
    main()


class Home:
    """A `$SWEEP_HOME` and the processes that use it.

    Args:
        folder: The working folder of the processes; `$SWEEP_HOME` is `results` in it.
        environment: More of their environment.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = dict(environment or {})
        self.folder.mkdir(parents=True, exist_ok=True)
        self._started: list[Running] = []
        # Elsewhere, since a test may leave the folder no space, or take the right to write from it.
        self._said = tempfile.TemporaryDirectory(prefix="said.")

    def lay_database(self) -> None:
        """Put an empty record there, which the first command would make otherwise."""
        self.database.parent.mkdir(parents=True, exist_ok=True)
        self.database.write_bytes(fresh_database())

    def start(self, *arguments: str) -> Running:
        """Start a command in a process group of its own."""
        environment = {
            **os.environ,
            "SWEEP_HOME": str(self.folder / "results"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            **self.environment,
        }
        said = Path(self._said.name) / str(len(self._started))
        process = Running(arguments, self.folder, environment, said)
        self._started.append(process)
        return process

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command to its end and return what it printed, errors included."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == code, f"{arguments} ended with {process.returncode}:\n{out}\n{err}"
        assert "Traceback" not in out + err, out + err
        return out + err

    def close(self) -> None:
        """Kill whatever is left."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        self._said.cleanup()

    @property
    def database(self) -> Path:
        """MLflow's database."""
        return self.folder / "results" / "mlflow.db"

    def cells_in_mid_training(self) -> list[str]:
        """Return the cells that have committed something and not ended, from their manifests."""
        found: list[str] = []
        for folder in (self.folder / "results" / "storage" / "cells").glob("*/manifests"):
            manifests: list[dict[str, Any]] = []
            for path in folder.glob("*.json"):
                # A worker removes an old one when it has written two that are newer.
                with contextlib.suppress(FileNotFoundError):
                    manifests.append(json.loads(path.read_text()))
            if any("left_by" in manifest["summary"] for manifest in manifests):
                # States that a cell has left for others; no cell of its own.
                continue
            steps = [manifest["step"] for manifest in manifests]
            if steps and max(steps) > 0 and all(manifest["outcome"] is None for manifest in manifests):
                found.append(folder.parent.name)
        return found


def wait_until(condition: Callable[[], bool], process: Running) -> bool:
    """Wait for a condition; False when the process has ended before it came true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return True


def lines(text: str, words: Sequence[str]) -> list[str]:
    """Return the lines that contain all the words."""
    return [line for line in text.splitlines() if all(word in line for word in words)]
