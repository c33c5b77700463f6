"""The eigenspace tracker on matrices with known spectra; projectors are compared, never vectors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.trainers.tolerances import ANGLE_AT_DEFAULT_TOLERANCE
from trainers.eigenpairs import Eigenspace, Warm
from trainers.eigenspace import block_width, refresh, solve
from trainers.first_block import Operator

SIZE = 60
K = 4
WIDTH = 8

SPECTRA: dict[str, Tensor] = {
    "gap behind k": torch.cat([torch.tensor([10.0, 9.0, 8.0, 7.0]), torch.linspace(1, 0.1, SIZE - K)]),
    "clustered": torch.cat([torch.tensor([5.0, 5.0, 5.0, 4.99, 4.98]), torch.linspace(1, -1, SIZE - K - 1)]),
    "geometric": 10 * 0.8 ** torch.arange(SIZE),
    "negative dominates": torch.cat([torch.tensor([4.0, 3.0, 2.5, 2.0]), torch.linspace(0.5, -20, SIZE - K)]),
    "low rank": torch.cat([torch.tensor([3.0, 2.0, 1.5, 1.0, 0.5]), torch.zeros(SIZE - K - 1)]),
}


def matrix(spectrum: Tensor, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=draw, dtype=torch.float64))[0]
    return ((basis * spectrum.double()) @ basis.T).to(dtype)


def operator(matrices: Tensor) -> tuple[Callable[[Tensor], Tensor], list[int]]:
    """A product with each lane's matrix, and a list that collects the columns of each call."""
    columns: list[int] = []

    def product(block: Tensor) -> Tensor:
        columns.append(block.shape[1])
        return torch.bmm(block, matrices)

    return product, columns


