"""Eigenpairs by magnitude, on matrices of known spectra and on a small network's dense Hessian."""

import pytest
import torch
from torch import Tensor

from tests.trainers.probes.probed import HOLDOUT, measured, probe, probed, start
from tests.trainers.small_cells import bulk, sgd
from tests.trainers.test_eigenspace import K, matrix, operator, projector, true_residuals
from tests.trainers.test_eigenspace import start as start_block
from tests.trainers.tolerances import PROBED_FLOAT64
from trainers.canonical import canonical_form, cell_id
from trainers.cell import Solver
from trainers.eigenpairs import Eigenspace, Warm
from trainers.errors import ConfigError
from trainers.first_block import Operator
from trainers.magnitude import refresh_leading
from trainers.randomness import holdout_indices

TOLERANCE = 1e-6
SMALL = torch.linspace(0.9, -0.9, 56)
SPECTRA = {
    "both signs": torch.cat([torch.tensor([-9.0, 7.0, -5.0, 3.0]), SMALL]),
    "pairs of opposite sign": torch.cat([torch.tensor([6.0, -6.0, 4.0, -4.0]), SMALL]),
    "all negative": torch.cat([torch.tensor([-9.0, -7.0, -5.0, -3.0]), -SMALL.abs()]),
}


def found(matrices: Tensor, order: str = "magnitude", warm: Warm | None = None) -> Eigenspace:
    return refresh_leading(
        order,
        Operator(product=operator(matrices)[0]),
        warm,
        lambda: start_block(len(matrices)),
        k=K,
        tolerance=TOLERANCE,
        max_products=20,
        max_cold_products=40,
    )


@pytest.mark.parametrize("name", SPECTRA)
def test_finds_the_largest_magnitudes_with_their_signs(name: str) -> None:
    spectrum = SPECTRA[name].double()
    matrices = torch.stack([matrix(spectrum, seed) for seed in (0, 1)])
    space = found(matrices)
    leading = spectrum[:K].sort(descending=True).values
    for lane, one in enumerate(matrices):
        torch.testing.assert_close(space.values_NW[lane, :K].sort(descending=True).values, leading)
        values, vectors = torch.linalg.eigh(one)
        exact = vectors[:, values.abs().argsort(descending=True)[:K]].T
        torch.testing.assert_close(projector(space.basis_NWP[lane, :K]), projector(exact), atol=1e-5, rtol=0)
        true = true_residuals(one, space, lane)
        torch.testing.assert_close(space.residuals_NW[lane], true, atol=1e-9, rtol=1e-6)
    assert bool(space.converged_N.all())


def test_the_other_order_keeps_to_the_largest() -> None:
    spectrum = SPECTRA["both signs"].double()
    space = found(matrix(spectrum, 0).unsqueeze(0), "algebraic")
    torch.testing.assert_close(space.values_NW[0, :2], torch.tensor([7.0, 3.0], dtype=torch.float64))


def test_a_warm_block_is_used() -> None:
    matrices = matrix(SPECTRA["both signs"], 0).unsqueeze(0)
    cold = found(matrices)
    again = found(matrices, warm=Warm(block_NWP=cold.basis_NWP, floor_N=cold.floor_N))
    assert int(again.products_N[0]) == 3 * cold.basis_NWP.shape[1] < int(cold.products_N[0])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_products_that_are_not_finite_are_not_converged(bad: float) -> None:
    space = found(matrix(SPECTRA["both signs"], 0).unsqueeze(0) * bad)
    assert not bool(space.converged_N[0])


def test_a_probe_by_magnitude_is_the_dense_hessians() -> None:
    options = {**HOLDOUT, "k": 40}
    cell = probed(
        probe("curvature", order="magnitude", **options), probe("alignment", order="magnitude", **options)
    )
    series, _ = measured(cell)
    reference = start(cell)
    values, vectors = torch.linalg.eigh(reference.hessian(holdout_indices(0, 60, 5000)))
    leading = values.abs().argsort(descending=True)[:40]
    for i, expected in enumerate(values[leading]):
        assert series[f"curvature/lambda_{i + 1}"][0] == pytest.approx(float(expected), **PROBED_FLOAT64)
    assert float(values[leading].min()) < 0, "the case must need the option"
    gradient = reference.gradient(None)
    chi = float((vectors[:, leading].T @ gradient).norm() / gradient.norm())
    assert series["alignment/gradient_chi"][0] == pytest.approx(chi, **PROBED_FLOAT64)


def test_a_phase_by_magnitude_removes_those_directions() -> None:
    """k = 40 of this network's Hessian reaches negative eigenvalues, so the two orders train differently."""
    ends = [
        measured(
            probed(
                probe("curvature", k=1, **HOLDOUT),
                phases=(bulk(10, k=40),),
                solver=Solver(tolerance=1e-9, max_cold_products=200, order=order),
            )
        )[1].weights(0)
        for order in ("algebraic", "magnitude")
    ]
    assert not torch.allclose(ends[0], ends[1], rtol=1e-6)


def test_only_the_new_order_changes_an_address() -> None:
    def cell(**fields: object) -> str:
        return cell_id(probed(probe("curvature"), phases=(bulk(10),), **fields))

    assert cell() == cell(solver=Solver(order="algebraic")) != cell(solver=Solver(order="magnitude"))
    spelled = [probed(probe("curvature", order=order)) for order in ("algebraic", "magnitude")]
    assert cell_id(spelled[0]) == cell_id(probed(probe("curvature"))) != cell_id(spelled[1])
    assert "order" not in str(canonical_form(probed(probe("curvature"), phases=(sgd(10),))))


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"solver\.order: found 'size'; allowed: algebraic, magnitude"):
        Solver(order="size")
