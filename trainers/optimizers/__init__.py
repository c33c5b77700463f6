"""Base optimisers: what turns gradients into the direction d that the update rule then projects.

A literal table, name -> entry. `trainers.optimizers.rules` has the recurrences, `trainers.optimizers.update`
the one update rule around them. An update rule is pure and never computes eigenpairs; the training loop owns
the refresh cadence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainers.options import Option

PROJECTIONS = ("update", "gradient")
"""What the two effective rates act on, where the direction is not the gradient itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerEntry:
    """A row of `OPTIMIZERS`.

    Args:
        direction: The direction d, for documentation.
        options: Declared options.
        has_state: Whether the next direction depends on earlier gradients.
        dominant_only: Whether d lies in the Dominant subspace, so that every step needs it and the Bulk rate
            says nothing.
    """

    direction: str
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    has_state: bool = False
    dominant_only: bool = False


_FULL_BATCH = Option(default=False)
_PROJECT = Option(default="update", allowed=PROJECTIONS)
_DECAY = Option(default=0.9, minimum=0.0, below=1.0)

OPTIMIZERS: dict[str, OptimizerEntry] = {
    "sgd": OptimizerEntry(direction="the minibatch gradient"),
    "gd": OptimizerEntry(direction="the gradient of the whole training set"),
    "sam": OptimizerEntry(
        direction="the gradient at theta + rho g / ||g|| (SAY25 section B.2)",
        options={"rho": Option(default=0.1, minimum=0.0), "full_batch": Option(default=True)},
    ),
    "momentum": OptimizerEntry(
        direction="v <- beta v + g, undamped (heavy ball)",
        options={"beta": _DECAY, "full_batch": _FULL_BATCH, "project": _PROJECT},
        has_state=True,
    ),
    "adam": OptimizerEntry(
        direction="m / (sqrt(v) + eps), both moments corrected for their start at 0",
        options={
            "beta1": _DECAY,
            "beta2": Option(default=0.999, minimum=0.0, below=1.0),
            "eps": Option(default=1e-8, minimum=0.0),
            "full_batch": _FULL_BATCH,
            "project": _PROJECT,
        },
        has_state=True,
    ),
    "newton": OptimizerEntry(
        direction="sum over i <= k with lambda_i > 0 of (u_i . g) / lambda_i u_i (GRD18 eq. 11)",
        options={"full_batch": _FULL_BATCH},
        dominant_only=True,
    ),
}
