"""The projection in one pass over the directions against its definition in float64."""

import pytest
import torch

from tests.trainers.kernels.conftest import DEVICE
from tests.trainers.kernels.test_products import drawn, error
from tests.trainers.tolerances import HALVES
from trainers.kernels import projection


@pytest.mark.parametrize("size, count", [(4500, 10), (1001, 3), (700, 20), (700, 1), (6002, 33)])
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("moved", [False, True])
def test_adds_the_projection(
    size: int, count: int, within: bool, each: bool, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes, entries = 3, size + 77 if within else size
    # As many lanes abreast as there are, two and one, or one by one.
    monkeypatch.setattr(projection, "processors", lambda device: 1 if size == 4500 else 132)
    monkeypatch.setattr(projection, "CACHED_BYTES", {4500: 2**30, 1001: 2 * 12 * 1001}.get(size, 0))
    kept = torch.randperm(entries)[:size].sort().values.to(DEVICE)
    left_out = torch.ones(entries, dtype=torch.bool, device=DEVICE)
    left_out[kept] = False
    places = torch.cat([kept, left_out.nonzero().squeeze(1)]).int() if within else None
    room = drawn(lanes, 2 * count, size)
    basis, vectors, into = room[:, :count], drawn(lanes, entries), drawn(lanes, entries, seed=1)
    scales, rates = drawn(lanes, count if each else 1), drawn(lanes, 1, seed=2)
    counts = torch.tensor([count, max(1, count - 2), 0], dtype=torch.int32, device=DEVICE)
    held = torch.arange(count, device=DEVICE) < counts.unsqueeze(1)
    coefficients = (basis.double() @ vectors[:, kept].double().unsqueeze(2)) * scales.double().unsqueeze(2)
    exact = torch.zeros_like(into, dtype=torch.float64)
    exact[:, kept] = ((coefficients * held.unsqueeze(2)).mT @ basis.double()).squeeze(1)
    if moved:
        exact += rates.double() * vectors.double()
    room[0, count:], room[1, counts[1] :], room[2] = torch.nan, torch.nan, torch.nan
    before = into.clone()
    given = {"rates_N1": rates} if moved else {}
    projection.add_projection(into, basis, vectors, scales, counts_N=counts, places_P=places, **given)
    assert error(into - before, exact) < 10 * HALVES
    if not moved:
        assert torch.equal(into[:, left_out], before[:, left_out])
        assert torch.equal(into[2], before[2])
