"""Ray Tune runs packs: one Tune trial a pack, on as many workers as the resources allow.

Tune decides where and when. It does not decide what is done (the plan), does not hold state (the store) and
does not record (the recorder): its loggers, checkpoints and restore are off. What happens is passed on as
events, from callbacks that only put them into a queue, so Tune's loop never waits.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweep.packs import PackPlan
from sweep.plain_text import plain_text
from sweep.ray_cluster import Resources
from sweep.trial import RESULT_CELLS, RESULT_FAILURE, RESULT_NODE, RESULT_PROBLEMS, PackTrial

REASON_LENGTH = 400
SECONDS_TO_WAIT_FOR_MORE = 1.0
"""How long Tune's loop waits, while nothing runs, for packs that are being thought of."""
MOST_WAITING = 200
"""So many trials wait for a worker at most: each is a request that Ray looks at whenever a node changes."""
ENDED_TRIALS_KEPT = 100
"""How many trials Tune may hold before those that have ended are let go of."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Events(Protocol):
    """What Tune's loop asks and tells, by the numbers of packs. Every answer is given at once."""

    def plan(self, pack: int) -> PackPlan:
        """Return what a trial trains."""
        ...

    def ready(self, pack: int) -> bool:
        """Whether a pack may start; one that waits for another's state may not yet."""
        ...

    def in_order(self, packs: list[int]) -> list[int]:
        """Return waiting packs in the order in which they are to begin."""
        ...

    def is_reordered(self) -> bool:
        """Whether that order is another one than when it was last asked for."""
        ...

    def started(self, pack: int) -> None:
        """A worker has begun or begun again."""
        ...

    def let_go(self, pack: int) -> None:
        """A pack has lost its worker and waits for another one."""
        ...

    def reported(self, pack: int, commits: list[dict[str, Any]], problems: list[str]) -> None:
        """Commits, as mappings like `sweep.pack.Committed`, and problems in words."""
        ...

    def observed(self, pack: int, node: str, use: dict[str, float]) -> None:
        """How busy the node is on which a pack is trained."""
        ...

    def more(self, seconds: float) -> list[int] | None:
        """Return packs that have been added, after at most so long; `None` when no more will come."""
        ...

    def failed(self, pack: int, reason: str, log: str) -> list[int]:
        """The pack is given up, with the reason and the log of the last error; returns what replaces it."""
        ...


def run_packs(
    packs: Sequence[int],
    *,
    sweep: str,
    storage: str,
    data_folder: Path,
    seconds: float,
    hang_seconds: float,
    resources: Resources,
    max_failures: int,
    num_waiting: int,
    events: Events,
    stop: Callable[[], bool],
) -> None:
    """Train packs until all have ended, failed or `stop()` says so; in order, as they and workers get ready.

    Args:
        packs: Their numbers.
        sweep: Run id of the sweep, under which single cells are asked to stop.
        storage: Place of the checkpoint store, reachable from every worker.
        data_folder: Where data sets are kept, on every worker.
        seconds: Training time between two commits.
        hang_seconds: A worker whose work stands still for so long ends itself, as if it had been killed.
        resources: Of one trial.
        max_failures: How often a pack is tried again after a worker died or raised, without progress between.
        num_waiting: How many trials may wait for a worker; see `most_waiting`.
        events: Is asked and told.
        stop: Polled by Tune's loop; once true, trials end after their next commit.
    """
    space = {
        "sweep": sweep,
        "data_folder": str(data_folder),
        "seconds": seconds,
        "hang_seconds": hang_seconds,
        "threads": resources.cpus,
        "gpu": resources.gpus > 0,
    }
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(num_waiting)
    folder = Path(tempfile.mkdtemp(prefix="sweep-tune-"))
    queue = _Queue(packs, events)
    request = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
    try:
        tuner = tune.Tuner(
            # Not in the configuration, which Tune writes where everybody may read: it may have a key in it.
            tune.with_resources(tune.with_parameters(PackTrial, storage=storage), request),
            param_space=space,
            tune_config=tune.TuneConfig(
                # Without end: packs may be added while others run. The queue says when it is over.
                num_samples=-1,
                search_alg=queue,
                scheduler=_InOrder(events, queue),
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(folder),
                stop=_StopAll(stop),
                callbacks=[_Forward(events, queue)],
                failure_config=tune.FailureConfig(max_failures=max_failures),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
                log_to_file=False,
            ),
        )
        tuner.fit()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def most_waiting(num_packs: int | None, *, slots: int, grows: bool) -> int:
    """Return how many trials are to wait for a worker.

    A cluster that adds nodes adds them for what waits, so there all do, as far as that goes.

    Args:
        num_packs: What there is to train; `None` where more comes, which is no more than there is room for.
        slots: How many trials fit at once on what is there.
        grows: Whether it is a cluster's nodes that train.
    """
    if not grows:
        return slots
    return max(slots, MOST_WAITING if num_packs is None else min(num_packs, MOST_WAITING))


def _trial_name(trial: Trial) -> str:
    return f"pack-{trial.config['pack']:06d}"


