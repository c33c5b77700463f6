"""The driver of a little grid, killed before a given durable write, in a process of its own; without Ray.

The driver, its recorder, the ledger, the packs and the store are the real ones; only Ray's part, to call a
pack in another process, is done by a loop here. Everything happens in one thread's order, so that the n-th
write is the same one every time. `answer` is asked for a moment and a folder: the grid is begun in the folder
and killed before write number MOMENT (0: not killed), and then run to its end. The answer is how the two
processes ended. They are forked from the one that answers, which saves seconds of imports a kill.
"""

import os
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import sweep.driver
import sweep.lease
import sweep.training
from search_spaces import load_space_text
from sweep.pack import Pack
from sweep.places import Places
from sweep.ray_cluster import Resources
from sweep.recorder import Recorder
from sweep.schedule import Events
from sweep.storage import Storage
from tests.integration.faults.durable_writes import DurableWrites

SPACE = """
name: writes
description: Two cells, one of which goes on from a state of the other.
base:
  model: {name: mlp, widths: [4]}
  dataset: mnist-5k
  holdout_size: 20
  refresh_every: 10
  evaluate_every: 20
  divergence_every: 20
  phases: [{lr: 0.05, until: 20}, {lr: 0.05, alpha_dom: .inf, k: 2, until: 40}]
axes:
  beta_bulk: [1, 0.9]
reports:
  - {kind: curves, name: curves, lines: [beta_bulk]}
"""
STEPS_A_COMMIT = 20
NEVER_SECONDS = 3600.0
BEGUN, RESUMED = "begun.trace", "resumed.trace"
STARTS = "starts at step"
"""What a trace says where a pack has been made from what the store holds."""


class HereCluster:
    """Stands for `sweep.ray_cluster.Cluster`: one trial at a time, in this process."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def slots(self, resources: Resources, **_: Any) -> int:
        return 1

    def num_gpus(self) -> int:
        return 0

    def is_lost(self) -> bool:
        return False

    def close(self) -> None:
        pass


def packs_here(writes: DurableWrites) -> Callable[..., None]:
    """Return what stands for `sweep.schedule.run_packs`."""

    def run_packs(packs: Sequence[int], *, storage: str, data_folder: Path, events: Events, **_: Any) -> None:
        waiting = list(packs)
        while waiting:
            number = next(pack for pack in waiting if events.ready(pack))
            waiting.remove(number)
            events.started(number)
            plan = events.plan(number)
            problems: list[str] = []
            cells = list(plan.cells.values())
            store = Storage.open(storage, create=False)
            pack = Pack(cells, store, data_folder=data_folder, leaves=plan.leaves, report=problems.append)
            writes.note(f"{', '.join(plan.cells)} {STARTS} {pack.trainer.step}")
            while True:
                for _step in range(STEPS_A_COMMIT):
                    pack.train(0)
                events.reported(number, [asdict(one) for one in pack.commit()], problems)
                if pack.finished:
                    break

    return run_packs


def in_order(method: Callable[..., None]) -> Callable[..., None]:
    """Let the caller wait until the recorder has done what it was asked."""

    def waiting(recorder: Recorder, *arguments: Any, **options: Any) -> None:
        method(recorder, *arguments, **options)
        if any(thread.name == "recorder" for thread in threading.enumerate()):
            recorder.drain(NEVER_SECONDS)

    return waiting


def drive(folder: Path, trace: str, kill_before: int | None) -> int:
    """Run what is missing of the grid in `folder`."""
    writes = DurableWrites(folder, folder / trace, kill_before)
    sweep.training.Cluster = HereCluster  # type: ignore[misc]
    sweep.training.run_packs = packs_here(writes)
    sweep.training.SECONDS_BETWEEN_POLLS = NEVER_SECONDS
    defaults = sweep.lease.Lease.acquire.__func__.__kwdefaults__  # type: ignore[attr-defined]
    defaults["renew_seconds"] = NEVER_SECONDS
    for name in ("started", "submit", "ended"):
        setattr(Recorder, name, in_order(getattr(Recorder, name)))
    places = Places.resolve(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", storage=str(folder / "storage"))
    writes.trap()
    with open(folder / "said.txt", "a") as said:
        options = sweep.driver.RunOptions(name="writes", max_failures=0)
        return sweep.driver.run_sweep(load_space_text(SPACE), places, options, Console(file=said))


def in_a_fork(folder: Path, trace: str, kill_before: int | None) -> int:
    """Run `drive` in a process of its own; returns how that ended, as `os.waitpid` gives it."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.environ["SWEEP_HOME"] = str(folder)
            code = drive(folder, trace, kill_before)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def warm_up() -> None:
    """Load what the forks need, which they would each load by themselves otherwise."""
    torch.set_num_threads(1)  # Other threads would not survive the fork.
    with tempfile.TemporaryDirectory() as folder:
        cells = [next(iter(load_space_text(SPACE).points())).cell]
        Pack(cells, Storage.open(folder), data_folder=Path(folder)).train(NEVER_SECONDS)


def answer(requests: Connection, said: Path) -> None:
    """Answer requests until there are no more, in a process forked from one that has imported MLflow."""
    os.setsid()
    with open(said, "wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    warnings.simplefilter("ignore")
    warm_up()
    assert threading.active_count() == 1
    while True:
        moment, folder = requests.recv()
        begun = in_a_fork(folder, BEGUN, moment or None)
        requests.send((begun, in_a_fork(folder, RESUMED, None)))
