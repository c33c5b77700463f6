"""The power step and the eigenvectors as images give them, against dense algebra in float64."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tests.trainers.test_eigenspace import matrix
from tests.trainers.tolerances import ORTHONORMAL_FLOAT32, SMALL_ALGEBRA
from trainers.first_block import ritz_in_block
from trainers.power_step import LEAST_TURNED, power_step

SIZE, WIDTH = 60, 6
CPU = torch.device("cpu")

NEAR = torch.cat(
    [torch.tensor([34.4, 32.1, 31.9, 20.0, 15.0, 14.0]), torch.linspace(3, -1, SIZE - WIDTH)]
).double()
"""As at the CNN's start: the second and third eigenvalue near the first."""


def block_near(one: Tensor, off: float, seed: int = 3) -> Tensor:
    """An orthonormal block near the leading eigenvectors, (WIDTH, SIZE), its vectors in no order."""
    draw = torch.Generator().manual_seed(seed)
    vectors = torch.linalg.eigh(one)[1].flip(1)[:, :WIDTH]
    mixing = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=draw, dtype=torch.float64))[0]
    noise = torch.randn(SIZE, WIDTH, generator=draw, dtype=torch.float64) / SIZE**0.5
    return torch.linalg.qr(vectors @ mixing + off * noise)[0].mT


