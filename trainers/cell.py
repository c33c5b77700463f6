"""The cell: one fully specified training run, as a user states it.

A cell is a model, a data set, a loss and a seed, trained by a list of phases. Everything in the papers is
one of these. What two cells have in common, and their addresses, is the business of `trainers.canonical`.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from trainers.errors import ConfigError
from trainers.options import Choice

SHAPE_FIELDS = ("model", "dataset", "loss", "batch_size", "holdout_size")
"""In which fields cells must agree to be trained together, as lanes."""

DEFAULT_BATCH = 50


DEFAULT_INIT = "pytorch"
"""Parameters are as the layers draw them."""

INITIALISATIONS = (DEFAULT_INIT, "xavier", "kaiming")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    r"""A phase ends once the gradient has aligned with the Dominant subspace (SAY25 section 3.2).

    Every `every` steps from the start of the phase, chi_k = ||P_k g|| / ||g|| is measured, with g and the
    Hessian of the same examples, and E <- ema E + (1 - ema) chi_k from E = 0. The phase ends at the first
    such step at which E > `chi_above`.

    Args:
        chi_above: The threshold, between 0 and 1.
        at_most: The step at which the phase ends if that never happens.
        ema: Factor of the moving average, at least 0 and below 1.
        every: Period in steps.
        k: Dimension of the Dominant subspace; `None` is the number of classes.
        holdout_size: Number of training examples; `None` is the whole training set.
        holdout_seed: Seeds their choice.
        tolerance: On the residuals of the eigenpairs, as for `Solver`.
    """

    chi_above: float
    at_most: int
    ema: float = 0.9
    every: int = 10
    k: int | None = None
    holdout_size: int | None = None
    holdout_seed: int = 0
    tolerance: float = 2e-2

    def __post_init__(self) -> None:
        fraction("until.chi_above", self.chi_above)
        fraction("until.ema", self.ema)
        whole("until.at_most", self.at_most, minimum=1)
        whole("until.every", self.every, minimum=1)
        whole("until.holdout_seed", self.holdout_seed, minimum=0)
        positive("until.tolerance", self.tolerance, finite=True)
        for name in ("k", "holdout_size"):
            if getattr(self, name) is not None:
                whole(f"until.{name}", getattr(self, name), minimum=1)

    def __str__(self) -> str:
        stated = [f"ema(chi) > {self.chi_above}", f"at most {self.at_most}"]
        others = [(option, getattr(self, option.name)) for option in fields(self)[len(stated) :]]
        stated += [f"{option.name} {value}" for option, value in others if value != option.default]
        return ", ".join(stated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    r"""A stretch of training under one update rule.

    The update is (ZS25 section 4.1)

        theta <- theta - (lr / alpha_dom) P_k d - (lr / beta_bulk) (I - P_k) d,

    with d the direction of the base optimiser and P_k the projector on the Dominant subspace.

    Args:
        lr: Learning rate eta, positive and finite.
        until: The step at which the phase ends (its last update is number `until - 1`), or the condition on
            which it does.
        optimizer: The base optimiser, a key of `trainers.optimizers.OPTIMIZERS` with options, or a name.
        alpha_dom: Divisor of the Dominant component, positive; infinity removes it (Bulk-SGD).
        beta_bulk: Divisor of the Bulk component, positive; infinity removes it (Dom-SGD).
        k: Dimension of the Dominant subspace; `None` is the number of classes.
        carry: Whether the base optimiser goes on with the state that the phase before left, where that phase
            had the same one (by name); otherwise it starts from an empty state.
    """

    lr: float
    until: int | Condition
    optimizer: Choice = field(default_factory=lambda: Choice("sgd"))
    alpha_dom: float = 1.0
    beta_bulk: float = 1.0
    k: int | None = None
    carry: bool = True

    def __post_init__(self) -> None:
        # A frozen dataclass that takes a bare name for a choice.
        object.__setattr__(self, "optimizer", Choice.of(self.optimizer))
        positive("lr", self.lr, finite=True)
        positive("alpha_dom", self.alpha_dom)
        positive("beta_bulk", self.beta_bulk)
        if not isinstance(self.until, Condition):
            whole("until", self.until, minimum=0)
        if self.k is not None:
            whole("k", self.k, minimum=1)
        if math.isinf(self.alpha_dom) and math.isinf(self.beta_bulk):
            raise ConfigError(
                "alpha_dom and beta_bulk are both infinite: both effective rates would be 0 and nothing "
                "would train. Make at least one of them finite."
            )

    @property
    def last(self) -> int:
        """The step at which the phase ends at the latest."""
        return self.until.at_most if isinstance(self.until, Condition) else self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Solver:
    """Accuracy of the eigenspace tracker; part of the trajectory, since the update uses its result.

    Args:
        tolerance: A refresh has converged when every residual norm ||H u_i - lambda_i u_i||, i <= k, is at
            most `tolerance` times |lambda_k|, or times |lambda_1| / 100 where that is more: beyond the
            Hessian's rank lambda_k is 0. So what lies below a hundredth of the sharpness is found less well
            than `tolerance` says.
        guard: Least number of vectors carried beyond max(k, number of outputs).
        max_products: Budget of block products of one warm refresh.
        max_cold_products: Budget of block products of a cold start.
        order: Which eigenvalues lead: "algebraic", the largest, or "magnitude", those of largest magnitude.
    """

    tolerance: float = 5e-2
    guard: int = 2
    max_products: int = 6
    max_cold_products: int = 40
    order: str = "algebraic"

    def __post_init__(self) -> None:
        positive("solver.tolerance", self.tolerance, finite=True)
        whole("solver.guard", self.guard, minimum=0)
        whole("solver.max_products", self.max_products, minimum=1)
        whole("solver.max_cold_products", self.max_cold_products, minimum=1)
        if self.order not in ORDERS:
            raise ConfigError(f"solver.order: found {self.order!r}; allowed: {', '.join(ORDERS)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Something measured along the trajectory without changing it.

    Args:
        name: A key of `trainers.probes.PROBES`.
        every: Period in steps; `None` is the cell's `evaluate_every`.
        options: As declared by the probe's table entry.
    """

    name: str
    every: int | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.every is not None:
            whole(f"probe {self.name!r}: every", self.every, minimum=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training run.

    Args:
        model: A key of `trainers.models.MODELS`, with options.
        dataset: A key of `trainers.data.DATASETS`, with options.
        loss: A key of `trainers.losses.LOSSES`, with options.
        phases: What trains it, in order; each ends at its `until`.
        seed: Seeds the initialisation and the order of the batches.
        batch_size: Examples per step.
        holdout_size: Size l of the subset on which the Hessian is computed (ZS25 section 3.1); `None` is the
            whole training set. The subset stays in training.
        holdout_seed: Seeds the choice of that subset; decides nothing where it is the whole training set.
        refresh_every: Period T in steps at which the Dominant subspace is recomputed while a phase projects.
        solver: Accuracy of the eigenspace tracker.
        init: "pytorch" (each layer's default), "xavier" or "kaiming" (normal weights, zero bias; what else
            has one axis, as a normalisation's scale, is left as it is).
        divergence_factor: The run has diverged when the full training loss exceeds this multiple of its
            initial value (or is not finite); at least 1.
        divergence_every: Period in steps at which the full training loss is held against that rule.
        evaluate_every: Period in steps of the evaluation points; recorded, not part of the trajectory.
        probes: Further measurements; recorded, not part of the trajectory.
    """

    model: Choice
    dataset: Choice
    phases: tuple[Phase, ...]
    loss: Choice = field(default_factory=lambda: Choice("mse"))
    seed: int = 0
    batch_size: int = DEFAULT_BATCH
    holdout_size: int | None = 500
    holdout_seed: int = 0
    refresh_every: int = 10
    solver: Solver = field(default_factory=Solver)
    init: str = DEFAULT_INIT
    divergence_factor: float = 10.0
    divergence_every: int = 100
    evaluate_every: int = 100
    probes: tuple[Probe, ...] = ()

    def __post_init__(self) -> None:
        if not self.phases:
            raise ConfigError("phases: found none; a cell needs at least one phase.")
        whole("seed", self.seed, minimum=0)
        whole("batch_size", self.batch_size, minimum=1)
        if self.holdout_size is not None:
            whole("holdout_size", self.holdout_size, minimum=1)
        whole("holdout_seed", self.holdout_seed, minimum=0)
        whole("refresh_every", self.refresh_every, minimum=1)
        positive("divergence_factor", self.divergence_factor, finite=True)
        if self.divergence_factor < 1:
            raise ConfigError(
                f"divergence_factor: expected at least 1, found {self.divergence_factor!r}: a loss below its "
                "initial value is no divergence."
            )
        whole("divergence_every", self.divergence_every, minimum=1)
        whole("evaluate_every", self.evaluate_every, minimum=1)
        if self.init not in INITIALISATIONS:
            raise ConfigError(f"init: found {self.init!r}; allowed: {', '.join(INITIALISATIONS)}.")

    @property
    def shape(self) -> tuple[object, ...]:
        """What cells must agree in to be trained together: the values of `SHAPE_FIELDS`."""
        return tuple(getattr(self, name) for name in SHAPE_FIELDS)

    @property
    def num_steps(self) -> int:
        """The step at which the last phase ends."""
        return max([phase.last for phase in self.phases])


ORDERS = ("algebraic", "magnitude")
"""Which eigenvalues lead: the largest, as in the papers, or those of largest magnitude."""


def deciding_seed(seed: int, size: int, num_train: int) -> int:
    """Return the seed of a holdout; 0 where that is the whole training set, and the seed decides nothing."""
    return seed if size < num_train else 0


def whole(label: str, value: Any, *, minimum: int) -> None:
    """Raise `ConfigError` unless `value` is an int of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{label}: expected a whole number of at least {minimum}, found {value!r}.")


def positive(label: str, value: Any, *, finite: bool = False) -> None:
    """Raise `ConfigError` unless `value` is a positive number (and finite, if asked)."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not value > 0 or (finite and math.isinf(value)):
        raise ConfigError(
            f"{label}: expected a positive{' finite' if finite else ''} number, found {value!r}."
        )


def fraction(label: str, value: Any) -> None:
    """Raise `ConfigError` unless `value` is a number of at least 0 and below 1."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise ConfigError(f"{label}: expected a number of at least 0 and below 1, found {value!r}.")
