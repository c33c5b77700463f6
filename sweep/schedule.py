"""Ray Tune runs packs: one Tune trial a pack, on as many workers as the resources allow.

Tune decides where and when. It does not decide what is done (the plan), does not hold state (the store) and
does not record (the recorder): its loggers, checkpoints and restore are off. What happens is passed on as
events, from callbacks that only put them into a queue, so Tune's loop never waits.
"""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from sweep.errors import ClusterError
from sweep.trial import RESULT_CELLS, RESULT_PROBLEMS, PackTrial
from trainers.cell import Cell
from trainers.cell_json import cell_to_json

REASON_LENGTH = 400
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "86400",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Tune's own recording and display are off; see the module's docstring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one trial gets.

    Args:
        cpus: CPUs and torch threads.
        gpus: GPUs, fractions allowed.
    """

    cpus: int = 1
    gpus: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Receivers of what happens to a pack; each gets the pack's number. They must return at once.

    Args:
        started: A worker has begun or begun again.
        reported: Commits, as mappings like `sweep.pack.Committed`, and problems in words.
        failed: The pack is given up, with the reason and the log of the last error.
    """

    started: Callable[[int], None]
    reported: Callable[[int, list[dict[str, Any]], list[str]], None]
    failed: Callable[[int, str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPlan:
    """One trial to be.

    Args:
        cells: The cells that it trains.
        leaves: For each cell, the steps at which it leaves its state for others.
    """

    cells: tuple[Cell, ...]
    leaves: tuple[tuple[int, ...], ...]

    def to_config(self) -> dict[str, Any]:
        """Return the trial's own part of its configuration."""
        return {
            "cells": [cell_to_json(cell) for cell in self.cells],
            "leaves": [list(steps) for steps in self.leaves],
        }


class Cluster:
    """A connection to Ray: a cluster's, or one started here that listens on this machine only.

    Args:
        address: A cluster's address; `None` starts Ray here.
        cpus: CPUs of a Ray started here; `None` is all.
    """

    def __init__(self, address: str | None = None, *, cpus: int | None = None) -> None:
        os.environ.update(TUNE_ENVIRONMENT)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
            if cpus is not None:
                options["num_cpus"] = cpus
        else:
            options["address"] = address
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            where = address or "on this machine"
            raise ClusterError(f"no Ray cluster {where}: {error}") from error
        # What fails is recorded and said by the driver.
        for noisy in ("ray.tune", "ray.train"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)

    def slots(self, resources: Resources) -> int:
        """Return how many trials fit at once.

        Raises:
            ClusterError: Not even one does, so that Tune would wait forever.
        """
        total = ray.cluster_resources()
        fits = [int(total.get("CPU", 0) // resources.cpus)]
        if resources.gpus:
            fits.append(int(total.get("GPU", 0) / resources.gpus))
        if min(fits) < 1:
            raise ClusterError(
                f"a trial asks for {resources.cpus} CPUs and {resources.gpus:g} GPUs; the cluster has "
                f"{total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs."
            )
        return min(fits)

    def close(self) -> None:
        """Disconnect, and stop what was started here."""
        ray.shutdown()


def run_packs(
    packs: Sequence[PackPlan],
    *,
    storage: str,
    data_folder: Path,
    seconds: float,
    resources: Resources,
    max_failures: int,
    slots: int,
    events: Events,
    ready: Callable[[int], bool],
    stop: Callable[[], bool],
) -> None:
    """Train packs until all have ended, failed or `stop()` says so; in order, as they and workers get ready.

    Args:
        packs: What each trial trains.
        storage: Place of the checkpoint store, reachable from every worker.
        data_folder: Where data sets are kept, on every worker.
        seconds: Training time between two commits.
        resources: Of one trial.
        max_failures: How often a pack is tried again after a worker died or raised.
        slots: How many trials may wait for a worker.
        events: Receivers.
        ready: Whether a pack may start, by its number; one that waits for another's state may not yet.
        stop: Polled by Tune's loop; once true, trials end after their next commit.
    """
    space = {
        "storage": storage,
        "data_folder": str(data_folder),
        "seconds": seconds,
        "threads": resources.cpus,
        "gpu": resources.gpus > 0,
    }
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots)
    folder = Path(tempfile.mkdtemp(prefix="sweep-tune-"))
    request = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
    try:
        tuner = tune.Tuner(
            tune.with_resources(PackTrial, request),
            param_space=space,
            tune_config=tune.TuneConfig(
                num_samples=len(packs),
                search_alg=_ReadyPacks(packs, ready),
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(folder),
                stop=_StopAll(stop),
                callbacks=[_Forward(events)],
                failure_config=tune.FailureConfig(max_failures=max_failures),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
                log_to_file=False,
            ),
        )
        tuner.fit()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _trial_name(trial: Trial) -> str:
    return f"pack-{trial.config['pack']:06d}"


class _Unsaved:
    """Tune saves its callbacks and stoppers for a restore, which is not used here; these stay behind."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _ReadyPacks(_Unsaved, Searcher):
    """Gives Tune the next pack that may start; the others wait."""

    def __init__(self, packs: Sequence[PackPlan], ready: Callable[[int], bool]) -> None:
        super().__init__()
        self._packs = packs
        self._ready = ready
        self._waiting = list(range(len(packs)))

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of a trial, or `None` while none may start."""
        for place, pack in enumerate(self._waiting):
            if self._ready(pack):
                del self._waiting[place]
                return {"pack": pack, **self._packs[pack].to_config()}
        return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing is learned from a trial."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep; see `_Unsaved`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore; see `_Unsaved`."""


class _StopAll(_Unsaved, tune.Stopper):
    """Ends the experiment when the driver says so, and nothing else."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._stop()


class _Forward(_Unsaved, tune.Callback):
    """Passes Tune's events on."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._events.started(trial.config["pack"])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._events.reported(trial.config["pack"], result[RESULT_CELLS], result[RESULT_PROBLEMS])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        reason, log = _why(trial)
        self._events.failed(trial.config["pack"], reason, log)


def _why(trial: Trial) -> tuple[str, str]:
    """Return the last error of a trial in a line, and all of them in full."""
    # The local file: Tune copies it to its storage only later.
    path = Path(trial.error_file) if trial.error_file else None
    if path is None or not path.is_file():
        return "the trial failed and left no error", ""
    log = _COLOURS.sub("", path.read_text(errors="replace"))
    told = [line.strip() for line in log.splitlines() if line.strip()]
    reason = told[-1] if told else "the trial failed and left no error"
    # "trainers.errors.ConfigError: k: found 3" reads better without the modules.
    kind, colon, message = reason.partition(": ")
    if colon and kind.replace(".", "").isidentifier():
        reason = f"{kind.rpartition('.')[2]}: {message}"
    return reason[:REASON_LENGTH], log
