"""Which examples a lane's steps take: each epoch in an order of its own, a last partial batch left out.

Shape legend: N lanes, B batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainers.lane import Lane
from trainers.randomness import epoch_order


class Batches:
    """The minibatches of lanes that train on one set.

    Args:
        num_examples: In the training set.
        device: Where the indices are wanted.
    """

    def __init__(self, num_examples: int, device: torch.device) -> None:
        self._num_examples, self._device = num_examples, device
        self._orders: tuple[int, list[Lane], Tensor] | None = None

    def at(self, step: int, lanes: Sequence[Lane]) -> Tensor:
        """Return the examples of each lane's batch at a step, (N, B) int64; kept by epoch."""
        size = lanes[0].cell.batch_size
        per_epoch = max(1, self._num_examples // size)
        epoch, number = divmod(step, per_epoch)
        if self._orders is None or self._orders[0] != epoch or self._orders[1] != lanes:
            rows = [epoch_order(lane.cell.seed, epoch, self._num_examples) for lane in lanes]
            self._orders = (epoch, list(lanes), torch.stack(rows).to(self._device))
        return self._orders[2][:, number * size : (number + 1) * size]
