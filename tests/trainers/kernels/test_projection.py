"""The projection in two passes against its definition in float64."""

import pytest
import torch

from tests.trainers.kernels.conftest import DEVICE
from tests.trainers.kernels.test_products import drawn, error
from tests.trainers.tolerances import HALVES


@pytest.mark.parametrize("size, count", [(4500, 10), (1001, 3), (700, 20), (700, 1), (6002, 33)])
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("each", [False, True])
def test_adds_the_projection(size: int, count: int, within: bool, each: bool) -> None:
    from trainers.kernels.projection import add_projection

    entries = size + 77 if within else size
    places = torch.randperm(entries)[:size].sort().values.to(DEVICE) if within else None
    basis, vectors, into = drawn(3, count, size), drawn(3, entries), drawn(3, entries, seed=1)
    scales = drawn(3, count if each else 1)
    inside = vectors if places is None else vectors[:, places]
    coefficients = (basis.double() @ inside.double().unsqueeze(2)) * scales.double().unsqueeze(2)
    exact = torch.zeros_like(into, dtype=torch.float64)
    exact[:, slice(None) if places is None else places] = (coefficients.mT @ basis.double()).squeeze(1)
    before = into.clone()
    add_projection(into, basis, vectors, scales, places)
    assert error(into - before, exact) < 10 * HALVES
    if places is not None:
        left_out = torch.ones(entries, dtype=torch.bool, device=DEVICE)
        left_out[places] = False
        assert torch.equal(into[:, left_out], before[:, left_out])
