"""The solvers that the tracker is held against, cold, and warm for LOBPCG.

SciPy's linear algebra has one thread, which serves ARPACK best (`benchmarks`), Lanczos of hessian-eigenthings
full reorthogonalisation also beyond the 50 steps up to which it is the default: without it, copies of
converged vectors take the places of others, and more steps do not help.

A solver takes a problem and a setting, from the cheapest of its ladder to the dearest, and returns a basis.
The ladders are what `--tune` climbs until the measured error is not above the tracker's.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.sparse.linalg as sparse
import torch
from torch import Tensor

from benchmarks.problems import Problem
from trainers.coordinates import Coordinates

PRODUCT_FOR_VECTOR = Callable[[Tensor], Tensor]
ARPACK_TOLERANCES = (1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)
LOBPCG_ITERATIONS = (1, 2, 3, 4, 6, 8, 12, 18, 27, 40)
DEAREST_BASIS = 160


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A basis (K, P), the columns multiplied by H, and the calls that did it, one after another.

    A basis in coordinates comes with what makes it one over all parameters.
    """

    basis: Tensor
    products: int
    calls: int
    lifted: Callable[[], Tensor] | None = None

    @property
    def whole(self) -> Tensor:
        return self.basis if self.lifted is None else self.lifted()


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A solver.

    Args:
        solve: From the problem, a setting and the last refresh's basis, the answer.
        ladder: Its settings for k leading pairs, from the loosest to the tightest.
        counts: Whether the fastest peer is sought among it.
    """

    solve: Callable[[Problem, float, Tensor], Answer]
    ladder: Callable[[int], Sequence[float]]
    counts: bool = True

    @property
    def takes_tolerance(self) -> bool:
        """Whether it is ARPACK with a tolerance: one algorithm over one operator, to rounding."""
        return self.ladder is _tolerances


def _bases(k: int) -> list[float]:
    """Sizes of a Krylov space, one by one up to about twice the pairs wanted, then a 20th apart."""
    sizes = [k + 2]
    while sizes[-1] < DEAREST_BASIS:
        sizes.append(sizes[-1] + (1 if sizes[-1] <= 2 * k + 4 else max(1, sizes[-1] // 20)))
    return [float(size) for size in sizes]


def _arpack(
    problem: Problem,
    product: PRODUCT_FOR_VECTOR,
    *,
    tolerance: float,
    num_vectors: int | None = None,
    size: int | None = None,
) -> Answer:
    device, count = problem.device, 0

    def multiply(vector: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return product(torch.from_numpy(vector.reshape(-1)).to(device)).cpu().numpy()

    size = problem.num_params if size is None else size
    operator = sparse.LinearOperator((size, size), matvec=multiply, dtype=np.float32)
    return _answer(problem, operator, tolerance=tolerance, num_vectors=num_vectors, counted=lambda: count)


def _answer(
    problem: Problem,
    operator: Any,
    *,
    tolerance: float,
    counted: Callable[[], int],
    num_vectors: int | None = None,
) -> Answer:
    start = np.random.default_rng(problem.step).standard_normal(operator.shape[0]).astype(np.float32)
    vectors = sparse.eigsh(operator, k=problem.row.k, which="LA", tol=tolerance, ncv=num_vectors, v0=start)[1]
    basis = torch.from_numpy(np.ascontiguousarray(vectors.T)).to(problem.device)
    return Answer(basis=basis, products=counted(), calls=counted())


def _autograd_product(problem: Problem) -> PRODUCT_FOR_VECTOR:
    """Products through a retained gradient graph, as the published codes make them."""
    inputs, targets = problem.holdout
    problem.set_module()
    parameters = [*problem.module.parameters()]
    loss = 0.5 * (problem.module(inputs) - targets).square().sum() / len(inputs)
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parameters, create_graph=True)])

    def product(vector: Tensor) -> Tensor:
        parts = torch.autograd.grad(gradient, parameters, vector, retain_graph=True)
        return torch.cat([part.reshape(-1) for part in parts])

    return product


def _own_product(problem: Problem, coordinates: Coordinates | None = None) -> PRODUCT_FOR_VECTOR:
    block = problem.curvature(coordinates)
    return lambda vector: block(vector.view(1, 1, -1)).view(-1)


def arpack_autograd(problem: Problem, setting: float, last: Tensor) -> Answer:
    return _arpack(problem, _autograd_product(problem), tolerance=setting)


def arpack_autograd_least(problem: Problem, setting: float, last: Tensor) -> Answer:
    return _arpack(problem, _autograd_product(problem), tolerance=1.0, num_vectors=int(setting))


def arpack_own(problem: Problem, setting: float, last: Tensor) -> Answer:
    return _arpack(problem, _own_product(problem), tolerance=setting)


def arpack_own_in_coordinates(problem: Problem, setting: float, last: Tensor) -> Answer:
    """In the holdout's coordinates, as the tracker works; lifted beside what is timed, as the tracker is."""
    coordinates = problem.coordinates
    size = problem.num_params if coordinates is None else coordinates.size
    product = _own_product(problem, coordinates)
    found = _arpack(problem, product, tolerance=1.0, num_vectors=int(setting), size=size)
    if coordinates is None:
        return found
    return replace(found, lifted=lambda: coordinates.lift(found.basis))


