"""How many steps are taken between two looks at what has become of them.

Minibatch losses are looked at whenever something else is to be done, and at multiples of this number. A lane
that diverged in between ends at its own step, but leaves the pack where that is seen, and last bits of the
others depend on who is beside them. So where it is seen depends on the cells alone, and on no clock.
"""

from collections.abc import Sequence

from trainers.lane import Lane

MOST, MOST_REPLAYED = 8, 64
"""Steps; a GPU that replays them would wait for each look."""

WORK, WORK_REPLAYED = 2**28, 2**34
"""Examples times parameters of all of them at most, so that a place to pause is never far."""


def steps_unwatched(lanes: Sequence[Lane], num_train: int, num_params: int, *, replays: bool) -> int:
    """Return the number for a pack.

    Args:
        lanes: All of its lanes, those that have ended too.
        num_train: Training examples: what a full batch is.
        num_params: Parameters of one lane.
        replays: Whether a GPU replays the steps.
    """
    whole = any(stage.full_batch for lane in lanes for stage in lane.stages)
    examples = num_train if whole else lanes[0].cell.batch_size
    most, work = (MOST_REPLAYED, WORK_REPLAYED) if replays else (MOST, WORK)
    return min(most, max(1, work // (examples * num_params)))
