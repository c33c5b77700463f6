"""Alignments, overlaps, effective rates and edges against dense Hessians and closed forms."""

import math

import pytest
import torch
from torch import Tensor

from tests.trainers.probes.probed import HOLDOUT, measured, probe, probed, start
from tests.trainers.small_cells import sgd
from tests.trainers.tolerances import PROBED_FLOAT64
from trainers.cell import Condition, Phase, Solver
from trainers.options import Choice
from trainers.probes.alignment import sam_edge
from trainers.randomness import holdout_indices

INF = math.inf
SOLVER = Solver(tolerance=1e-9, max_products=60, max_cold_products=200)
EVERYTHING = torch.arange(5000)


def close(found: float, expected: float | Tensor) -> None:
    assert found == pytest.approx(float(expected), **PROBED_FLOAT64)


@pytest.mark.parametrize("of", ["gradient", "batch_gradient", "update"])
def test_alignment_and_spread_are_those_of_the_dense_hessian(of: str) -> None:
    phases = (Phase(lr=0.05, alpha_dom=2, k=3, until=10),)
    cell = probed(
        probe("alignment", k=4, of=of, **HOLDOUT),
        probe("spread", k=4, of=of, **HOLDOUT),
        phases=phases,
        holdout_size=60,
        solver=SOLVER,
    )
    series, _ = measured(cell)
    reference = start(cell)
    basis = torch.linalg.eigh(reference.hessian(holdout_indices(0, 60, 5000)))[1].flip(1)
    vector = reference.gradient(None if of == "gradient" else 0)
    if of == "update":
        vector = vector - 0.5 * basis[:, :3] @ (basis[:, :3].T @ vector)
    shares = (basis[:, :4].T @ vector).square() / vector.square().sum()
    close(series[f"alignment/{of}_f_top"][0], shares.sum())
    close(series[f"alignment/{of}_chi"][0], shares.sum().sqrt())
    close(series[f"spread/{of}_sum"][0], shares.sum())
    for index, share in enumerate(shares):
        close(series[f"spread/{of}_{index + 1}"][0], share)
    chi = series[f"alignment/{of}_chi"]
    average = 0.0
    for step, value in series[f"alignment/{of}_chi_ema"].items():
        average = 0.9 * average + 0.1 * chi[step]
        close(value, average)
    assert (10 in chi) == (of == "gradient"), "no step follows the last one"


def test_overlap_is_that_of_the_dense_hessian() -> None:
    cell = probed(probe("overlap"), probe("overlap", split="test", k=3, **HOLDOUT))
    series, _ = measured(cell)
    reference = start(cell)
    for split, indices in (("train", EVERYTHING), ("test", torch.arange(60))):
        # The made test set is the beginning of the training set.
        gradient = torch.func.grad(reference.loss)(reference.params, indices)
        product = reference.hessian(indices) @ gradient
        close(series[f"overlap/{split}"][0], gradient @ product / gradient.norm() / product.norm())


def test_a_random_vector_of_the_top_space_overlaps_as_its_eigenvalues_say() -> None:
    """With two eigenvalues a and b: the mean of (a c^2 + b s^2) / sqrt(a^2 c^2 + b^2 s^2) over the angle."""
    cell = probed(probe("overlap", k=2, **HOLDOUT))
    series, _ = measured(cell)
    values = torch.linalg.eigvalsh(start(cell).hessian(holdout_indices(0, 60, 5000)))[-2:]
    angle = torch.linspace(0, math.pi, 10_000, dtype=torch.float64)
    squares = torch.stack([angle.sin() ** 2, angle.cos() ** 2])
    expected = ((values @ squares) / (values**2 @ squares).sqrt()).mean()
    assert series["overlap/top_vector"][0] == pytest.approx(float(expected), abs=1e-2)
    assert series["overlap/top_vector"][0] < 1 - 1e-4


@pytest.mark.parametrize(
    ("alpha_dom", "beta_bulk", "expected"),
    [(1.0, 1.0, (0.05, 0.05)), (INF, 1.0, (0.0, 0.05)), (1.0, INF, (0.05, 0.0)), (2.0, 0.5, (0.025, 0.1))],
)
def test_effective_rates_of_gradient_descent_are_its_rates(
    alpha_dom: float, beta_bulk: float, expected: tuple[float, float]
) -> None:
    """SAY25 after definition 4. Where a phase projects, its holdout and tolerance must be the probe's."""
    phases = (
        Phase(lr=0.05, optimizer=Choice("gd"), alpha_dom=alpha_dom, beta_bulk=beta_bulk, k=3, until=10),
    )
    cell = probed(
        probe("effective_rates", k=3, **HOLDOUT),
        phases=phases,
        refresh_every=5,
        solver=SOLVER,
        holdout_size=60,
    )
    series, _ = measured(cell)
    for name, rate in zip(("dom", "bulk"), expected, strict=True):
        found = series[f"effective/{name}_rate"]
        assert sorted(found) == [0, 5]
        tolerance = 1e-12 if alpha_dom == beta_bulk else 1e-7
        assert found[0] == pytest.approx(rate, abs=tolerance)
        assert found[5] == pytest.approx(rate, abs=tolerance)


def test_effective_rates_with_momentum_are_those_of_the_velocity() -> None:
    phases = (Phase(lr=0.05, optimizer=Choice.of("momentum", full_batch=True), until=10),)
    cell = probed(probe("effective_rates", k=3, every=1, **HOLDOUT), phases=phases)
    series, _ = measured(cell)
    reference = start(cell)
    speed = torch.zeros_like(reference.params)
    for step in range(10):
        gradient = reference.gradient(None)
        speed = 0.9 * speed + gradient
        projector = reference.projector(3)
        top = projector @ gradient
        rest = gradient - top
        for name, part in (("dom", top), ("bulk", rest)):
            expected = 0.05 * float(speed @ part / part.square().sum())
            assert series[f"effective/{name}_rate"][step] == pytest.approx(expected, rel=1e-4)
        reference.params = reference.params - 0.05 * speed


def test_edges() -> None:
    rho = 0.1
    phases = (sgd(5, lr=0.05), Phase(lr=0.02, optimizer=Choice.of("sam", rho=rho), until=15))
    series, _ = measured(probed(probe("edges"), phases=phases))
    assert series["edge/gd"] == {0: 40.0, 5: 100.0, 10: 100.0, 15: 100.0}
    assert sorted(series["edge/sam"]) == [5, 10, 15]
    for step, edge in series["edge/sam"].items():
        norm = series["train/grad_norm"][step]
        stated = norm / (2 * rho) * (math.sqrt(1 + 8 * rho / (0.02 * norm)) - 1)
        close(edge, stated)


def test_the_edge_at_the_end_is_that_of_the_last_step() -> None:
    """The last phase has none where the one before goes on to the end, for want of its condition."""
    never = Condition(chi_above=0.999999, at_most=15, k=4, holdout_size=60)
    phases = (Phase(lr=0.05, until=never), sgd(15, lr=0.02))
    series, _ = measured(probed(probe("edges"), phases=phases))
    assert series["edge/gd"] == {step: 40.0 for step in (0, 5, 10, 15)}


def test_the_sam_edge_has_the_limit_of_gradient_descent() -> None:
    assert sam_edge(0.3, 0.0, 0.01) == 200
    assert sam_edge(0.3, 1e-12, 0.01) == pytest.approx(200, rel=1e-6)
    assert sam_edge(0.3, 0.1, 0.01) < sam_edge(0.6, 0.1, 0.01) < 200, "it increases with the gradient's norm"
    assert sam_edge(0.0, 0.1, 0.01) == 0
