"""Orders that are drawn during the epoch before are those that are drawn when they are wanted."""

from concurrent.futures import ThreadPoolExecutor

import torch

from tests.trainers.small_cells import sgd, small_cell
from trainers.batches import Batches
from trainers.lane import Lane

EXAMPLES = 70


def test_drawn_ahead_and_when_wanted() -> None:
    lanes = [Lane.of(small_cell(sgd(100), seed=seed)) for seed in range(3)]
    per_epoch = EXAMPLES // lanes[0].cell.batch_size
    ahead, wanted = (Batches(EXAMPLES, torch.device("cpu")) for _ in range(2))
    ahead._aside = ThreadPoolExecutor(1)
    for step in range(5 * per_epoch):
        # A lane ends in the middle of an epoch; later the steps are those of a state that lies further on.
        members = lanes if step < 2 * per_epoch + 1 else lanes[1:]
        at = step if step < 4 * per_epoch else step + 7 * per_epoch
        assert torch.equal(ahead.at(at, members), wanted.at(at, members))
    epoch = ahead.at(0, lanes)
    assert ahead._ahead is not None and ahead._ahead[0] == 1
    assert torch.equal(ahead.at(per_epoch, lanes), wanted.at(per_epoch, lanes))
    assert torch.equal(epoch, wanted.at(0, lanes)), "what was handed out stays as it was"
