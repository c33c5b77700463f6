"""The toys of the papers against their closed forms: SAY25's quadratic and GRD18's Gaussian mixture."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.probes.probed import Series, probe, recorded
from tests.trainers.tolerances import PROBED_FLOAT64
from trainers.cell import Cell, Phase, Probe
from trainers.data import DATASETS
from trainers.options import Choice
from trainers.randomness import epoch_order
from trainers.training import Trainer

ETA = 1e-4
LATE = 2e-2
"""GRD18's solution leaves out terms of order log(t) / t, at 4,000 steps about this."""


def run(cell: Cell) -> tuple[Series, Trainer]:
    trainer = Trainer([cell], data_folder=Path("unused"), dtype=torch.float64)
    trainer.advance(cell.num_steps)
    return recorded(trainer), trainer


def quadratic(optimizer: str, steps: int, **fields: Any) -> Cell:
    return Cell(
        model=Choice("quadratic"),
        dataset=Choice("signs"),
        loss=Choice("output"),
        phases=(Phase(lr=ETA, optimizer=Choice(optimizer), until=steps, **fields),),
        batch_size=1,
        holdout_size=None,
        evaluate_every=50,
        probes=(
            probe("weights", every=50),
            probe("alignment", every=50, k=1, tolerance=1e-9),
            probe("curvature", every=50, k=2, tolerance=1e-9),
        ),
    )


def test_gradient_descent_on_the_quadratic_is_its_closed_form() -> None:
    series, _ = run(quadratic("gd", 200))
    for step in (0, 50, 100, 150, 200):
        x, y = (1 - 1000 * ETA) ** step, (1 - ETA) ** step
        assert series["weights/1"][step] == pytest.approx(x, rel=1e-12)
        assert series["weights/2"][step] == pytest.approx(y, rel=1e-12)
        chi = 1000 * x / ((1000 * x) ** 2 + y**2) ** 0.5
        assert series["alignment/gradient_chi"][step] == pytest.approx(chi, **PROBED_FLOAT64)
        assert series["curvature/lambda_1"][step] == pytest.approx(1000, rel=1e-9)
        assert series["curvature/lambda_2"][step] == pytest.approx(1, rel=1e-9)
    # SAY25 phenomenon 3: the alignment of GD is gone by step 100, up to 1000 x 0.9^100.
    assert series["alignment/gradient_chi"][100] < 0.05
    assert "test/accuracy" not in series


def test_sgd_on_the_quadratic_is_the_walk_written_out() -> None:
    series, _ = run(quadratic("sgd", 300))
    signs = 1 - 2 * (epoch_order(0, 0, 10_000) % 2)
    x = y = 1.0
    for step in range(300):
        noise = 100 * float(signs[step])
        x, y = x - ETA * (1000 * x + noise * y), y - ETA * (y + noise * x)
    assert series["weights/1"][300] == pytest.approx(x, rel=1e-9)
    assert series["weights/2"][300] == pytest.approx(y, rel=1e-9)
    late = [chi for step, chi in series["alignment/gradient_chi"].items() if step >= 100]
    assert sorted(late)[len(late) // 2] > 0.95, "the noise keeps the gradient in the sharp direction"


def test_dom_gd_on_the_quadratic_moves_in_x_alone() -> None:
    series, _ = run(quadratic("gd", 100, beta_bulk=float("inf"), k=1))
    assert series["weights/2"][100] == pytest.approx(1.0, abs=1e-12)
    assert series["weights/1"][100] == pytest.approx(0.9**100, rel=1e-9)


def mixture(steps: int, *probes: Probe, bias: bool = False, **options: Any) -> Cell:
    given = {"sigma": 0.0, "orthogonal": True, "num_train": 2, "dimension": 30, **options}
    return Cell(
        model=Choice.of("softmax", bias=bias),
        dataset=Choice.of("gaussian-mixture", **given),
        loss=Choice("cross_entropy"),
        phases=(Phase(lr=1.0, optimizer=Choice("gd"), until=steps),),
        batch_size=1,
        holdout_size=None,
        evaluate_every=steps,
        probes=probes,
    )


def means(cell: Cell) -> torch.Tensor:
    entry = DATASETS["gaussian-mixture"]
    return (
        entry.load(Path("unused"), cell.dataset.resolve("dataset", entry.options)).train_inputs[:2].double()
    )


def test_the_mixture_follows_the_appendix() -> None:
    """GRD18 appendix E: two samples, no bias; eq. 15 to 17 with the factors corrected."""
    steps = 4000
    cell = mixture(steps, probe("curvature", every=steps, k=2, tolerance=1e-9))
    start = Trainer([cell], data_folder=Path("unused"), dtype=torch.float64).weights(0).clone().view(2, 30)
    series, trainer = run(cell)
    mu = means(cell)
    difference = (start[0] - start[1]) @ mu.T
    a, b = float(difference[0]), float(-difference[1])
    for _ in range(steps):
        # d/dt of the margins under gradient descent of rate 1, for orthonormal means.
        a += 1 / (1 + torch.e**a)
        b += 1 / (1 + torch.e**b)
    end = trainer.weights(0).view(2, 30)
    margins = (end[0] - end[1]) @ mu.T
    torch.testing.assert_close(margins, torch.tensor([a, -b], dtype=torch.float64), rtol=1e-5, atol=1e-5)
    gradient = trainer._instruments.gradient(trainer.weights(0), torch.arange(2)).view(2, 30)
    late = (mu[1] - mu[0]) / (2 * steps)
    for found, expected in ((gradient[0], late), (gradient[1], -late)):
        assert float((found - expected).norm() / expected.norm()) < LATE
    # All of the gradient is in the two directions that have curvature.
    assert series["curvature/chi"][steps] == pytest.approx(1.0, abs=1e-6)
    moved = (end - start) - ((end - start) @ mu.T) @ mu
    torch.testing.assert_close(moved, torch.zeros_like(moved), rtol=0, atol=1e-6)


def test_with_biases_the_gradient_goes_to_the_smallest_top_eigenvector() -> None:
    """GRD18 section 3: k - 1 large eigenvalues and a smaller one, to which the gradient aligns."""
    steps, classes = 3000, 3
    spread = probe("spread", every=steps, k=classes, tolerance=1e-9)
    cell = mixture(
        steps, spread, bias=True, sigma=0.0, orthogonal=False, num_train=30, dimension=200, classes=classes
    )
    series, _ = run(cell)
    assert series["spread/gradient_sum"][steps] > 0.99
    assert series[f"spread/gradient_{classes}"][steps] > 0.99


def test_sine_regression_is_learned() -> None:
    cell = Cell(
        model=Choice.of("mlp", widths=(30,), activation="tanh"),
        dataset=Choice("sine"),
        phases=(Phase(lr=0.1, until=1500),),
        batch_size=100,
        holdout_size=200,
        evaluate_every=500,
        probes=(probe("overlap", every=500),),
    )
    series, _ = run(cell)
    # Half the variance of the noise is 0.005; the best straight line leaves 0.1.
    assert 0.004 < series["train/loss"][1500] < 0.03
    assert 0 <= series["overlap/train"][1500] <= 1
