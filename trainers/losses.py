r"""Losses: a function of the outputs alone, with its first derivative and its Hessian's action.

Written out in closed form because the trainer needs, besides the value, the residual that starts the
backward pass and the output Hessian that sits in the middle of every curvature product:
H = J^T A J + sum_c r_c nabla^2 f_c, with A the Hessian and r the gradient of the loss in the outputs f.

Shape legend: N lanes, R directions, B examples, C outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from trainers.options import Option, OptionValue

if TYPE_CHECKING:
    from torch import Tensor


class Loss(Protocol):
    """A loss averaged over examples."""

    def value(self, outputs_NBC: "Tensor", targets_NBC: "Tensor") -> "Tensor":
        """Return the mean loss of each lane, (N,)."""
        ...

    def gradient(self, outputs_NBC: "Tensor", targets_NBC: "Tensor") -> "Tensor":
        """Return the gradient of the mean loss in the outputs, (N, B, C)."""
        ...

    def output_hessian(self, outputs_NBC: "Tensor", tangents_NRBC: "Tensor") -> "Tensor":
        """Return A v for each example's output Hessian A of the mean loss, (N, R, B, C)."""
        ...


@dataclass(frozen=True, slots=True)
class MeanSquaredError:
    r"""scale * sum_c (f_c - y_c)^2, averaged over examples, y one-hot.

    The default scale 1/2 is the convention of the code that SAY25 cites; eigenvalues scale with it.
    """

    scale: float

    def value(self, outputs_NBC: "Tensor", targets_NBC: "Tensor") -> "Tensor":
        """Return the mean loss of each lane, (N,)."""
        return (outputs_NBC - targets_NBC).square().sum(-1).mean(-1) * self.scale

    def gradient(self, outputs_NBC: "Tensor", targets_NBC: "Tensor") -> "Tensor":
        """Return the gradient of the mean loss in the outputs, (N, B, C)."""
        return (outputs_NBC - targets_NBC) * (2.0 * self.scale / outputs_NBC.shape[-2])

    def output_hessian(self, outputs_NBC: "Tensor", tangents_NRBC: "Tensor") -> "Tensor":
        """Return A v, (N, R, B, C); A is a multiple of the identity."""
        return tangents_NRBC * (2.0 * self.scale / outputs_NBC.shape[-2])


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    r"""-sum_c y_c log softmax(f)_c, averaged over examples, y one-hot or other shares.

    The derivatives are right where the shares have the sum 1, which planning sees to.
    """

    def value(self, outputs_NBC: "Tensor", targets_NBC: "Tensor") -> "Tensor":
        """Return the mean loss of each lane, (N,)."""
        return -(outputs_NBC.log_softmax(-1) * targets_NBC).sum(-1).mean(-1)

    def gradient(self, outputs_NBC: "Tensor", targets_NBC: "Tensor") -> "Tensor":
        """Return the gradient of the mean loss in the outputs, (N, B, C)."""
        return (outputs_NBC.softmax(-1) - targets_NBC) / outputs_NBC.shape[-2]

    def output_hessian(self, outputs_NBC: "Tensor", tangents_NRBC: "Tensor") -> "Tensor":
        """Return A v = p * (v - p.v), (N, R, B, C)."""
        probabilities = outputs_NBC.softmax(-1).unsqueeze(1)
        centred = tangents_NRBC - (probabilities * tangents_NRBC).sum(-1, keepdim=True)
        return probabilities * centred / outputs_NBC.shape[-2]


@dataclass(frozen=True, slots=True)
class MeanOutput:
    """The sum of the outputs, averaged over examples: the model's output is the loss (SAY25's quadratic)."""

    def value(self, outputs_NBC: "Tensor", targets_NBC: "Tensor") -> "Tensor":
        """Return the mean loss of each lane, (N,)."""
        return outputs_NBC.sum(-1).mean(-1)

    def gradient(self, outputs_NBC: "Tensor", targets_NBC: "Tensor") -> "Tensor":
        """Return the gradient of the mean loss in the outputs, (N, B, C)."""
        return outputs_NBC.new_full(outputs_NBC.shape, 1 / outputs_NBC.shape[-2])

    def output_hessian(self, outputs_NBC: "Tensor", tangents_NRBC: "Tensor") -> "Tensor":
        """Return 0, (N, R, B, C): all curvature is the model's."""
        return 0 * tangents_NRBC


@dataclass(frozen=True, slots=True, kw_only=True)
class LossEntry:
    """A row of `LOSSES`.

    Args:
        build: The builder.
        options: Its declared options.
        of_classes: Whether targets must be at least 0 with sum 1, as one-hot ones are.
    """

    build: Callable[[Mapping[str, OptionValue]], Loss]
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    of_classes: bool = False


MSE_SCALES = {"half_sum": 0.5, "sum": 1.0}


def _mse(options: Mapping[str, OptionValue]) -> Loss:
    return MeanSquaredError(MSE_SCALES[str(options["scale"])])


def _cross_entropy(options: Mapping[str, OptionValue]) -> Loss:
    return CrossEntropy()


def _mean_output(options: Mapping[str, OptionValue]) -> Loss:
    return MeanOutput()


LOSSES: dict[str, LossEntry] = {
    "mse": LossEntry(build=_mse, options={"scale": Option(default="half_sum", allowed=tuple(MSE_SCALES))}),
    "cross_entropy": LossEntry(build=_cross_entropy, of_classes=True),
    "output": LossEntry(build=_mean_output),
}
