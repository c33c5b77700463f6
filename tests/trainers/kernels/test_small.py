"""Rayleigh-Ritz and the power step of a program against the library's, in float64."""

import pytest
import torch
from torch import Tensor

from tests.trainers.kernels.conftest import DEVICE, GPU
from tests.trainers.tolerances import ORTHONORMAL_FLOAT32, SMALL_ALGEBRA
from trainers import first_block
from trainers.eigenpairs import LEAST_SCALE, Wanted, pairs_of
from trainers.kernels.small import first_ritz
from trainers.krylov import RANK_TOLERANCE
from trainers.power_step import LEAST_TURNED

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy interprets, and warns of overflow

GIVEN = {
    "tolerance": 0.05,
    "least_scale": LEAST_SCALE,
    "rank_tolerance": RANK_TOLERANCE[torch.float32],
    "rounding": 1e-6,
    "least_turned": LEAST_TURNED,
}
SIZE = 300
GAP = 0.05


def block_and_images(width: int, values: Tensor, *, warm: float) -> Tensor:
    """A block near the leading eigenvectors of a matrix, and its images, (2 W, SIZE) float64."""
    draw = torch.Generator().manual_seed(width)
    vectors = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=draw, dtype=torch.float64))[0]
    matrix = vectors * values @ vectors.mT
    mixing = torch.linalg.qr(torch.randn(width, width, generator=draw, dtype=torch.float64))[0]
    block = mixing @ vectors[:, :width].mT
    block = block + warm * torch.randn(width, SIZE, generator=draw, dtype=torch.float64) / SIZE**0.5
    return torch.cat([block, block @ matrix]).to(DEVICE)


def spectra() -> dict[str, Tensor]:
    steep = torch.logspace(1, -6, SIZE, dtype=torch.float64)
    return {
        "steep": steep,
        "flat": torch.linspace(1.0, 0.5, SIZE, dtype=torch.float64),
        "multiple": torch.cat([torch.ones(8, dtype=torch.float64), 0.1 * steep[8:]]),
        "of both signs": torch.linspace(2.0, -3.0, SIZE, dtype=torch.float64),
        "null beyond a few": torch.cat([steep[:5], torch.zeros(SIZE - 5, dtype=torch.float64)]),
    }


@pytest.mark.parametrize(
    "width, warm, floor",
    [
        *((1, 1e-6, 0.0), (12, 1e-6, 0.0), (12, 1e-2, -0.3), (12, 0.5, 0.0), (12, 10.0, -0.3)),
        (20, 1e-4, -0.3),
        # Interpreted these take ten seconds each.
        *((width, 10.0, -0.3) for width in ((16, 24, 32) if GPU else ())),
    ],
)
def test_is_what_the_library_finds(width: int, warm: float, floor: float) -> None:
    rows = torch.stack([block_and_images(width, values, warm=warm) for values in spectra().values()])
    gram = rows @ rows.mT
    floors = torch.full((len(rows),), floor, dtype=torch.float64)
    counts = torch.tensor([width, 1, max(1, width - 3), 1, width], dtype=torch.int32)
    found, whole, unfinished = first_ritz(gram, floors.to(DEVICE), counts.to(DEVICE), **GIVEN)
    values, residuals, combinations = first_block.ritz_in_block(
        rows.float().cpu(), gram.cpu().clone(), floors
    )
    theta, norms, converged = found.cpu().split((width, width, 1), 1)
    state = pairs_of(rows, values, residuals, Wanted(counts.tolist(), 5, width), 0.05, width, floors)
    assert torch.equal(converged.squeeze(1) > 0, state.converged_N)
    assert int(unfinished) == int((~state.converged_N).sum())
    scale = values[:, :1]
    assert float(((theta - values) / scale).abs().max()) < SMALL_ALGEBRA
    # Norms are roots of differences: what rounding leaves of those is what a norm may be off by.
    assert float(((norms.square() - residuals.square()) / scale.square()).abs().max()) < SMALL_ALGEBRA
    basis, exact = whole.double() @ rows, combinations.double().to(DEVICE) @ rows
    identity = torch.eye(width, dtype=torch.float64, device=DEVICE)
    apart = [basis @ basis.mT - identity, basis.mT @ basis - exact.mT @ exact]
    assert max(float(one.abs().max()) for one in apart) < ORTHONORMAL_FLOAT32
    # Not only the whole block: the turn inside it is the same, as far as gaps let it be known.
    for lane in range(len(rows)):
        for count in range(1, width):
            above, below = values[lane, count - 1 : count + 1].tolist()
            if below > LEAST_TURNED * values[lane, 0] and above > (1 + GAP) * below:
                ours, theirs = (one[lane, :count].mT @ one[lane, :count] for one in (basis, exact))
                assert float((ours - theirs).abs().max()) < ORTHONORMAL_FLOAT32 / GAP, (lane, count)


def test_dependent_vectors_come_last_and_give_nothing() -> None:
    rows = block_and_images(12, spectra()["steep"], warm=0.0)
    rows[3], rows[15] = rows[2], rows[14]
    gram = (rows @ rows.mT).unsqueeze(0)
    floor, counts = torch.zeros(1, dtype=torch.float64, device=DEVICE), torch.ones(1).int().to(DEVICE)
    found, whole, _ = first_ritz(gram, floor, counts, **GIVEN)
    basis = whole[0].double() @ rows
    inner, ones = basis @ basis.mT, torch.ones(12, dtype=torch.float64, device=DEVICE)
    ones[-1] = 0
    assert float((inner - torch.diag(ones)).abs().max()) < ORTHONORMAL_FLOAT32
    assert float(found[0, 11]) < 0 < float(found[0, 10])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_stays_in_its_lane(value: float) -> None:
    rows = block_and_images(12, spectra()["steep"], warm=1e-3)
    gram = torch.stack([rows @ rows.mT] * 2)
    gram[0, 14, 3] = value
    floor, counts = torch.zeros(2, dtype=torch.float64, device=DEVICE), torch.ones(2).int().to(DEVICE)
    found, whole, unfinished = first_ritz(gram, floor, counts, **GIVEN)
    assert found[0, :-1].isnan().all() and found[0, -1] == 0
    assert int(unfinished) == int(found[1, -1] == 0), "who has no values does not go on"
    assert found[1].isfinite().all() and whole[1].isfinite().all()
