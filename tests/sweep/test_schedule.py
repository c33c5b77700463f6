"""How often Tune tries a pack again, how many wait, and in which order."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from ray.tune.experiment import Trial

from sweep.ray_cluster import Resources
from sweep.schedule import MOST_WAITING, _Forward, _InOrder, _Queue, most_waiting, run_packs
from sweep.trial import RESULT_CELLS, RESULT_FAILURE, RESULT_NODE, RESULT_PROBLEMS

MAX_FAILURES = 2


def tune_trial() -> Trial:
    """A trial as Tune counts its failures, without a folder for their texts."""
    storage: Any = SimpleNamespace(trial_driver_staging_path=None)
    return Trial("PackTrial", config={"pack": 0}, max_failures=MAX_FAILURES, stub=True, storage=storage)


def lost_after(reports: list[tuple[int, ...]]) -> bool:
    """Whether a trial is tried again that is lost after each of these reports of its cells' steps."""
    trial, forward = tune_trial(), _Forward(Mock(), Mock())
    for steps in reports:
        result = {
            RESULT_CELLS: [{"cell_id": str(lane), "step": step} for lane, step in enumerate(steps)],
            RESULT_PROBLEMS: [],
            RESULT_FAILURE: None,
            RESULT_NODE: ("here", {}),
        }
        forward.on_trial_result(1, [trial], trial, result)
        trial.handle_error(RuntimeError("the node is gone"))  # pyright: ignore[reportArgumentType]
        if not trial.should_recover():
            return False
    return True


def test_a_trial_that_comes_further_is_tried_again_however_often_it_is_lost() -> None:
    assert lost_after([(step,) for step in range(10, 110, 10)])
    assert lost_after([(10, 10), (20, 10), (20, 20), (30, 20), (30, 30)]), "one lane is enough"


def test_a_trial_that_does_not_is_given_up() -> None:
    assert lost_after([(10,)] * (1 + MAX_FAILURES - 1))
    assert not lost_after([(10,)] * (1 + MAX_FAILURES))
    assert not lost_after([(10,), (20,), *[(20,)] * MAX_FAILURES])
    assert not lost_after([(20,), *[(10,)] * MAX_FAILURES]), "from an earlier checkpoint is not further"


def test_the_place_of_the_store_is_not_in_what_tune_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have a key in it, and everybody may read Ray's folders."""
    given: dict[str, Any] = {}

    class Tuner:
        def __init__(self, trainable: Any, *, param_space: dict[str, Any], **more: Any) -> None:
            given.update(param_space=param_space)

        def fit(self) -> list[Any]:
            return []

    handed: dict[str, Any] = {}
    monkeypatch.setattr("sweep.schedule.tune.Tuner", Tuner)
    monkeypatch.setattr(
        "sweep.schedule.tune.with_parameters", lambda trial, **more: handed.update(more) or trial
    )
    run_packs(
        [0],
        sweep="run-id",
        storage="s3://key:secret@bucket/store",
        data_folder=Path("data"),
        seconds=1.0,
        hang_seconds=60.0,
        resources=Resources(cpus=1, gpus=0),
        max_failures=0,
        num_waiting=1,
        events=Mock(),
        stop=bool,
    )
    assert handed == {"storage": "s3://key:secret@bucket/store"}
    assert "secret" not in str(given["param_space"])


@pytest.mark.parametrize(
    ("num_packs", "slots", "grows", "expected"),
    [
        (20, 1, True, 20),
        (20, 1, False, 1),
        (1000, 1, True, MOST_WAITING),
        (1000, 300, True, 300),
        (2, 8, True, 8),
        (None, 1, True, MOST_WAITING),
        (None, 1, False, 1),
    ],
)
def test_what_a_cluster_adds_nodes_for_is_there_to_be_seen(
    num_packs: int | None, slots: int, grows: bool, expected: int
) -> None:
    assert most_waiting(num_packs, slots=slots, grows=grows) == expected


class Wished:
    """Events of packs that begin in the order of their numbers, and in the other one once that is wished."""

    def __init__(self) -> None:
        self.backwards = self.applied = False

    def is_reordered(self) -> bool:
        return self.backwards != self.applied

    def in_order(self, packs: list[int]) -> list[int]:
        self.applied = self.backwards
        return sorted(packs, reverse=self.backwards)

    def ready(self, pack: int) -> bool:
        return True

    def plan(self, pack: int) -> Any:
        return SimpleNamespace(to_config=dict)

    def more(self, seconds: float) -> None:
        return None

    def started(self, pack: int) -> None:
        """A worker has begun."""


class Loop:
    """Tune's loop as far as trials that wait go."""

    def __init__(self, queue: _Queue) -> None:
        self.queue, self.trials = queue, list[Trial]()
        self._tune_controller = self
        self._staged_trials: set[Trial] = set()

    def get_trials(self) -> list[Trial]:
        return self.trials

    def ask(self) -> int:
        """Take over one more trial; returns its pack."""
        trial = tune_trial()
        config = self.queue.suggest(trial.trial_id)
        assert config is not None
        trial.config = config
        self.trials.append(trial)
        self._staged_trials.add(trial)
        return config["pack"]

    def stop_trial(self, trial: Trial) -> None:
        trial.set_status(Trial.TERMINATED)
        self.queue.on_trial_complete(trial.trial_id)

    def _unstage_trial_with_resources(self, trial: Trial) -> None:
        self._staged_trials.remove(trial)


def test_what_waits_for_a_worker_is_taken_back_when_the_order_changes() -> None:
    events: Any = Wished()
    queue = _Queue(range(5), events)
    loop, scheduler = Loop(queue), _InOrder(events, queue)
    assert [loop.ask() for _ in range(4)] == [0, 1, 2, 3]
    begun, resetting, *waiting = loop.trials
    _Forward(events, queue).on_trial_start(1, loop.trials, begun)
    begun.set_status(Trial.RUNNING)
    # A worker that has trained another pack is made ready for it.
    resetting.temporary_state.ray_actor = Mock()
    assert scheduler.choose_trial_to_run(loop) is resetting
    events.backwards = True
    assert scheduler.choose_trial_to_run(loop) is resetting
    assert [trial.status for trial in waiting] == [Trial.TERMINATED] * 2
    assert loop._staged_trials == {begun, resetting}
    assert [loop.ask() for _ in range(3)] == [4, 3, 2]
    assert scheduler.choose_trial_to_run(loop) is resetting
    assert len([trial for trial in loop.trials if not trial.is_finished()]) == 5, "none is taken back twice"


def test_a_trial_that_fails_before_it_begins_is_not_taken_back() -> None:
    events: Any = Wished()
    queue = _Queue([0], events)
    loop = Loop(queue)
    assert loop.ask() == 0
    queue.on_trial_complete(loop.trials[0].trial_id, error=True)
    assert queue.suggest("next") == "FINISHED"
