r"""How the leading eigenvectors move, and where in the network they are.

Legend: u_i leading eigenvectors of the holdout's Hessian, p parameters, t_w the step of a reference.
"""

import math
from typing import Any

import torch
from torch import Tensor

from trainers.lane import ScheduledProbe
from trainers.probes.view import View, order_of

REFERENCES = "since/"


def _references(view: View, probe: ScheduledProbe, basis_KP: Tensor) -> dict[int, Tensor]:
    """Return the basis at each step of `since` so far: of the first measurement not before it."""
    name = f"{probe.key}{REFERENCES}"
    kept = view.lane.remembered(name)
    fresh = {str(step): basis_KP for step in probe.options["since"] if step <= view.step}
    view.remember(name, fresh | kept)
    return {int(step): basis for step, basis in (fresh | kept).items()}


def measure_subspace_overlap(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return (1/s) ||V V'^T||_F^2 (GRD18 eq. 5) of the top s eigenvectors and, where k allows, the next s."""
    basis, k = view.basis(probe.options), probe.options["k"]
    values: dict[str, float] = {}
    for since, before in _references(view, probe, basis).items():
        for size in probe.options["sizes"]:
            for name, part in (("top", slice(0, size)), ("next", slice(size, 2 * size))):
                if part.stop <= k:
                    shared = (before[part] @ basis[part].mT).double().square().sum() / size
                    values[f"subspace/{name}_{size}_since_{since}"] = float(shared)
    return values


def participation_ratio(vectors_KP: Tensor) -> Tensor:
    """Return sum_j u_j^4 of each vector made a unit vector: 1/p if spread evenly, 1 if on one parameter."""
    unit = vectors_KP.double() / torch.linalg.vector_norm(vectors_KP.double(), dim=1, keepdim=True)
    return unit.pow(4).sum(1)


def displacement(left_KP: Tensor, right_KP: Tensor) -> Tensor:
    """Return ||u_i - s_i v_i||^2 of unit vectors with the sign s_i that makes it least: 2 - 2 |u_i . v_i|."""
    return (2 - 2 * (left_KP.double() * right_KP.double()).sum(1).abs()).clamp_min(0.0)


def random_displacement(num_params: int) -> float:
    """Return the expected displacement between two independent uniform unit vectors of R^p.

    E |u . v| = Gamma(p/2) / (sqrt(pi) Gamma((p+1)/2)), near sqrt(2 / (pi p)).
    """
    ratio = math.exp(math.lgamma(num_params / 2) - math.lgamma((num_params + 1) / 2))
    return 2 - 2 * ratio / math.sqrt(math.pi)


def measure_eigenvectors(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return inverse participation ratios and displacements (MMB26), beside their random references.

    `ipr_random` and `displacement_random` are those of random vectors, 3/(p+2) for the former. With `null`,
    also those of a random Hessian of this architecture, see `_null`.
    """
    basis = view.basis(probe.options)
    num_params = basis.shape[1]
    values = {f"eigenvector/ipr_{i + 1}": float(ipr) for i, ipr in enumerate(participation_ratio(basis))}
    for since, before in _references(view, probe, basis).items():
        for i, moved in enumerate(displacement(before, basis)):
            values[f"eigenvector/displacement_{i + 1}_since_{since}"] = float(moved)
    values["eigenvector/ipr_random"] = 3 / (num_params + 2)
    values["eigenvector/displacement_random"] = random_displacement(num_params)
    if probe.options["null"]:
        left, right = (_null(view, probe, probe.options, draw) for draw in ("left", "right"))
        ratios = (participation_ratio(left) + participation_ratio(right)) / 2
        values |= {f"eigenvector/ipr_null_{i + 1}": float(ipr) for i, ipr in enumerate(ratios)}
        for i, moved in enumerate(displacement(left, right)):
            values[f"eigenvector/displacement_null_{i + 1}"] = float(moved)
    return values


def _null(view: View, probe: ScheduledProbe, options: dict[str, Any], draw: str) -> Tensor:
    """Return leading eigenvectors (K, P) after a random permutation of the weights within each parameter.

    MMB26's construction is not in our text. This one keeps the architecture, the data and how large the
    weights of each layer are, and destroys what training has arranged.
    """
    shuffle = view.generator(probe, f"null/{draw}")
    parts = view.params_P.split([size for _, size in view.instruments.parameters])
    permuted = [part[torch.randperm(len(part), generator=shuffle).to(part.device)] for part in parts]
    space = view.instruments.leading(
        torch.cat(permuted),
        view.holdout(options),
        k=options["k"],
        tolerance=options["tolerance"],
        memory={},
        draw=shuffle,
        order=order_of(options),
    )
    return view.seen(space).basis_KP


def measure_layers(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return the share of each eigenvector's squared norm that lies in each parameter of the model."""
    squares = view.basis(probe.options).double().square()
    squares = squares / squares.sum(1, keepdim=True)
    parts = squares.split([size for _, size in view.instruments.parameters], dim=1)
    return {
        f"layers/{i + 1}_{name}": float(part[i].sum())
        for (name, _), part in zip(view.instruments.parameters, parts, strict=True)
        for i in range(len(squares))
    }
