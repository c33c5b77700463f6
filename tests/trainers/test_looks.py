"""How far apart looks at the steps are: few steps where they are dear, and no clock asked."""

import pytest

from tests.trainers.small_cells import sgd, small_cell
from trainers.cell import Phase
from trainers.lane import Lane
from trainers.looks import MOST, MOST_REPLAYED, steps_unwatched


@pytest.mark.parametrize(
    ("num_params", "full_batch", "expected", "replayed"),
    [
        (90_000, False, MOST, MOST_REPLAYED),
        (90_000, True, 1, 38),
        (11_000_000, False, 1, 31),
        (11_000_000, True, 1, 1),
    ],
    ids=["MLP", "MLP, full batch", "ResNet-18", "ResNet-18, full batch"],
)
def test_dear_steps_are_looked_at_more_often(
    num_params: int, full_batch: bool, expected: int, replayed: int
) -> None:
    cells = [
        small_cell(sgd(10)),
        small_cell(Phase(lr=0.1, until=10, optimizer="gd" if full_batch else "sgd")),
    ]
    lanes = [Lane.of(cell) for cell in cells]
    found = [steps_unwatched(lanes, 5000, num_params, replays=replays) for replays in (False, True)]
    assert found == [expected, replayed]
