"""SAY25's toy (section A.2): a quadratic in two parameters with a sign for noise."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainers.models.fitting import sign
from trainers.options import OptionValue


class Quadratic(nn.Module):
    """f(x, y; s) = (sharp x^2 + y^2) / 2 + noise s x y, from (x, y) = (1, 1)."""

    def __init__(self, sharp: float, noise: float) -> None:
        super().__init__()
        self.sharp, self.noise = sharp, noise
        self.theta = nn.Parameter(torch.ones(2))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return f for each sign of the inputs (examples, 1)."""
        x, y = self.theta[0], self.theta[1]
        return 0.5 * (self.sharp * x * x + y * y) + self.noise * inputs * x * y


def quadratic(
    input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]
) -> nn.Module:
    """Build the toy; its data set is `signs` and its loss `output`."""
    sign(input_shape, num_outputs, options)
    return Quadratic(float(options["sharp"]), float(options["noise"]))  # type: ignore[arg-type]
