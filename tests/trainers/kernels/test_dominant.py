"""Lanes that are projected together, with the programs, against each lane by itself in float64."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.trainers.kernels.conftest import DEVICE
from tests.trainers.kernels.test_products import drawn, error
from tests.trainers.tolerances import HALVES
from trainers import kernels
from trainers.coordinates import Coordinates, coordinates_of
from trainers.kernels import projection
from trainers.optimizers import dominant
from trainers.optimizers.dominant import Dominant, Subspace

INPUTS, OUTPUTS, REST = 64, 6, 90
SIZE = INPUTS * OUTPUTS + REST
MOST = 4

LAYOUTS: dict[str, list[tuple[int, int] | None]] = {
    "one lane": [(MOST, 12)],
    "alike": [(MOST, 12)] * 3,
    "fewer directions": [(MOST, 12), (2, 12), (1, 12)],
    "blocks of several widths": [(MOST, 12), (MOST, 8), (3, 8)],
    "some do not project": [None, (MOST, 12), None, (2, 8)],
}
"""Directions and block width of each lane."""


def coordinates(kind: str) -> Coordinates | None:
    if kind == "all parameters":
        return None
    inputs = drawn(40 if kind == "some inputs" else 5, INPUTS)
    inputs[:, ::3] = 0
    return coordinates_of(inputs, num_outputs=OUTPUTS, num_params=SIZE)


def subspaces(
    layout: Sequence[tuple[int, int] | None], inside: Coordinates | None, seed: int
) -> list[Subspace | None]:
    """Random directions; the last eigenvalues of a block are negative."""
    size, found = SIZE if inside is None else inside.size, list[Subspace | None]()
    for lane, shape in enumerate(layout):
        if shape is None:
            found.append(None)
            continue
        count, width = shape
        block = torch.linalg.qr(drawn(size, width, seed=100 * seed + lane))[0].mT.contiguous()
        values = torch.linspace(2, -4.5, width, dtype=torch.float64)
        found.append(Subspace(block_WC=block, values_W=values, count=count, coordinates=inside))
    return found


def projection_of(one: Subspace | None, vector: Tensor, *, inverse: bool) -> Tensor:
    """By its definition: sum_i s_i <u_i, v> u_i with s_i = 1, or 1 / lambda_i where that is positive."""
    if one is None:
        return torch.zeros_like(vector, dtype=torch.float64)
    directions = one.basis_KC if one.coordinates is None else one.coordinates.lift(one.basis_KC)
    wide, values = directions.double(), one.values_K.to(vector.device)
    scales = torch.where(values > 0, 1 / values, 0.0) if inverse else torch.ones_like(values)
    return wide.mT @ (scales * (wide @ vector.double()))


@pytest.mark.parametrize("inverts", [False, True])
@pytest.mark.parametrize("kind", ["all parameters", "some inputs", "a rotation"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_together_as_one_by_one(
    layout: str, kind: str, inverts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, lanes = coordinates(kind), len(LAYOUTS[layout])
    before, after = (subspaces(LAYOUTS[layout], inside, seed) for seed in (1, 2))
    vectors, start = drawn(lanes, SIZE), drawn(lanes, SIZE, seed=1)
    # Powers of two: their sums and differences are exact.
    scales, rates = 2.0 ** drawn(lanes, 1).round(), 2.0 ** drawn(lanes, 1, seed=1).round()
    calls: list[Tensor] = []
    program = projection.add_projection

    def counted(into: Tensor, *operands: Tensor, **given: Tensor | None) -> None:
        calls.append(into)
        program(into, *operands, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(projection, "add_projection", counted)
    monkeypatch.setattr(kernels, "serve", lambda tensor: tensor.dtype == torch.float32)
    monkeypatch.setattr(dominant, "ONE_BY_ONE", "none")
    together = Dominant(before, most=MOST, inverts=inverts)
    assert together.in_place
    monkeypatch.setattr(dominant, "ONE_BY_ONE", DEVICE)
    for refreshed in (before, after):
        together.renew(refreshed)
        by_itself = Dominant(refreshed, most=MOST, inverts=inverts)
        assert not by_itself.in_place
        exact = torch.stack(
            [projection_of(*pair, inverse=False) for pair in zip(refreshed, vectors, strict=True)]
        )
        for found in (together, by_itself):
            into = start.clone()
            found.add(into, vectors, rates + scales, rates)
            moved = rates.double() * vectors.double() + scales.double() * exact
            assert error(into - start, moved) < 10 * HALVES
        if inverts:
            exact = torch.stack(
                [projection_of(*pair, inverse=True) for pair in zip(refreshed, vectors, strict=True)]
            )
            for found in (together, by_itself):
                assert error(found.newton(vectors), exact) < 10 * HALVES
    assert len(calls) == (0 if kind == "a rotation" else 2), "rotations are the library's"


def test_directions_are_read_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "serve", lambda tensor: tensor.dtype == torch.float32)
    monkeypatch.setattr(dominant, "ONE_BY_ONE", "none")
    room = torch.linalg.qr(drawn(3, SIZE, 12))[0].mT.contiguous()
    values = torch.linspace(2, -4.5, 12, dtype=torch.float64)

    def of(blocks: Tensor, *counts: int) -> list[Subspace | None]:
        return [
            Subspace(block_WC=block, values_W=values, count=count, coordinates=None)
            for block, count in zip(blocks, counts, strict=True)
        ]

    vectors, zero, one = drawn(3, SIZE), torch.zeros(3, 1, device=DEVICE), torch.ones(3, 1, device=DEVICE)
    shared = Dominant(of(room, 4, 4, 4), most=MOST, shares=True)
    for counts in ((4, 4, 4), (1, 4, 3)):
        assert shared.renew(of(room, *counts)), (
            "what a lane has fewer directions than lies there all the same"
        )
        into = torch.zeros_like(vectors)
        shared.add(into, vectors, one, zero)
        pairs = zip(of(room, *counts), vectors, strict=True)
        assert error(into, torch.stack([projection_of(*pair, inverse=False) for pair in pairs])) < 10 * HALVES
        room.copy_(torch.linalg.qr(drawn(3, SIZE, 12, seed=1))[0].mT)
    assert not shared.renew(of(room.clone(), 4, 4, 4)), "they have moved"
    assert not shared.renew([*of(room[:2], 4, 4), None])
    apart = Dominant([*of(room[:2], 4, 4), None], most=MOST, shares=True)
    assert apart.renew([*of(room[:2].clone(), 4, 4), None]), "these were copied"
    scattered = Dominant(of(torch.stack([*room.flip(0)]).flip(0), 4, 4, 4), most=MOST, shares=True)
    others = [one for block in room for one in of(block.clone().unsqueeze(0), 4)]
    assert scattered.shares and Dominant(others, most=MOST).renew(of(room, 4, 4, 4)), "nobody asked for it"
    copied = Dominant(others, most=MOST, shares=True)
    assert not copied.shares and copied.renew(others)
    assert not copied.renew(of(room, 4, 4, 4)), "these need no copy from now on"
