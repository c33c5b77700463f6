"""Which examples a lane's steps take: each epoch in an order of its own, a last partial batch left out.

Shape legend: N lanes, B batch.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from trainers.lane import Lane
from trainers.randomness import epoch_order


class Batches:
    """The minibatches of lanes that train on one set.

    A GPU would wait for the orders of hundreds of lanes: there those of the next epoch are drawn meanwhile.

    Args:
        num_examples: In the training set.
        device: Where the indices are wanted.
    """

    def __init__(self, num_examples: int, device: torch.device) -> None:
        self._num_examples, self._device = num_examples, device
        self._orders: tuple[int, list[Lane], Tensor] | None = None
        self._ahead: tuple[int, list[Lane], Future[Tensor]] | None = None
        self._aside = ThreadPoolExecutor(1, "epoch-orders") if device.type == "cuda" else None

    def at(self, step: int, lanes: Sequence[Lane]) -> Tensor:
        """Return the examples of each lane's batch at a step, (N, B) int64; kept by epoch."""
        size = lanes[0].cell.batch_size
        per_epoch = max(1, self._num_examples // size)
        epoch, number = divmod(step, per_epoch)
        if self._orders is None or self._orders[0] != epoch or self._orders[1] != lanes:
            own = list(lanes)
            self._orders = (epoch, own, self._orders_of(epoch, own).to(self._device, non_blocking=True))
            if self._aside is not None:
                if self._ahead is not None:
                    self._ahead[2].cancel()
                self._ahead = (epoch + 1, own, self._aside.submit(self._draw, epoch + 1, own))
        return self._orders[2][:, number * size : (number + 1) * size]

    def _orders_of(self, epoch: int, lanes: list[Lane]) -> Tensor:
        if self._ahead is not None and self._ahead[:2] == (epoch, lanes):
            return self._ahead[2].result()
        return self._draw(epoch, lanes)

    def _draw(self, epoch: int, lanes: list[Lane]) -> Tensor:
        """Return orders (N, examples) on the host, where a GPU can fetch them without waiting."""
        shape = (len(lanes), self._num_examples)
        orders = torch.empty(shape, dtype=torch.int64, pin_memory=self._device.type == "cuda")
        for row, lane in zip(orders, lanes, strict=True):
            row.copy_(epoch_order(lane.cell.seed, epoch, self._num_examples))
        return orders
