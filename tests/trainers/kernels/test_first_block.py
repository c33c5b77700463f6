"""A refresh with the programs against the library's, where lanes end with their first block and where not."""

import pytest
import torch
from torch import Tensor

from tests.trainers.kernels.conftest import DEVICE
from tests.trainers.tolerances import ORTHONORMAL_FLOAT32
from trainers import kernels
from trainers.eigenpairs import Eigenspace, Warm
from trainers.eigenspace import solve
from trainers.first_block import WarmBlock
from trainers.objective import CurvatureProduct

SIZE, WIDTH, K, TOLERANCE = 90, 12, 6, 0.05
LANES = 3

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy interprets, and warns of overflow


def problem(warmth: list[float]) -> tuple[Tensor, Tensor]:
    """Matrices (N, SIZE, SIZE) and blocks (N, WIDTH, SIZE), orthonormal and near their eigenvectors."""
    draw = torch.Generator().manual_seed(0)
    vectors = torch.linalg.qr(torch.randn(LANES, SIZE, SIZE, generator=draw))[0]
    values = torch.logspace(1, -2, SIZE)
    noise = torch.randn(LANES, WIDTH, SIZE, generator=draw) / SIZE**0.5
    blocks = vectors[:, :, :WIDTH].mT + torch.tensor(warmth).view(LANES, 1, 1) * noise
    return (vectors * values @ vectors.mT).to(DEVICE), torch.linalg.qr(blocks.mT)[0].mT.contiguous().to(
        DEVICE
    )


def refreshed(matrices: Tensor, blocks: Tensor, times: int) -> Eigenspace:
    """Refresh so many times, as a group of the tracker does."""

    def linearise(params_NP: Tensor) -> CurvatureProduct:
        own = matrices[: len(params_NP)] if len(params_NP) == LANES else matrices[params_NP[:, 0].long() - 1]

        def product(directions: Tensor, /, into_NRP: Tensor | None = None) -> Tensor:
            result = directions @ own
            return result if into_NRP is None else into_NRP.copy_(result)

        return product

    params = torch.arange(1.0, LANES + 1).unsqueeze(1).to(DEVICE)
    block = WarmBlock(k=[K] * LANES, tolerance=TOLERANCE, replayable=True)
    warm = Warm(block_NWP=blocks.clone(), floor_N=torch.zeros(LANES, dtype=torch.float64))
    space: Eigenspace | None = None
    for _ in range(times):
        operator = block.begin(linearise, params, warm)
        space = solve(
            operator, warm.block_NWP, k=K, tolerance=TOLERANCE, max_products=6, floor_N=warm.floor_N
        )
        warm = Warm(block_NWP=block.keep(space.basis_NWP), floor_N=space.floor_N)
    assert space is not None
    return space


@pytest.mark.parametrize("warmth", [[1e-3] * LANES, [1e-3, 0.5, 1e-3], [0.5] * LANES])
@pytest.mark.parametrize("times", [1, 2])
def test_a_refresh_is_the_librarys(warmth: list[float], times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrices, blocks = problem(warmth)
    monkeypatch.setattr(kernels, "serve", lambda tensor: False)
    expected = refreshed(matrices, blocks, times)
    monkeypatch.setattr(kernels, "serve", lambda tensor: tensor.dtype == torch.float32)
    found = refreshed(matrices, blocks, times)
    first = WIDTH * torch.tensor([1 if near < 0.1 or times > 1 else 2 for near in warmth])
    assert (found.products_N >= first).all() and torch.equal(found.products_N, expected.products_N)
    assert torch.equal(found.converged_N, expected.converged_N) and found.converged_N.all()
    torch.testing.assert_close(found.values_NW[:, :K], expected.values_NW[:, :K], rtol=1e-4, atol=0)
    for one, other in zip(found.basis_NWP[:, :K], expected.basis_NWP[:, :K], strict=True):
        assert float((one.mT @ one - other.mT @ other).norm()) < 0.01
        inner = one @ one.mT - torch.eye(K, device=DEVICE)
        assert float(inner.abs().max()) < ORTHONORMAL_FLOAT32