class _Unsaved:
    """Tune saves its callbacks and stoppers for a restore, which is not used here; these stay behind."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Queue(_Unsaved, Searcher):
    """Gives Tune the next pack that may start, until none waits and none runs."""

    def __init__(self, packs: Sequence[int], events: Events) -> None:
        super().__init__()
        self._events = events
        self._waiting = list(packs)
        self._running: set[str] = set()
        self._handed_over: dict[str, int] = {}

    def add(self, packs: Sequence[int]) -> None:
        """Append packs."""
        self._waiting.extend(packs)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of a trial, `None` while none may start, or that all is over."""
        # Where nothing runs, waiting here delays nobody; Tune itself would look again a second later.
        idle = not (self._waiting or self._running)
        added = self._events.more(SECONDS_TO_WAIT_FOR_MORE if idle else 0.0)
        self._waiting.extend(added or ())
        for place, pack in enumerate(self._waiting):
            if self._events.ready(pack):
                del self._waiting[place]
                self._running.add(trial_id)
                self._handed_over[trial_id] = pack
                return {"pack": pack, **self._events.plan(pack).to_config()}
        if self._waiting or self._running or added is not None:
            return None
        return cast("dict[str, Any]", Searcher.FINISHED)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial is over, well or not; or it has been taken back, and its pack waits here again."""
        self._running.discard(trial_id)
        if (pack := self._handed_over.pop(trial_id, None)) is not None and not error:
            self._waiting.append(pack)

    def begun(self, trial_id: str) -> None:
        """A worker has begun a trial."""
        self._handed_over.pop(trial_id, None)

    def put_in_order(self) -> None:
        """Let the packs that wait here begin in the order that is wished now."""
        self._waiting = self._events.in_order(self._waiting)

    def may_be_taken_back(self, trial: Trial) -> bool:
        """Whether a trial still waits for a worker."""
        waits = trial.status == Trial.PENDING and trial.temporary_state.ray_actor is None
        return waits and trial.trial_id in self._handed_over

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep; see `_Unsaved`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore; see `_Unsaved`."""


class _InOrder(_Unsaved, FIFOScheduler):
    """First in, first out, with trials taken back that wait when the order changes; forgets ended ones.

    Tune keeps all that have ended for its results and its restore, neither of which is used here, and looks
    through all of them in every step. It offers no way to drop one, nor one to forget that a trial waits.
    Where its attributes have other names it keeps them.
    """

    def __init__(self, events: Events, queue: _Queue) -> None:
        super().__init__()
        self._events = events
        self._queue = queue

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the trial to start next; called in every step of Tune's loop."""
        trials: list[Trial] = tune_controller.get_trials()
        controller = getattr(tune_controller, "_tune_controller", None)
        if self._events.is_reordered():
            for trial in filter(self._queue.may_be_taken_back, trials):
                tune_controller.stop_trial(trial)
                if controller is not None and trial in getattr(controller, "_staged_trials", ()):
                    # Otherwise a worker would be kept for it.
                    controller._unstage_trial_with_resources(trial)
            self._queue.put_in_order()
        if len(trials) > ENDED_TRIALS_KEPT:
            ended = {trial for trial in trials if trial.is_finished()}
            trials[:] = [trial for trial in trials if trial not in ended]
            for name in ("_stopped_trials", "_failed_trials", "_trials_to_cache"):
                kept: set[Trial] = getattr(controller, name, set())
                kept -= ended
        return super().choose_trial_to_run(tune_controller)


class _StopAll(_Unsaved, tune.Stopper):
    """Ends the experiment when the driver says so, and nothing else."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._stop()


class _Forward(_Unsaved, TrialProgressCallback):
    """Passes Tune's events on, in the place of Tune's display, which would keep every trial."""

    def __init__(self, events: Events, queue: _Queue) -> None:
        self._events = events
        self._queue = queue
        self._steps: dict[int, int] = {}
        """How far the cells of each pack have come, together."""

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._queue.begun(trial.trial_id)
        self._events.started(trial.config["pack"])

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._events.let_go(trial.config["pack"])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        pack = trial.config["pack"]
        steps = sum(commit["step"] for commit in result[RESULT_CELLS])
        if steps > self._steps.get(pack, 0):
            # Tune counts for the life of a trial, and one of days loses many a machine. What counts here is
            # what has failed since the last progress.
            self._steps[pack] = steps
            trial.run_metadata.num_failures = 0
        self._events.observed(pack, *result[RESULT_NODE])
        problems = [plain_text(problem) for problem in result[RESULT_PROBLEMS]]
        self._events.reported(pack, result[RESULT_CELLS], problems)
        if (failure := result[RESULT_FAILURE]) is not None:
            failure = plain_text(failure)
            self._queue.add(self._events.failed(pack, _in_a_line(failure), failure))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Its last result has said so."""

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        reason, log = _why(trial)
        self._queue.add(self._events.failed(trial.config["pack"], reason, log))


def _why(trial: Trial) -> tuple[str, str]:
    """Return the last error of a trial in a line, and all of them in full."""
    # The local file: Tune copies it to its storage only later.
    path = Path(trial.error_file) if trial.error_file else None
    if path is None or not path.is_file():
        return "the trial failed and left no error", ""
    log = plain_text(_COLOURS.sub("", path.read_text(errors="replace")))
    return _in_a_line(log), log


def _in_a_line(log: str) -> str:
    """Return the last line of a traceback, which says what went wrong."""
    told = [line.strip() for line in log.splitlines() if line.strip()]
    reason = told[-1] if told else "the trial failed and left no error"
    # "trainers.errors.ConfigError: k: found 3" reads better without the modules.
    kind, colon, message = reason.partition(": ")
    if colon and kind.replace(".", "").isidentifier():
        reason = f"{kind.rpartition('.')[2]}: {message}"
    return reason[:REASON_LENGTH]
