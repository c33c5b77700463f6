"""A grid to break: its space, its processes by what they do, what it recorded, what it should have."""

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from search_spaces import load_space_text
from sweep.pack import Pack
from sweep.storage import Storage
from tests.integration.faults.records import assert_clean, cell_runs
from tests.integration.forked_workers import FORKS_VARIABLE, ROOT, WorkerForks
from tests.integration.processes import TAMPERING, TAMPERING_VARIABLE, Home, Running
from trainers.canonical import cell_id

SPACE = """
name: grid
description: A grid that takes seconds, longer where a test needs time for a fault.
base:
  model: {name: mlp, widths: [16]}
  dataset: mnist-5k
  holdout_size: 100
  refresh_every: 50
  evaluate_every: 500
  divergence_every: 500
  phases: [{lr: 0.05, until: 500}, {lr: 0.05, alpha_dom: .inf, until: STEPS}]
axes:
  beta_bulk: [1, 0.9]
  seed: [0, 1]
reports:
  - {kind: curves, name: curves, lines: [beta_bulk]}
"""
CELLS = 4
QUICK = ("--commit-every", "0.3", "--cpus", "1")
WORKER = "ray::ResourceTrainable"
"""What Ray calls a process while it runs a trial; between trials it is idle."""
RAYLET = "raylet/raylet"
PATIENCE_SECONDS = 200.0
EVALUATE_EVERY = 500
FINALS = ("final/train_loss", "final/test_accuracy", "final/steps")


