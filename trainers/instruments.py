"""What measurements of a lane share: holdouts, curvature products, and tracked leading eigenpairs.

Conditions (part of a trajectory) and probes (never part of it) both measure with these.

Shape legend: P parameters, K leading directions, R directions, W block width.
"""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field, replace
from functools import reduce

import torch
from torch import Tensor

from trainers.cell import Solver
from trainers.coordinates import Coordinates
from trainers.eigenpairs import Wanted, Warm
from trainers.eigenspace import block_width, random_rows
from trainers.evaluation import Split
from trainers.first_block import Operator
from trainers.magnitude import refresh_leading
from trainers.objective import Objective, Part
from trainers.randomness import generator, holdout_indices

SOLVER = Solver()
"""Budgets of measurements: a cell's own solver is no part of its identity where no phase projects."""

BLOCK, FLOOR = "block", "floor"
"""What a tracked eigenspace remembers: its last block, and the smallest eigenvalue that it has seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """Leading eigenpairs, with their accuracy.

    Args:
        basis_KP: Orthonormal rows, by descending eigenvalue.
        values_K: Eigenvalues, float64, on the host.
        residuals_K: Bounds on ||H u - lambda u|| of each, float64, on the host, as far as the smallest
            eigenvalue is known.
        tolerance: On `residual`.
        products: Columns multiplied by H.
    """

    basis_KP: Tensor
    values_K: Tensor
    residuals_K: Tensor
    tolerance: float
    products: int

    def first(self, k: int) -> "Leading":
        """Return the first k of them alone."""
        return replace(
            self, basis_KP=self.basis_KP[:k], values_K=self.values_K[:k], residuals_K=self.residuals_K[:k]
        )

    @property
    def residual(self) -> float:
        """The largest residual over the magnitude of the last eigenvalue, or a hundredth of the first's."""
        return float(self._verdict()[0])

    @property
    def converged(self) -> bool:
        """Whether that met the tolerance."""
        return bool(self._verdict()[1])

    def _verdict(self) -> tuple[Tensor, Tensor]:
        wanted = Wanted(len(self.values_K), 1, len(self.values_K))
        return wanted.verdict(self.values_K.unsqueeze(0), self.residuals_K.unsqueeze(0), self.tolerance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """A subset of the training set on which a Hessian is computed.

    Args:
        inputs: (l, *X).
        targets: (l, C).
        coordinates: Where products on them are cheaper; `None` where nowhere.
    """

    inputs: Tensor
    targets: Tensor
    coordinates: Coordinates | None

    def for_lanes(self, lanes: int) -> tuple[Tensor, Tensor]:
        """Return inputs (N, l, *X) and targets (N, l, C), the same for every lane, uncopied."""
        inputs, targets = self.inputs, self.targets
        return inputs.expand(lanes, *inputs.shape), targets.expand(lanes, *targets.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """An objective with its data.

    Args:
        objective: Model and loss.
        train: Training set.
        test: Test set.
        num_outputs: Outputs of the model.
        parameters: Name and number of elements of each of the model's parameters, in order.
    """

    objective: Objective
    train: Split
    test: Split
    num_outputs: int
    parameters: tuple[tuple[str, int], ...]
    _examples: dict[tuple[int, int], Examples] = field(default_factory=dict[tuple[int, int], Examples])
    _holdouts: dict[tuple[int, int], Tensor] = field(default_factory=dict[tuple[int, int], Tensor])

    def holdout(self, seed: int, size: int) -> Tensor:
        """Return the training examples of a holdout, (size,) int64."""
        if (seed, size) not in self._holdouts:
            indices = holdout_indices(seed, size, len(self.train))
            self._holdouts[seed, size] = indices.to(self.train.inputs.device)
        return self._holdouts[seed, size]

    def holdout_examples(self, seed: int, size: int) -> Examples:
        """Return a holdout's examples, kept from call to call."""
        if (seed, size) not in self._examples:
            inputs, targets = self.train.select(self.holdout(seed, size))
            coordinates = self.objective.coordinates(inputs)
            self._examples[seed, size] = Examples(inputs=inputs, targets=targets, coordinates=coordinates)
        return self._examples[seed, size]

    def product(
        self, params_P: Tensor, indices: Tensor, *, part: Part = "hessian", test: bool = False
    ) -> Callable[[Tensor], Tensor]:
        """Return the product of (a part of) the Hessian with a block of directions, (R, P) to (R, P)."""
        inputs, targets = (self.test if test else self.train).select(indices.unsqueeze(0))
        laned = self.objective.curvature(params_P.unsqueeze(0), inputs, targets, part=part)
        return lambda directions_RP: laned(directions_RP.unsqueeze(0)).squeeze(0)

    def gradient(self, params_P: Tensor, indices: Tensor, *, test: bool = False) -> Tensor:
        """Return the gradient of the mean loss over some examples, (P,), in pieces where they are many."""
        split, params_1P = self.test if test else self.train, params_P.unsqueeze(0)

        def share_of(piece: Tensor) -> Tensor:
            inputs, targets = split.select(piece.unsqueeze(0))
            gradient = self.objective.loss_and_gradient(params_1P, inputs, targets)[1].squeeze(0)
            return gradient.mul_(len(piece) / len(indices))

        at_once = self.objective.examples_at_once(params_1P, split.inputs.unsqueeze(0))
        return reduce(Tensor.add_, map(share_of, indices.split(at_once)))

    def leading(
        self,
        params_P: Tensor,
        indices: Tensor,
        *,
        k: int,
        tolerance: float,
        memory: MutableMapping[str, Tensor],
        draw: torch.Generator,
        order: str = "algebraic",
    ) -> Leading:
        """Return the k leading eigenpairs of the Hessian on some examples.

        Args:
            params_P: Weights.
            indices: The examples.
            k: How many.
            tolerance: On the residuals, relative to the k-th eigenvalue.
            memory: What the last call left (empty for a cold start); updated.
            draw: For the start block of a cold start.
            order: One of `trainers.cell.ORDERS`.
        """
        inputs, targets = self.train.select(indices.unsqueeze(0))
        num_params = params_P.numel()
        width = block_width(k, self.num_outputs, SOLVER.guard, num_params)

        def random_block() -> Tensor:
            return random_rows(width, num_params, draw).unsqueeze(0).to(params_P)

        warm = None
        if BLOCK in memory:
            warm = Warm(block_NWP=memory[BLOCK].unsqueeze(0), floor_N=memory[FLOOR].cpu())
        space = refresh_leading(
            order,
            Operator(product=self.objective.curvature(params_P.unsqueeze(0), inputs, targets)),
            warm,
            random_block,
            k=k,
            tolerance=tolerance,
            max_products=SOLVER.max_cold_products,
            max_cold_products=SOLVER.max_cold_products,
        )
        memory[BLOCK], memory[FLOOR] = space.basis_NWP[0].clone(), space.floor_N.clone()
        return Leading(
            basis_KP=memory[BLOCK][:k],
            values_K=space.values_NW[0, :k],
            residuals_K=space.residuals_NW[0, :k],
            tolerance=tolerance,
            products=int(space.products_N[0]),
        )


def alignment(basis_KP: Tensor, vector_P: Tensor) -> float:
    """Return chi_k(v) = ||P_k v|| / ||v|| (SAY25 section 2); 0 for v = 0."""
    norm = float(torch.linalg.vector_norm(vector_P))
    return float(torch.linalg.vector_norm(basis_KP @ vector_P)) / norm if norm != 0.0 else 0.0


def start_block(seed: int, purpose: str, step: int) -> torch.Generator:
    """Return the generator of a cold start: a function of the lane's seed, the purpose and the step."""
    return generator(seed, f"block/{purpose}", step)
