"""A model that takes its time, so that a cluster has time to break; $PACE is the seconds of a pass."""

import math
import os
import time

from torch import Tensor, nn

PACE = float(os.environ.get("PACE", "0"))


class Paced(nn.Linear):
    """A layer that waits first; its numbers are any layer's."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the layer's outputs."""
        time.sleep(PACE)
        return super().forward(input)


def build(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """Return the model."""
    hidden = nn.Linear(math.prod(input_shape), 16)
    return nn.Sequential(nn.Flatten(), hidden, nn.Tanh(), Paced(16, num_outputs))
