"""A row's trajectory with the tracker on it, from refresh to refresh."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor

from benchmarks.peers import Answer
from benchmarks.problems import WARM_UP, Error, Problem, Row, error_of
from trainers.cell import Solver
from trainers.eigenpairs import Warm
from trainers.eigenspace import block_width, random_rows, refresh
from trainers.first_block import Operator, WarmBlock
from trainers.objective import CurvatureProduct
from trainers.randomness import generator

SETTLING = 3
"""Refreshes before a course begins: the first is cold."""

SOLVER = Solver()

STEPS_BEFORE = 10
"""Gradients of a minibatch before each timing, as training has them between two refreshes.

Nothing else: cores that have slept are slow for some milliseconds, in which one block of products is over
and a method of many products in a row is not. SciPy's linear algebra has one thread (`benchmarks`), so that
none of it goes on waiting beside the next solver."""


class Tracker:
    """The project's tracker, warm from refresh to refresh, in the holdout's coordinates as in training."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._coordinates = problem.coordinates
        self._size = problem.num_params if self._coordinates is None else self._coordinates.size
        self.width = block_width(problem.row.k, problem.targets.shape[1], SOLVER.guard, self._size)
        self._warm: Warm | None = None
        self._block = WarmBlock(k=[problem.row.k], tolerance=SOLVER.tolerance, replayable=True)

    def _linearise(self, params_NP: Tensor) -> CurvatureProduct:
        return self._problem.curvature(self._coordinates, params_NP)

    def __call__(self) -> Answer:
        """Refresh as the trainer does: on a GPU, what comes first is replayed."""
        params, calls = self._problem.params, 0
        if self._warm is None:
            operator = Operator(product=self._linearise(params))
        else:
            operator = self._block.begin(self._linearise, params, self._warm)
            calls = 1

        def counting(block: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return operator.product(block)

        space = refresh(
            replace(operator, product=counting, of_lanes=None),
            self._warm,
            self._random_block,
            k=self._problem.row.k,
            tolerance=SOLVER.tolerance,
            max_products=SOLVER.max_products,
            max_cold_products=SOLVER.max_cold_products,
        )
        self._warm = Warm(block_NWP=self._block.keep(space.basis_NWP), floor_N=space.floor_N)
        self.converged = bool(space.converged_N[0])
        return Answer(basis=self.leading, products=int(space.products_N[0]), calls=calls)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Forget what is found in here: the next refresh begins where this one did."""
        before = self._warm
        if before is not None:
            # On a GPU what is found takes its place.
            before = Warm(block_NWP=before.block_NWP.clone(), floor_N=before.floor_N)
        yield
        self._warm = before

    @property
    def leading(self) -> Tensor:
        """The Dominant basis in the holdout's coordinates, which is how the trainer projects with it."""
        assert self._warm is not None
        return self._warm.block_NWP[0, : self._problem.row.k]

    @property
    def basis(self) -> Tensor:
        """The Dominant basis over all parameters, (K, P)."""
        return self._lifted(self.leading)

    @property
    def block(self) -> Tensor:
        """All that is carried on, (W, P)."""
        assert self._warm is not None
        # On a GPU the next refresh puts its block where this one is.
        return self._lifted(self._warm.block_NWP[0]).clone()

    def _lifted(self, vectors: Tensor) -> Tensor:
        return vectors if self._coordinates is None else self._coordinates.lift(vectors)

    def _random_block(self) -> Tensor:
        draw = generator(0, "block/eigenspace", self._problem.step)
        return random_rows(self.width, self._size, draw).unsqueeze(0).to(self._problem.device)


class Course:
    """A row's trajectory, refresh by refresh, with the tracker on it."""

    def __init__(self, row: Row, device: str) -> None:
        self.row = row
        self.problem = Problem(row, device)
        self.problem.advance(WARM_UP, None)
        self.tracker = Tracker(self.problem)
        self.unconverged = 0
        self.skip(SETTLING)
        self.unconverged = 0

    def skip(self, refreshes: int) -> None:
        """Go on with the tracker alone."""
        for _ in range(refreshes):
            self.tracker()
            self.next()

    def next(self) -> None:
        """Train to the next refresh, and count this one if it has not converged."""
        self.unconverged += not self.tracker.converged
        self.problem.advance(self.row.period, self.tracker.basis if self.row.optimizer == "bulk" else None)

    def steps(self) -> None:
        """Do what comes before a refresh."""
        for _ in range(STEPS_BEFORE):
            self.problem.gradient()

    def errors(self, basis: Tensor, exact: Tensor) -> Error:
        return error_of(basis, exact, self.problem.gradient())