def start(lanes: int, width: int = WIDTH, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(
        lanes, width, SIZE, generator=torch.Generator().manual_seed(9), dtype=torch.float64
    ).to(dtype)


def projector(basis_KP: Tensor) -> Tensor:
    return basis_KP.T.double() @ basis_KP.double()


def exact(one: Tensor, k: int = K) -> Tensor:
    return projector(torch.linalg.eigh(one.double())[1][:, -k:].T)


def true_residuals(one: Tensor, space: Eigenspace, lane: int) -> Tensor:
    basis, one = space.basis_NWP[lane].double(), one.double()
    images = basis @ one
    values = (basis * images).sum(1, keepdim=True)
    return torch.linalg.vector_norm(images - values * basis, dim=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", SPECTRA)
def test_finds_the_algebraically_largest(name: str, dtype: torch.dtype) -> None:
    matrices = torch.stack([matrix(SPECTRA[name], seed, dtype) for seed in range(3)])
    product, columns = operator(matrices)
    tolerance = 1e-7 if dtype == torch.float64 else 1e-4
    space = solve(product, start(3, dtype=dtype), k=K, tolerance=tolerance, max_products=60)
    assert space.converged_N.all()
    assert int(space.products_N.max()) == sum(columns)
    for lane in range(3):
        leading = space.basis_NWP[lane, :K]
        expected = torch.linalg.eigvalsh(matrices[lane].double()).flip(0)[:K]
        torch.testing.assert_close(
            space.values_NW[lane, :K], expected, rtol=10 * tolerance, atol=10 * tolerance
        )
        if name != "clustered":
            error = torch.linalg.matrix_norm(projector(leading) - exact(matrices[lane]), 2)
            assert error < 100 * tolerance
        gram = space.basis_NWP[lane] @ space.basis_NWP[lane].T
        torch.testing.assert_close(
            gram, torch.eye(WIDTH, dtype=dtype), rtol=0, atol=10 * torch.finfo(dtype).eps ** 0.75
        )


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("products", [3, 4, 6, 9])
def test_reported_residuals_bound_the_true_ones(name: str, products: int) -> None:
    one = matrix(SPECTRA[name], 1)
    product, _ = operator(one.unsqueeze(0))
    space = solve(product, start(1), k=K, tolerance=1e-12, max_products=products)
    true = true_residuals(one, space, 0)[:K]
    slack = 1e-12 + 0.1 * float(space.residuals_NW[0, :K].max())
    assert (true <= space.residuals_NW[0, :K].max() + slack).all()


def test_a_budget_that_is_too_small_is_said_and_kept() -> None:
    one = matrix(SPECTRA["geometric"], 1)
    product, columns = operator(one.unsqueeze(0))
    space = solve(product, start(1), k=K, tolerance=1e-10, max_products=3)
    assert not space.converged_N.any()
    assert columns == [WIDTH] * 3
    assert float(space.relative_N[0]) > 1e-10


def test_a_random_start_is_never_taken_for_a_converged_one() -> None:
    for seed in range(20):
        one = matrix(SPECTRA["gap behind k"], seed)
        product, _ = operator(one.unsqueeze(0))
        assert not solve(product, start(1), k=K, tolerance=0.05, max_products=1).converged_N.any()


def test_a_warm_refresh_after_a_small_change_costs_one_product() -> None:
    one = matrix(SPECTRA["gap behind k"], 1)
    product, _ = operator(one.unsqueeze(0))
    space = refresh(
        product, None, lambda: start(1), k=K, tolerance=1e-3, max_products=6, max_cold_products=40
    )
    moved = one + 0.02 * matrix(SPECTRA["gap behind k"], 2)
    product, columns = operator(moved.unsqueeze(0))
    warm = Warm(block_NWP=space.basis_NWP, floor_N=space.floor_N)
    again = refresh(product, warm, _never, k=K, tolerance=0.05, max_products=6, max_cold_products=40)
    assert columns == [WIDTH] and again.converged_N.all()
    error = torch.linalg.matrix_norm(projector(again.basis_NWP[0, :K]) - exact(moved), 2)
    assert error < 0.02
    assert true_residuals(moved, again, 0)[:K].max() <= again.residuals_NW[0, :K].max()


def _never() -> Tensor:
    raise AssertionError("a warm refresh drew a cold start")


def test_a_hopeless_warm_block_is_replaced_by_a_cold_start() -> None:
    one = matrix(SPECTRA["gap behind k"], 1)
    vectors = torch.linalg.eigh(one)[1]
    worst = vectors[:, :WIDTH].T.contiguous().unsqueeze(0) + 1e-3 * start(1)
    product, columns = operator(one.unsqueeze(0))
    warm = Warm(block_NWP=worst, floor_N=torch.zeros(1, dtype=torch.float64))
    space = refresh(
        product, warm, lambda: start(1), k=K, tolerance=1e-6, max_products=2, max_cold_products=40
    )
    assert int(space.products_N[0]) == sum(columns)
    assert torch.linalg.matrix_norm(projector(space.basis_NWP[0, :K]) - exact(one), 2) < 1e-4


def test_a_cold_start_wins_over_values_that_are_too_large() -> None:
    """Where the error lies along negative curvature, a power step's value exceeds the eigenvalue."""
    one = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    one[range(4), range(4)] = torch.tensor([1.0, 0.1, 0.0, -0.5], dtype=torch.float64)
    block = torch.eye(SIZE, dtype=torch.float64)[:3].clone()
    block[0, 0], block[0, 3] = 0.91**0.5, 0.3
    warm = Warm(block_NWP=block.unsqueeze(0), floor_N=torch.full((1,), -0.5, dtype=torch.float64))
    product = operator(one.unsqueeze(0))[0]
    given = {"k": 2, "tolerance": 0.05, "max_products": 1, "max_cold_products": 30}
    bad = solve(product, warm.block_NWP, k=2, tolerance=0.05, max_products=1, floor_N=warm.floor_N)
    assert not bad.converged_N[0] and bad.values_NW[0, 0] > 1.05, "else nothing is tested"
    space = refresh(product, warm, lambda: start(1, 3), **given)
    assert space.converged_N[0]
    torch.testing.assert_close(projector(space.basis_NWP[0, :2]), exact(one, 2), rtol=0, atol=0.05)


def test_large_negative_eigenvalues_do_not_creep_in_over_many_refreshes() -> None:
    one = matrix(SPECTRA["negative dominates"], 1)
    product, _ = operator(one.unsqueeze(0))
    space = refresh(
        product, None, lambda: start(1), k=K, tolerance=1e-2, max_products=6, max_cold_products=40
    )
    for _ in range(100):
        warm = Warm(block_NWP=space.basis_NWP, floor_N=space.floor_N)
        space = refresh(
            product, warm, lambda: start(1), k=K, tolerance=1e-2, max_products=6, max_cold_products=40
        )
        assert space.converged_N.all()
    assert torch.linalg.matrix_norm(projector(space.basis_NWP[0, :K]) - exact(one), 2) < 0.05
    gram = space.basis_NWP[0] @ space.basis_NWP[0].T
    torch.testing.assert_close(gram, torch.eye(WIDTH, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_products_that_are_not_finite_are_no_exception(bad: float) -> None:
    matrices = torch.stack([matrix(SPECTRA["geometric"], 1), matrix(SPECTRA["geometric"], 2)])
    matrices[0, 3, 3] = bad
    product, _ = operator(matrices)
    space = solve(product, start(2), k=K, tolerance=1e-6, max_products=40)
    assert space.converged_N.tolist() == [False, True]
    assert torch.linalg.matrix_norm(projector(space.basis_NWP[1, :K]) - exact(matrices[1]), 2) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_lane_does_not_depend_on_its_neighbours(dtype: torch.dtype) -> None:
    matrices = torch.stack([matrix(SPECTRA[name], 3, dtype) for name in SPECTRA])
    together = solve(
        operator(matrices)[0], start(len(SPECTRA), dtype=dtype), k=K, tolerance=1e-3, max_products=30
    )
    for lane, name in enumerate(SPECTRA):
        first = start(len(SPECTRA), dtype=dtype)[lane : lane + 1]
        alone = solve(operator(matrices[lane : lane + 1])[0], first, k=K, tolerance=1e-3, max_products=30)
        assert int(alone.products_N[0]) == int(together.products_N[lane]), name
        difference = projector(alone.basis_NWP[0, :K]) - projector(together.basis_NWP[lane, :K])
        assert difference.abs().max() < (1e-9 if dtype == torch.float64 else 1e-3), name


def of_lanes(matrices: Tensor) -> tuple[Operator, list[int]]:
    """An operator that can leave lanes out, and a list that collects the lanes of each product."""
    lanes: list[int] = []

    def product_of(rows: Tensor) -> Callable[[Tensor], Tensor]:
        def product(block: Tensor) -> Tensor:
            lanes.append(len(rows))
            return torch.bmm(block, matrices[rows])

        return product

    return Operator(product=product_of(torch.arange(len(matrices))), of_lanes=product_of), lanes


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lanes_that_have_ended_are_not_multiplied(dtype: torch.dtype) -> None:
    matrices = torch.stack([matrix(SPECTRA[name], 3, dtype) for name in SPECTRA])
    matrices[1, 3, 3] = torch.nan
    operated, lanes = of_lanes(matrices)
    block, settings = start(len(SPECTRA), dtype=dtype), {"k": K, "tolerance": 1e-3, "max_products": 30}
    space = solve(operated, block, **settings)  # type: ignore[arg-type]
    masked = solve(operated.product, block, **settings)  # type: ignore[arg-type]
    assert space.products_N.tolist() == masked.products_N.tolist()
    assert space.converged_N.tolist() == masked.converged_N.tolist()
    assert lanes[0] == len(matrices) and lanes[1] < len(matrices)
    num_blocks = (space.products_N[space.converged_N] // WIDTH).tolist()
    assert sum(lanes) - lanes.count(len(matrices)) * len(matrices) < sum(num_blocks)
    for lane in range(len(SPECTRA)):
        if space.converged_N[lane]:
            torch.testing.assert_close(space.values_NW[lane, :K], masked.values_NW[lane, :K])
            difference = projector(space.basis_NWP[lane, :K]) - projector(masked.basis_NWP[lane, :K])
            assert difference.abs().max() < (1e-9 if dtype == torch.float64 else 1e-3)


def test_a_cold_restart_is_for_the_lanes_that_need_one() -> None:
    matrices = torch.stack([matrix(SPECTRA["geometric"], seed) for seed in (1, 2, 3)])
    good = solve(operator(matrices)[0], start(3), k=K, tolerance=1e-8, max_products=40)
    block = good.basis_NWP.clone()
    block[1] = start(1)[0]  # Far from anything, and one product is allowed.
    operated, lanes = of_lanes(matrices)
    space = refresh(
        operated,
        Warm(block_NWP=block, floor_N=torch.zeros(3, dtype=torch.float64)),
        lambda: start(3),
        k=K,
        tolerance=1e-6,
        max_products=1,
        max_cold_products=40,
    )
    assert space.converged_N.all()
    assert lanes[0] == 3 and set(lanes[1:]) == {1}
    assert space.products_N.tolist() == [WIDTH, sum(lanes[1:]) * WIDTH + WIDTH, WIDTH]
    for lane in range(3):
        assert (
            torch.linalg.matrix_norm(projector(space.basis_NWP[lane, :K]) - exact(matrices[lane]), 2) < 1e-5
        )


def test_lanes_may_be_after_different_numbers_of_pairs() -> None:
    matrices = torch.stack([matrix(SPECTRA["geometric"], seed) for seed in (1, 2, 3)])
    counts = [1, K, WIDTH]
    together = solve(of_lanes(matrices)[0], start(3), k=counts, tolerance=1e-6, max_products=40)
    for lane, k in enumerate(counts):
        alone = solve(
            operator(matrices[lane : lane + 1])[0],
            start(3)[lane : lane + 1],
            k=k,
            tolerance=1e-6,
            max_products=40,
        )
        assert int(alone.products_N[0]) == int(together.products_N[lane])
        torch.testing.assert_close(alone.values_NW[0, :k], together.values_NW[lane, :k])
        assert float(together.relative_N[lane]) == pytest.approx(float(alone.relative_N[0]))
    assert len(set(together.products_N.tolist())) > 1


def test_a_problem_smaller_than_the_block() -> None:
    one = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)).unsqueeze(0)
    width = block_width(2, 10, 4, 3)
    assert width == 3
    block = torch.randn(1, width, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    space = solve(lambda columns: torch.bmm(columns, one), block, k=2, tolerance=1e-8, max_products=10)
    assert space.converged_N.all()
    torch.testing.assert_close(space.values_NW[0], torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))


def test_the_floor_survives_restarts() -> None:
    """A cold start of many blocks sees the most negative eigenvalue early, and a restart drops its vector."""
    one = matrix(SPECTRA["negative dominates"], 1)
    lowest = float(SPECTRA["negative dominates"].min())
    for products in (4, 12, 13, 14, 30):
        product, _ = operator(one.unsqueeze(0))
        space = solve(product, start(1), k=K, tolerance=1e-13, max_products=products)
        assert lowest - 1e-9 <= float(space.floor_N[0]) <= 0.9 * lowest, products


def test_directions_that_do_not_exist_leave_no_floor() -> None:
    """With more columns than dimensions the search space is dependent; its made-up values must not count."""
    spectrum = torch.tensor([9.0, 8.0, 7.0, 1.0, 0.5, -0.5, -1.0, -2.0, 0.1, 0.2], dtype=torch.float64)
    one = torch.diag(spectrum).unsqueeze(0)
    block = torch.randn(1, 6, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    space = solve(lambda columns: torch.bmm(columns, one), block, k=3, tolerance=1e-12, max_products=3)
    torch.testing.assert_close(float(space.floor_N[0]), -2.0)
    assert space.converged_N.all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_basis_stays_orthonormal_while_the_operator_drifts(dtype: torch.dtype) -> None:
    drift = matrix(SPECTRA["gap behind k"], 2)
    drift = drift - drift.mean() * torch.eye(SIZE, dtype=torch.float64)
    one = matrix(SPECTRA["gap behind k"], 1)
    warm: Warm | None = None
    for number in range(200):
        now = one + 0.02 * number / 10 * drift
        space = refresh(
            operator(now.to(dtype).unsqueeze(0))[0],
            warm,
            lambda: start(1, dtype=dtype),
            k=K,
            tolerance=0.05,
            max_products=6,
            max_cold_products=40,
        )
        warm = Warm(block_NWP=space.basis_NWP, floor_N=space.floor_N)
        assert space.converged_N.all(), number
        error = torch.linalg.matrix_norm(projector(space.basis_NWP[0, :K]) - exact(now), 2)
        assert error < ANGLE_AT_DEFAULT_TOLERANCE, number
    gram = space.basis_NWP[0] @ space.basis_NWP[0].T
    torch.testing.assert_close(
        gram, torch.eye(WIDTH, dtype=dtype), rtol=0, atol=10 * torch.finfo(dtype).eps ** 0.75
    )