def ritz_of(one: Tensor, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ritz values, vectors as rows, residuals as rows."""
    values, mixing = torch.linalg.eigh(block @ one @ block.mT)
    values, vectors = values.flip(0), mixing.flip(1).mT @ block
    return values, vectors, vectors @ one - values.unsqueeze(1) * vectors


class Step(NamedTuple):
    """A `PowerStep` as tensors."""

    values_NW: Tensor
    norms_NW: Tensor
    shares_NW: Tensor
    turn_NWW: Tensor


def taken(theta_NW: Tensor, gram_NWW: Tensor, floor_N: Tensor, rounding: float) -> Step:
    small = theta_NW.numpy(), gram_NWW.numpy(), floor_N.numpy()
    return Step(*map(torch.from_numpy, power_step(*small, rounding=rounding, device=CPU)))


def step_of(theta: Tensor, residuals: Tensor, floor: float = 0.0) -> Step:
    gram, floors = (residuals @ residuals.mT).unsqueeze(0), torch.full((1,), floor, dtype=torch.float64)
    return taken(theta.unsqueeze(0), gram, floors, 0.0)


def vectors_of(step: Step, vectors: Tensor, residuals: Tensor) -> Tensor:
    return step.turn_NWW[0] @ (vectors + step.shares_NW[0].unsqueeze(1) * residuals)


def projectors(vectors: Tensor) -> Tensor:
    return vectors.unsqueeze(2) * vectors.unsqueeze(1)


def sine(left: Tensor, right: Tensor) -> float:
    return float((1 - (left @ right).square()).clamp_min(0).sqrt())


def test_is_rayleigh_ritz_of_the_inverse_in_the_images() -> None:
    one = matrix(torch.cat([NEAR[:WIDTH], torch.linspace(3, 1, SIZE - WIDTH)]), 1)
    theta, vectors, residuals = ritz_of(one, block_near(one, 0.1))
    step = step_of(theta, residuals)
    helps = int((step.shares_NW > 0).sum())
    assert 1 < helps < WIDTH, "nothing is known to be smaller than the last"
    images = torch.linalg.qr((vectors[:helps] @ one).mT)[0]
    inverse, mixing = torch.linalg.eigh(images.mT @ torch.linalg.inv(one) @ images)
    torch.testing.assert_close(step.values_NW[0, :helps], 1 / inverse, rtol=SMALL_ALGEBRA, atol=0)
    new = vectors_of(step, vectors, residuals)[:helps]
    torch.testing.assert_close(projectors(new), projectors((images @ mixing).mT), rtol=0, atol=SMALL_ALGEBRA)


def test_holds_one_direction_where_the_second_eigenvalue_is_near_the_first() -> None:
    one = matrix(NEAR, 1)
    first = torch.linalg.eigh(one)[1][:, -1]
    theta, vectors, residuals = ritz_of(one, block_near(one, 0.3))
    step = step_of(theta, residuals, floor=-1.0)
    new = vectors_of(step, vectors, residuals)
    span = torch.linalg.qr(new.mT)[0]
    held = float(torch.linalg.vector_norm(first - span @ (span.mT @ first)))
    turned = sine(torch.nn.functional.normalize(new[0], dim=0), first)
    moved = sine(torch.nn.functional.normalize(vectors[0] @ one, dim=0), first)
    assert turned < 2.5 * held and turned < 0.15 * moved, (turned, held, moved)
    assert theta[0] < step.values_NW[0, 0] < NEAR[0]
    assert NEAR[0] - step.values_NW[0, 0] < 0.2 * (NEAR[0] - theta[0])


@pytest.mark.parametrize("off", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_norms_bound_the_residuals(off: float, seed: int) -> None:
    one = matrix(NEAR, seed)
    theta, vectors, residuals = ritz_of(one, block_near(one, off, seed))
    step = step_of(theta, residuals, floor=-1.0)
    new = torch.nn.functional.normalize(vectors_of(step, vectors, residuals), dim=1)
    left = torch.linalg.vector_norm(new @ one - step.values_NW[0].unsqueeze(1) * new, dim=1)
    assert (left <= step.norms_NW[0] * (1 + SMALL_ALGEBRA)).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_is_near_where_the_values_outside_are_near_it(seed: int) -> None:
    outside = torch.full((SIZE - WIDTH,), 13.9, dtype=torch.float64)
    one = matrix(torch.cat([NEAR[:WIDTH], outside]), seed)
    theta, vectors, residuals = ritz_of(one, block_near(one, 0.3, seed))
    step = step_of(theta, residuals)
    new = torch.nn.functional.normalize(vectors_of(step, vectors, residuals), dim=1)
    left = torch.linalg.vector_norm(new @ one - step.values_NW[0].unsqueeze(1) * new, dim=1)
    helps = step.shares_NW[0] > 0
    shares = (left / step.norms_NW[0])[helps]
    assert helps.sum() > 2 and float(shares.max()) <= 1 + SMALL_ALGEBRA and float(shares.max()) > 0.5, shares


def test_a_value_is_at_least_its_ritz_value_whatever_rounding_has_made_of_residuals() -> None:
    theta = torch.tensor([[1.0, 0.05, 0.0]], dtype=torch.float64)
    residuals = torch.diag(torch.tensor([0.0, -5e-3, 0.0], dtype=torch.float64)).unsqueeze(0)
    step = taken(theta, residuals, torch.zeros(1, dtype=torch.float64), 1e-6)
    assert (step.values_NW >= theta).all()
    assert all(one.isfinite().all() for one in step)


def test_no_coefficient_is_what_rounding_leaves_of_nothing() -> None:
    one = matrix(NEAR, 1)
    block = block_near(one, 0.1)
    stacked = torch.cat([block, block @ one]).unsqueeze(0)
    floor = torch.full((1,), -1.0, dtype=torch.float64)
    whole = ritz_in_block(stacked, stacked @ stacked.mT, floor)[2][0]
    moved = whole[:2, :WIDTH]
    assert (moved == 0).all(), "a vector that has moved is a combination of images alone"
    basis = whole @ stacked[0]
    identity = torch.eye(WIDTH, dtype=torch.float64)
    torch.testing.assert_close(basis @ basis.mT, identity, rtol=0, atol=SMALL_ALGEBRA)


def test_dependent_vectors_give_nothing() -> None:
    one = matrix(NEAR, 1)
    block = block_near(one, 0.1)
    block[3] = block[2]
    stacked = torch.cat([block, block @ one]).unsqueeze(0).float()
    gram = stacked.double() @ stacked.double().mT
    values, _, whole = ritz_in_block(stacked, gram, torch.zeros(1, dtype=torch.float64))
    basis = whole[0].double() @ stacked[0].double()
    ones = torch.ones(WIDTH, dtype=torch.float64)
    ones[-1] = 0
    torch.testing.assert_close(basis @ basis.mT, torch.diag(ones), rtol=0, atol=ORTHONORMAL_FLOAT32)
    assert values[0, -1] < 0 < values[0, -2]


def test_small_values_stay_apart_and_what_would_not_help_stays() -> None:
    theta = torch.tensor([10.0, 5.0, 0.09, 0.08, 1e-3, -2.0], dtype=torch.float64)
    assert theta[2] < LEAST_TURNED * theta[0]
    residuals = (
        1e-2
        * torch.randn(WIDTH, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        / SIZE**0.5
    )
    step = step_of(theta, residuals, floor=-0.085)
    identity = torch.eye(WIDTH, dtype=torch.float64)
    assert torch.equal(step.turn_NWW[0, 2:], identity[2:]) and torch.equal(
        step.turn_NWW[0, :2, 2:], identity[:2, 2:]
    )
    assert step.shares_NW[0].tolist() == [*(1 / theta[:3]).tolist(), 0, 0, 0]
    assert torch.equal(step.values_NW[0, 2:], theta[2:])
    left = torch.linalg.vector_norm(residuals[3:], dim=1)
    torch.testing.assert_close(step.norms_NW[0, 3:], left, rtol=SMALL_ALGEBRA, atol=0)


def test_exact_pairs_are_left_as_they_are() -> None:
    step = step_of(NEAR[:WIDTH], torch.zeros(WIDTH, SIZE, dtype=torch.float64))
    torch.testing.assert_close(step.values_NW[0], NEAR[:WIDTH], rtol=SMALL_ALGEBRA, atol=0)
    identity = torch.eye(WIDTH, dtype=torch.float64)
    torch.testing.assert_close(step.turn_NWW[0].abs(), identity, rtol=0, atol=SMALL_ALGEBRA)
    assert float(step.norms_NW.max()) < SMALL_ALGEBRA


def test_a_lane_that_is_not_finite_has_no_values_and_leaves_the_others_alone() -> None:
    one = matrix(NEAR, 1)
    block = block_near(one, 0.1)
    stacked = torch.cat([block, block @ one]).expand(3, -1, -1).clone()
    gram, floors = stacked @ stacked.mT, torch.zeros(3, dtype=torch.float64)
    expected = ritz_in_block(stacked, gram.clone(), floors)
    gram[1, 2, 9] = torch.nan
    found = ritz_in_block(stacked, gram, floors)
    for values, wanted in zip(found, expected, strict=True):
        assert torch.equal(values[[0, 2]], wanted[[0, 2]])
    assert found[0][1].isnan().all() and found[1][1].isnan().all()
