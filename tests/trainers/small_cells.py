"""Small cells on made data, registered under the real names so that canonical forms stay valid."""

import math

import torch

from trainers.cell import Cell, Phase, Probe
from trainers.data import Dataset
from trainers.options import Choice

SIDE = 6
"""Pixels along an edge: small enough for dense Hessians."""


def made_data(dtype: torch.dtype = torch.float32) -> Dataset:
    """5,000 small images of ten noisy prototypes: as many as `mnist-5k` declares, quick to train on."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (5000,), generator=draw)
    centres = torch.randn(10, SIDE * SIDE, generator=draw)
    inputs = (centres[labels] + torch.randn(5000, SIDE * SIDE, generator=draw)).view(-1, 1, SIDE, SIDE) / 2
    return Dataset(
        train_inputs=inputs.to(dtype),
        train_labels=labels,
        test_inputs=inputs[:300].to(dtype),
        test_labels=labels[:300],
        num_outputs=10,
    )


def small_cell(*phases: Phase, **fields: object) -> Cell:
    """A cell with a tiny network."""
    given: dict[str, object] = {
        "model": Choice.of("mlp", widths=(8,)),
        "dataset": Choice("mnist-5k"),
        "holdout_size": 60,
        "refresh_every": 5,
        "evaluate_every": 10,
        "divergence_every": 10,
    }
    return Cell(phases=phases, **(given | fields))  # type: ignore[arg-type]


def sgd(until: int, lr: float = 0.05) -> Phase:
    """Plain SGD."""
    return Phase(lr=lr, until=until)


def bulk(until: int, lr: float = 0.05, k: int = 4) -> Phase:
    """Bulk-SGD."""
    return Phase(lr=lr, alpha_dom=math.inf, k=k, until=until)


def dom(until: int, lr: float = 0.05, k: int = 4) -> Phase:
    """Dom-SGD."""
    return Phase(lr=lr, beta_bulk=math.inf, k=k, until=until)


DIVERGING = {0: 0.05, 1: 1e9, 2: 0.02, 3: 1e4}
"""Rates of Bulk-SGD by seed, of which two lead astray before the second refresh."""

CURVATURE = (Probe(name="curvature", every=7, options=(("holdout_size", 60), ("k", 3))),)
