"""The search space of a block Krylov method: what float32 leaves of it."""

import numpy as np
import torch
from torch import Tensor

from trainers.eigenspace import random_rows, solve
from trainers.ritz import inner
from trainers.span import Span, symmetric

K, WIDTH = 10, 12
RANK = 60
ROUNDED = 1e-6
"""Relative, of float64 sums of what has been rounded to float32."""


def solved(size: int) -> int:
    """Solve for an operator of rank 60 from a cold start, and return its products, in blocks."""
    draw = torch.Generator().manual_seed(0)
    vectors = torch.linalg.qr(torch.randn(size, RANK, generator=draw))[0]
    values = 0.8 ** torch.arange(RANK)

    def product(block_NWP: Tensor) -> Tensor:
        return block_NWP @ vectors * values @ vectors.mT

    start = random_rows(WIDTH, size, draw).unsqueeze(0)
    space = solve(product, start, k=K, tolerance=1e-3, max_products=40)
    assert space.converged_N.all()
    torch.testing.assert_close(space.values_NW[0, :K].float(), values[:K], rtol=1e-5, atol=0)
    gram = space.basis_NWP[0] @ space.basis_NWP[0].mT
    torch.testing.assert_close(gram, torch.eye(WIDTH), rtol=0, atol=1e-5)
    return int(space.products_N[0]) // WIDTH


def test_a_cold_start_takes_as_many_products_with_many_parameters() -> None:
    """Beside rows of length 450, the next blocks' of length 1 were taken for what rounding leaves."""
    few, many = solved(2_000), solved(200_000)
    print(f"{few} products of blocks with 2,000 parameters, {many} with 200,000")
    assert many <= few


def test_residuals_are_not_smaller_than_inner_products_can_tell() -> None:
    """Rows that mix a large eigenvalue's direction with small ones' leave more of rounding."""
    size, draw = 4_000, torch.Generator().manual_seed(1)
    values = torch.cat([torch.tensor([1e3]), torch.linspace(3, 1, WIDTH - 1), torch.zeros(size - WIDTH)])
    mixing = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=draw))[0]
    leading = torch.eye(WIDTH, size) + 1e-4 * torch.randn(WIDTH, size, generator=draw) / size**0.5
    block = torch.linalg.qr((mixing @ leading).mT)[0].mT
    rows = torch.cat([block, block * values]).unsqueeze(0)
    span = Span(symmetric(inner(rows, rows)), K, torch.float32, rows.device)
    residuals = span.residuals_NWR[0] @ rows[0].double()
    found, exact = torch.from_numpy(span.outside_NWW[0]).diagonal(), residuals.square().sum(1)
    assert (found >= exact * (1 - ROUNDED)).all(), (found, exact)
    torch.testing.assert_close(
        torch.from_numpy(span.values_NM[0, :K].copy()).float(), values[:K], rtol=1e-2, atol=1e-2
    )


def test_what_inner_products_say_of_a_lane_has_the_same_bits_beside_others() -> None:
    """Where residuals are nothing, what is left is the allowance for rounding."""
    draw = torch.Generator().manual_seed(2)
    count = 2 * WIDTH
    block = torch.linalg.qr(torch.randn(8, count, count, generator=draw, dtype=torch.float64))[0]
    rows = torch.cat([block, block * torch.linspace(3, 1, count)], 1)
    gram = symmetric(rows @ rows.mT)
    together = Span(gram, K, torch.float32, rows.device).outside_NWW
    for lane in range(len(rows)):
        alone = Span(gram[lane : lane + 1], K, torch.float32, rows.device).outside_NWW
        assert np.array_equal(alone[0], together[lane]), lane
