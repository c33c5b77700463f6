r"""Energies of the Hessian and of its two terms (ZS25 section 5).

For M in {H, H_o, H_f}: ||M||_F^2, and ||M||_{S_k}^2 = sum_i v_i^T M^2 v_i, v_i Dominant eigenvectors of H.
H_f is H - H_o; the objectives' own product with H_f agrees with that (a test holds it).

Exact for small models. Otherwise by Hutchinson's estimator in the complement of the Dominant subspace,

    ||M||_F^2 = ||M V||_F^2 + E ||M (I - V V^T) z||^2,   z uniform in {-1, 1}^p,

which leaves only the Bulk to chance (Meyer et al. 2021, Hutch++). The error bar is the standard error.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from trainers.lane import ScheduledProbe
from trainers.probes.view import View

EXACT_UP_TO = 2000
"""Parameters up to which `estimator: auto` multiplies the Hessian by the whole identity."""

DIRECTIONS_AT_ONCE = 64

Terms = dict[str, Tensor]
"""By the name of a term: squared norms of its products with some directions, (R,) float64."""


def is_exact(options: Mapping[str, Any], num_params: int) -> bool:
    """Whether the whole identity is multiplied."""
    chosen = options["estimator"]
    return chosen == "exact" or (chosen == "auto" and num_params <= EXACT_UP_TO)


def measure_energies(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return the energies of H, H_o and H_f, total and in the Dominant subspace, and sum lambda_i^2."""
    options = probe.options
    indices, params = view.holdout(options), view.params_P
    hessian = view.instruments.product(params, indices)
    gauss_newton = view.instruments.product(params, indices, part="gauss_newton")

    def squares(directions_RP: Tensor) -> Terms:
        whole, outer = hessian(directions_RP), gauss_newton(directions_RP)
        terms = {"h": whole, "h_o": outer, "h_f": whole - outer}
        return {name: images.double().square().sum(1) for name, images in terms.items()}

    basis = torch.linalg.qr(view.basis(options).double().mT)[0].mT.to(params)
    dominant = {name: float(values.sum()) for name, values in squares(basis).items()}
    values = {f"energy/dom_{name}": value for name, value in dominant.items()}
    leading = view.leading(options).values_K
    values["energy/dom_eigenvalues"] = float(leading.square().sum())
    if is_exact(options, params.numel()):
        return values | {f"energy/{name}": value for name, value in _exact(squares, params).items()}
    # The numbers are those of any integer type, and of this one there are few bytes.
    shape, draw = (options["samples"], params.numel()), view.generator(probe, "signs")
    signs = torch.randint(0, 2, shape, generator=draw, dtype=torch.int8)
    directions = (2 * signs - 1).to(params)
    directions = directions - (directions @ basis.mT) @ basis
    samples = _in_blocks(squares, directions)
    for name, square in samples.items():
        values[f"energy/{name}"] = dominant[name] + float(square.mean())
        values[f"energy/{name}_error"] = float(square.std() / len(square) ** 0.5)
    return values


def _exact(squares: Callable[[Tensor], Terms], params_P: Tensor) -> dict[str, float]:
    identity = torch.eye(params_P.numel(), dtype=params_P.dtype, device=params_P.device)
    return {name: float(values.sum()) for name, values in _in_blocks(squares, identity).items()}


def _in_blocks(squares: Callable[[Tensor], Terms], directions_RP: Tensor) -> Terms:
    blocks = [squares(block) for block in directions_RP.split(DIRECTIONS_AT_ONCE)]
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
