"""Real `sweep` processes in a home of their own, killed with everything they started when a test ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from sweep.cli import main; main()"]
PATIENCE_SECONDS = 150.0


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
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        environment = {
            **os.environ,
            "SWEEP_HOME": str(self.folder / "results"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            **self.environment,
        }
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
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

    @property
    def database(self) -> Path:
        """MLflow's database."""
        return self.folder / "results" / "mlflow.db"

    def cells_in_mid_training(self) -> list[str]:
        """Return the cells that have committed something and not ended, from their manifests."""
        found: list[str] = []
        for folder in (self.folder / "results" / "storage" / "cells").glob("*/manifests"):
            manifests = [json.loads(path.read_text()) for path in folder.glob("*.json")]
            if any("left_by" in manifest["summary"] for manifest in manifests):
                # States that a cell has left for others; no cell of its own.
                continue
            steps = [manifest["step"] for manifest in manifests]
            if steps and max(steps) > 0 and all(manifest["outcome"] is None for manifest in manifests):
                found.append(folder.parent.name)
        return found


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Wait for a condition; False when the process has ended before it came true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return True


def lines(text: str, words: Sequence[str]) -> list[str]:
    """Return the lines that contain all the words."""
    return [line for line in text.splitlines() if all(word in line for word in words)]