class Grid:
    """A grid in a home of its own.

    Args:
        folder: The home.
        steps: Length of every cell.
        name: The sweep's name.
        options: Given to every `run` and `resume`.
        space: Replaces the usual one.
        tampering: What the processes find changed (`tampering/sitecustomize.py`).
        tracking_uri: MLflow; default: a database in the home.
        storage: The checkpoint store; default: a folder in the home.
        makes_database: Whether the first command makes MLflow's database, or finds an empty one in the home.
        forks: Address of what forks Ray's workers; `None` lets Ray start them.
        own_forks: Whether to have that in the home, so that `processes` knows the workers.
    """

    def __init__(
        self,
        folder: Path,
        *,
        steps: int = 2000,
        name: str = "grid",
        options: Sequence[str] = (),
        space: str = SPACE,
        tampering: Mapping[str, object] | None = None,
        tracking_uri: str | None = None,
        storage: Path | None = None,
        makes_database: bool = False,
        forks: str | None = None,
        own_forks: bool = False,
    ) -> None:
        environment = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
        if tampering:
            environment["PYTHONPATH"] = os.pathsep.join([str(TAMPERING), str(ROOT)])
            environment[TAMPERING_VARIABLE] = json.dumps(tampering)
        self.forks = WorkerForks(_mark(folder)) if own_forks else None
        if address := self.forks.address if self.forks else forks:
            environment[FORKS_VARIABLE] = address
        self.home = Home(folder, environment)
        if tracking_uri is None and not makes_database:
            self.home.lay_database()
        self.kills: list[str] = []
        self.name = name
        self.text = space.replace("STEPS", str(steps))
        (folder / "grid.yaml").write_text(self.text)
        self.tracking_uri = tracking_uri or f"sqlite:///{self.home.database}"
        self.storage = storage or folder / "results" / "storage"
        self.options = [*QUICK, "--tracking-uri", self.tracking_uri, "--storage", str(self.storage), *options]

    def start(self, *more: str) -> Running:
        """Begin to run it."""
        return self.home.start("run", "grid.yaml", "--name", self.name, *self.options, *more)

    def resume(self, *more: str, code: int = 0) -> str:
        """Run `sweep resume` to its end and return what it printed."""
        return self.finish(self.home.start("resume", self.name, *self.options, *more), code)

    def finish(self, process: Running, code: int = 0) -> str:
        """Wait for the end of a command and return what it printed."""
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == code, f"ended with {process.returncode}, not {code}:\n{out}\n{err}"
        assert "Traceback" not in out + err, out + err
        return out + err

    def processes(self, what: str) -> list[int]:
        """Return the processes of this home whose command line begins with or contains `what`."""
        mark = "=".join(*_mark(self.home.folder).items()).encode()
        found: list[int] = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if what in command and mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    def kill(self, pid: int, what: str, number: int = signal.SIGKILL) -> None:
        """Send a signal, and note it with the steps that were committed then; `pid` may be gone already."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            steps = sorted(self.committed().values())
            self.kills.append(f"{signal.Signals(number).name} {what}, committed steps {steps}")
            print(self.kills[-1])

    def training_workers(self) -> list[int]:
        """Return the processes that train."""
        return self.processes(WORKER)

    def mid_training(self) -> bool:
        """Whether a cell has committed something and not ended."""
        return bool(self.cells_in_mid_training())

    def cells_in_mid_training(self) -> list[str]:
        """See `Home.cells_in_mid_training`, for this grid's store."""
        return sorted(
            address
            for address, manifests in self._manifests().items()
            if manifests and all(outcome is None for _, outcome in manifests)
        )

    def committed(self) -> dict[str, int]:
        """Return the newest committed step of every cell."""
        return {
            address: max(step for step, _ in found) for address, found in self._manifests().items() if found
        }

    def attempts(self) -> list[int]:
        """Return how often each cell was begun."""
        return [
            len(list((self.storage / "cells" / address / "attempts").glob("a*-*.json")))
            for address in self.cells
        ]

    def _manifests(self) -> dict[str, list[tuple[int, object]]]:
        store = Storage.open(self.storage, create=False)
        return {
            address: [(one.step, one.outcome) for one in store.manifests(address)] for address in self.cells
        }

    @property
    def cells(self) -> list[str]:
        """Addresses of the grid's cells."""
        return [cell_id(point.cell) for point in load_space_text(self.text).points()]

    def runs(self) -> dict[str, Run]:
        """Return the run of every cell that has one; two of one cell are an error."""
        return cell_runs(self.tracking_uri)

    def run_of(self, **options: object) -> Run:
        """Return the run of the cell whose params have these values."""
        wanted = {name: str(value) for name, value in options.items()}
        (found,) = (run for run in self.runs().values() if wanted.items() <= run.data.params.items())
        return found

    def statuses(self) -> Counter[str]:
        """Count the runs of cells by status."""
        return Counter(run.data.tags["sweep.status"] for run in self.runs().values())

    def assert_complete(self) -> None:
        """Every cell has one finished run with the undisturbed values, and each point once."""
        runs = self.runs()
        assert self.statuses() == {"completed": len(self.cells)}
        finals = {address: tuple(run.data.metrics[name] for name in FINALS) for address, run in runs.items()}
        assert finals == undisturbed_finals(self.text, self.home.folder / "reference")
        client = MlflowClient(self.tracking_uri)
        for run in runs.values():
            assert run.info.status == "FINISHED"
            steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
            expected = range(0, int(run.data.metrics["final/steps"]) + 1, EVALUATE_EVERY)
            assert sorted(steps) == list(expected), "a point is missing or there twice"
        if self.home.database.exists():
            assert_clean(self.home.database)

    def close(self) -> None:
        """Kill every process of this home, whoever is its parent by now."""
        self.home.close()
        if self.forks is not None:
            self.forks.close()
        for pid in self.processes(""):
            if pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _mark(folder: Path) -> dict[str, str]:
    """Return what the environment of every process of a home holds."""
    return {"SWEEP_HOME": str(folder / "results")}


_FINALS: dict[str, tuple[float, ...]] = {}


def undisturbed_finals(text: str, folder: Path) -> dict[str, tuple[float, ...]]:
    """Train a space's cells one after another in this process, without a sweep; each only once."""
    cells = {cell_id(point.cell): point.cell for point in load_space_text(text).points()}
    for address in cells.keys() - _FINALS.keys():
        pack = Pack([cells[address]], Storage.open(folder), data_folder=folder / "data")
        pack.train(PATIENCE_SECONDS)
        assert pack.finished
        finals = pack.trainer.lanes[0].finals
        _FINALS[address] = (finals["train/loss"], finals["test/accuracy"], float(pack.trainer.step))
    return {address: _FINALS[address] for address in cells}


def wait_for(condition: Callable[[], object], process: Running, seconds: float = PATIENCE_SECONDS) -> None:
    """Return once a condition holds, while `process` runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            out, err = process.communicate()
            raise AssertionError(f"ended with {process.returncode} before its time:\n{out}\n{err}")
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