class _HalfSquaredError(torch.nn.MSELoss):
    """One half of the squared error summed over classes, averaged over examples, as an `MSELoss`."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__(reduction="mean")
        self._factor = 0.5 * num_outputs

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self._factor * super().forward(input, target)


def arpack_curvlinops(problem: Problem, setting: float, last: Tensor) -> Answer:
    from curvlinops import HessianLinearOperator

    problem.set_module()
    operator = HessianLinearOperator(
        problem.module,
        _HalfSquaredError(problem.targets.shape[1]),
        [*problem.module.parameters()],
        [problem.holdout],
        check_deterministic=False,
    ).to_scipy(dtype=np.float32)
    count, multiply = 0, operator.matvec

    def counting(vector: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return multiply(vector)

    counted = sparse.LinearOperator(operator.shape, matvec=counting, dtype=np.float32)
    return _answer(problem, counted, tolerance=setting, counted=lambda: count)


def eigenthings_lanczos(problem: Problem, setting: float, last: Tensor) -> Answer:
    from hessian_eigenthings import lanczos
    from hessian_eigenthings.operators import HessianOperator

    problem.set_module()

    def loss_of(module: torch.nn.Module, batch: Any) -> Tensor:
        return 0.5 * (module(batch[0]) - batch[1]).square().sum() / len(batch[0])

    operator = HessianOperator(problem.module, [problem.holdout], loss_of)
    found = lanczos(
        operator, k=problem.row.k, max_iter=int(setting), reorthogonalize=True, which="LA", seed=problem.step
    )
    basis = found.eigenvectors
    assert basis is not None
    return Answer(basis=basis, products=found.iterations, calls=found.iterations)


def lobpcg_warm(problem: Problem, setting: float, last: Tensor) -> Answer:
    block, count, calls = problem.curvature(), 0, 0

    def multiply(columns: np.ndarray) -> np.ndarray:
        nonlocal count, calls
        rows = torch.from_numpy(np.ascontiguousarray(columns.T, dtype=np.float32)).to(problem.device)
        rows = rows.view(-1, problem.num_params)
        count, calls = count + len(rows), calls + 1
        return block(rows.unsqueeze(0))[0].T.cpu().numpy()

    size = problem.num_params
    operator = sparse.LinearOperator((size, size), matvec=multiply, matmat=multiply, dtype=np.float32)
    with warnings.catch_warnings():
        # It says so when it stops at its number of iterations, which is what is tuned.
        warnings.simplefilter("ignore")
        values, vectors = sparse.lobpcg(
            operator, last.cpu().numpy().T.copy(), tol=1e-12, maxiter=int(setting), largest=True
        )[:2]
    order = np.argsort(-values)[: problem.row.k]
    basis = torch.from_numpy(np.ascontiguousarray(vectors[:, order].T)).to(problem.device)
    return Answer(basis=basis, products=count, calls=calls)


def _tolerances(k: int) -> tuple[float, ...]:
    return ARPACK_TOLERANCES


PEERS: dict[str, Peer] = {
    "ARPACK, autograd": Peer(solve=arpack_autograd, ladder=_tolerances),
    "ARPACK, own product": Peer(solve=arpack_own, ladder=_tolerances),
    "ARPACK, curvlinops": Peer(solve=arpack_curvlinops, ladder=_tolerances),
    "Lanczos, hessian-eigenthings": Peer(solve=eigenthings_lanczos, ladder=_bases),
    "ARPACK, autograd, fewest vectors": Peer(solve=arpack_autograd_least, ladder=_bases),
    "ARPACK, own product, coordinates": Peer(solve=arpack_own_in_coordinates, ladder=_bases, counts=False),
    "LOBPCG, own product, warm": Peer(solve=lobpcg_warm, ladder=lambda k: LOBPCG_ITERATIONS, counts=False),
}
"""The fastest peer is sought among those that count, which start cold and know nothing of the holdout's
coordinates; shown beside them are what ARPACK would gain from these, as few vectors as it can have included,
and the warm one, whose least is one iteration: four calls, and an error below the tracker's."""

NEEDS = {"ARPACK, curvlinops": "curvlinops", "Lanczos, hessian-eigenthings": "hessian_eigenthings"}


def installed() -> dict[str, Peer]:
    """The peers whose packages are there."""
    return {name: peer for name, peer in PEERS.items() if find_spec(NEEDS.get(name, "scipy")) is not None}
