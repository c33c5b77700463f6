"""Base optimisers: what turns a gradient into the direction d that the update rule then projects.

An update rule is pure and never computes eigenpairs; the training loop owns the refresh cadence.
"""

from collections.abc import Mapping

OPTIMIZERS: Mapping[str, str] = {
    "sgd": "d = the minibatch gradient",
}
"""Names of the base optimisers, with the direction each gives."""
