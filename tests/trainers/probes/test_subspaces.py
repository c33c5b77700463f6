"""Subspaces, displacements and participation ratios against dense Hessians and vectors of known value."""

import math

import pytest
import torch

from tests.trainers.probes.probed import HOLDOUT, measured, probe, probed, start
from tests.trainers.small_cells import sgd
from tests.trainers.tolerances import PROBED_FLOAT64, STANDARD_ERRORS
from trainers.probes.subspaces import (
    displacement,
    measure_eigenvectors,
    participation_ratio,
    random_displacement,
)
from trainers.randomness import holdout_indices

SUBSET = holdout_indices(0, 60, 5000)


def eigenvectors(until: int) -> torch.Tensor:
    """Rows by descending eigenvalue, after so many steps of plain SGD by hand."""
    reference = start(probed(phases=(sgd(max(until, 1)),)))
    for step in range(until):
        reference.params = reference.params - 0.05 * reference.gradient(step)
    return torch.linalg.eigh(reference.hessian(SUBSET))[1].flip(1).T


def test_subspace_overlap_is_that_of_the_dense_projectors() -> None:
    cell = probed(probe("subspace_overlap", k=6, sizes=[2, 3, 4], since=[0, 3], **HOLDOUT))
    series, _ = measured(cell)
    at = {step: eigenvectors(step) for step in (0, 5, 10)}

    def shared(part: slice, left: int, right: int) -> float:
        projectors = [at[step][part].T @ at[step][part] for step in (left, right)]
        return float(torch.trace(projectors[0] @ projectors[1])) / (part.stop - part.start)

    for size in (2, 3, 4):
        for now in (0, 5, 10):
            found = series[f"subspace/top_{size}_since_0"][now]
            assert found == pytest.approx(shared(slice(0, size), 0, now), **PROBED_FLOAT64)
    found = series["subspace/next_3_since_0"][10]
    assert found == pytest.approx(shared(slice(3, 6), 0, 10), **PROBED_FLOAT64)
    assert "subspace/next_4_since_0" not in series, "k = 6 has no next 4"
    # Step 3 is no measurement; the reference is that of the first one after it.
    assert sorted(series["subspace/top_2_since_3"]) == [5, 10]
    assert series["subspace/top_2_since_3"][5] == pytest.approx(1.0, **PROBED_FLOAT64)
    assert series["subspace/top_2_since_3"][10] == pytest.approx(shared(slice(0, 2), 5, 10), **PROBED_FLOAT64)


def test_eigenvectors_are_those_of_the_dense_hessian() -> None:
    cell = probed(probe("eigenvectors", k=3, since=[0], **HOLDOUT), probe("layers", k=3, **HOLDOUT))
    series, trainer = measured(cell)
    before, after = eigenvectors(0), eigenvectors(10)
    sizes = [size for _, size in trainer._instruments.parameters]
    names = [name for name, _ in trainer._instruments.parameters]
    assert names == ["1.weight", "1.bias", "3.weight", "3.bias"]
    for i in range(3):
        ipr = float(after[i].pow(4).sum())
        assert series[f"eigenvector/ipr_{i + 1}"][10] == pytest.approx(ipr, **PROBED_FLOAT64)
        moved = min(float((after[i] - sign * before[i]).square().sum()) for sign in (-1, 1))
        found = series[f"eigenvector/displacement_{i + 1}_since_0"]
        assert found[10] == pytest.approx(moved, **PROBED_FLOAT64)
        assert found[0] == pytest.approx(0.0, abs=1e-9)
        for name, part in zip(names, after[i].split(sizes), strict=True):
            share = float(part.square().sum())
            assert series[f"layers/{i + 1}_{name}"][10] == pytest.approx(share, **PROBED_FLOAT64)


def test_participation_ratios_of_known_vectors() -> None:
    size = 50
    one = torch.zeros(size)
    one[7] = -3.0
    some = torch.zeros(size)
    some[:5] = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])
    found = participation_ratio(torch.stack([one, torch.full((size,), 0.2), some]))
    torch.testing.assert_close(found, torch.tensor([1.0, 1 / size, 1 / 5], dtype=torch.float64))


def test_displacements_of_known_vectors() -> None:
    angle = 0.3
    left = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    turned = [math.cos(angle), math.sin(angle)]
    right = torch.tensor([turned, [-turned[0], -turned[1]], [1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([2 - 2 * math.cos(angle)] * 2 + [2.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(displacement(left, right), expected)


def test_random_references_are_the_means_of_random_vectors() -> None:
    size, draws = 20, 20_000
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, draws, size, generator=generator, dtype=torch.float64)
    left, right = left / left.norm(dim=1, keepdim=True), right / right.norm(dim=1, keepdim=True)
    for samples, expected in (
        (displacement(left, right), random_displacement(size)),
        (participation_ratio(left), 3 / (size + 2)),
    ):
        error = float(samples.std()) / draws**0.5
        assert abs(float(samples.mean()) - expected) < STANDARD_ERRORS * error
        assert error < 0.01 * expected


def test_the_null_model_permutes_within_parameters() -> None:
    """A network whose weights are the same number within each parameter is its own null model."""
    cell = probed(probe("eigenvectors", k=3, null=True, **HOLDOUT))
    series, trainer = measured(cell)
    assert 0 < series["eigenvector/ipr_null_1"][0] < 1
    assert series["eigenvector/displacement_null_1"][0] > 0.1, "two draws, two Hessians"
    parts = trainer.weights(0).split([size for _, size in trainer._instruments.parameters])
    for part in parts:
        part.fill_(float(part[0]))
    trainer.lanes[0].outcome = None
    view = trainer._view(trainer.lanes[0], trainer.weights(0), torch.zeros(trainer.num_params))
    values = measure_eigenvectors(view, trainer.lanes[0].probes[0])
    assert values["eigenvector/ipr_null_1"] == pytest.approx(values["eigenvector/ipr_1"], rel=1e-6)
    assert values["eigenvector/displacement_null_1"] == pytest.approx(0.0, abs=1e-6)
