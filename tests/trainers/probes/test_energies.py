"""Energies and spectral densities against dense Hessians."""

import dataclasses

import pytest
import torch

from tests.trainers.probes.probed import HOLDOUT, measured, probe, probed, start
from tests.trainers.small_cells import sgd
from tests.trainers.tolerances import PROBED_FLOAT64, STANDARD_ERRORS
from trainers.probes.spectrum import quadrature
from trainers.randomness import holdout_indices

SUBSET = holdout_indices(0, 60, 5000)
TERMS = ("h", "h_o", "h_f")


def dense_terms() -> dict[str, torch.Tensor]:
    reference = start(probed())
    hessian, outer = reference.hessian(SUBSET), reference.gauss_newton(SUBSET)
    return {"h": hessian, "h_o": outer, "h_f": hessian - outer}


def test_exact_energies_are_those_of_the_dense_hessian() -> None:
    series, _ = measured(probed(probe("energies", k=4, **HOLDOUT)))
    dense = dense_terms()
    values, vectors = torch.linalg.eigh(dense["h"])
    top = vectors[:, -4:]
    for name in TERMS:
        total = float(dense[name].square().sum())
        dominant = float((dense[name] @ top).square().sum())
        assert series[f"energy/{name}"][0] == pytest.approx(total, **PROBED_FLOAT64)
        assert series[f"energy/dom_{name}"][0] == pytest.approx(dominant, **PROBED_FLOAT64)
        assert f"energy/{name}_error" not in series
    expected = float(values[-4:].square().sum())
    assert series["energy/dom_eigenvalues"][0] == pytest.approx(expected, **PROBED_FLOAT64)
    assert series["energy/dom_h"][0] == pytest.approx(expected, **PROBED_FLOAT64)
    assert series["energy/h_f"][0] > 0.01 * series["energy/h"][0], "all three terms are at stake"


def test_hutchinson_is_right_to_within_its_error_bar() -> None:
    few = probe("energies", k=4, estimator="hutchinson", samples=16, **HOLDOUT)
    many = probe("energies", k=4, estimator="hutchinson", samples=1024, **HOLDOUT)
    dense = dense_terms()
    errors = {}
    for samples, each in ((16, few), (1024, many)):
        series, _ = measured(probed(each, phases=(sgd(1),)))
        for name in TERMS:
            truth, error = float(dense[name].square().sum()), series[f"energy/{name}_error"][0]
            assert abs(series[f"energy/{name}"][0] - truth) < STANDARD_ERRORS * error
            errors[samples, name] = error
    for name in TERMS:
        assert errors[1024, name] < 0.25 * errors[16, name], "the error falls as one over the square root"
        assert errors[1024, name] < 0.05 * float(dense[name].square().sum())


def test_quadrature_of_the_whole_krylov_space_is_the_spectral_measure() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T
    begin = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    nodes, weights = quadrature(lambda block: block @ matrix, begin, 12)
    values, vectors = torch.linalg.eigh(matrix)
    unit = begin / begin.norm(dim=1, keepdim=True)
    for row in range(3):
        torch.testing.assert_close(nodes[row], values)
        torch.testing.assert_close(weights[row], (unit[row] @ vectors).square())


def test_quadrature_has_the_moments_of_the_hessian() -> None:
    """M nodes give the moments z^T H^j z up to j = 2 M - 1 exactly."""
    dense = dense_terms()["h_o"]
    begin = torch.randn(2, len(dense), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    nodes, weights = quadrature(lambda block: block @ dense, begin, 5)
    unit = begin / begin.norm(dim=1, keepdim=True)
    image = unit.clone()
    for moment in range(10):
        expected = (unit * image).sum(1)
        torch.testing.assert_close((weights * nodes**moment).sum(1), expected, rtol=1e-9, atol=1e-12)
        image = image @ dense
    wrong = (weights * nodes**10).sum(1) - (unit * image).sum(1)
    assert float(wrong.abs().max()) > 1e-9


def test_a_matrix_that_is_not_finite_gives_no_nodes_and_leaves_other_vectors_alone() -> None:
    matrix = torch.diag(torch.tensor([3.0, 1.0, 2.0, 5.0], dtype=torch.float64))
    begin = torch.ones(2, 4, dtype=torch.float64)

    products: list[torch.Tensor] = []

    def product(block: torch.Tensor) -> torch.Tensor:
        products.append(block @ matrix)
        if len(products) > 1:
            products[-1][0] = torch.nan
        return products[-1]

    nodes, weights = quadrature(product, begin, 3)
    assert bool(nodes[0].isnan().all()) and bool(weights[0].isnan().all())
    sound = quadrature(lambda block: block @ matrix, begin, 3)
    assert torch.equal(nodes[1], sound[0][1]) and torch.equal(weights[1], sound[1][1])


def test_an_exhausted_krylov_space_leaves_no_mass_astray() -> None:
    matrix = torch.diag(torch.tensor([3.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    nodes, weights = quadrature(lambda block: block @ matrix, torch.ones(1, 4, dtype=torch.float64), 4)
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    for value, mass in ((3.0, 0.25), (1.0, 0.75)):
        near = (nodes - value).abs() < 1e-9
        assert float(weights[near].sum()) == pytest.approx(mass)


@pytest.mark.parametrize(("part", "term"), [("hessian", "h"), ("gauss_newton", "h_o"), ("functional", "h_f")])
def test_the_probe_records_the_density_of_its_part(part: str, term: str) -> None:
    each = probe("spectrum", holdout_size=60, lanczos_steps=30, vectors=64, part=part)
    series, _ = measured(dataclasses.replace(probed(each), phases=(sgd(1),)))
    values = torch.linalg.eigvalsh(dense_terms()[term])
    traces = torch.tensor(
        [
            sum(
                series[f"spectrum/weight_{vector}_{i}"][0] * series[f"spectrum/node_{vector}_{i}"][0]
                for i in range(1, 31)
            )
            for vector in range(1, 65)
        ]
    )
    error = float(traces.std()) / len(traces) ** 0.5
    assert abs(float(traces.mean() - values.mean())) < STANDARD_ERRORS * error
    nodes = [value[0] for name, value in series.items() if name.startswith("spectrum/node")]
    assert max(nodes) == pytest.approx(float(values[-1]), rel=1e-4)
