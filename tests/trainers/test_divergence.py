"""The rule on losses of either sign."""

import pytest

from trainers.divergence import DivergenceDetector


@pytest.mark.parametrize(
    ("initial", "losses", "leaves"),
    [
        (2.0, [0.1, 19.9, 20.1], [False, False, True]),
        (-1.0, [-1.5, -20.0, 7.9, 8.1], [False, False, False, True]),
        (0.0, [1e-30, 5.0, float("inf")], [False, False, True]),
    ],
)
def test_a_multiple_of_the_initial_loss_is_a_distance_from_it(
    initial: float, losses: list[float], leaves: list[bool]
) -> None:
    detector = DivergenceDetector(factor=10.0)
    assert detector.judge_loss(initial, 0, last=False) is None
    found = [detector.judge_loss(loss, step, last=False) is not None for step, loss in enumerate(losses, 1)]
    assert found == leaves


def test_a_run_may_end_where_it_began_and_below() -> None:
    detector = DivergenceDetector(factor=10.0)
    assert detector.judge_loss(-1.0, 0, last=False) is None
    assert detector.judge_loss(-1.0, 5, last=True) is None
    outcome = detector.judge_loss(-0.9, 5, last=True)
    assert outcome is not None and outcome.reason == "the final training loss is above its initial value"
