"""How often Tune tries a pack again."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from ray.tune.experiment import Trial

from sweep.schedule import _Forward
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
