r"""Where gradients and updates lie: chi_k and its moving average, c_i^2, overlaps, effective rates, edges.

Legend: g gradient of the full training loss, u_i leading eigenvectors of the holdout's Hessian H,
P = sum u_i u_i^T over i <= k.
"""

import math

import torch
from torch import Tensor

from trainers.instruments import alignment
from trainers.lane import ScheduledProbe
from trainers.probes.view import View

TOP_VECTOR_DRAWS = 1000
"""Random vectors of the top subspace over which their overlap is averaged; they cost no product."""


def _vector(view: View, name: str) -> Tensor | None:
    """Return the vector that a probe holds against the subspace; `None` where no step follows."""
    if name == "gradient":
        return view.gradient_P
    return view.batch_gradient_P if name == "batch_gradient" else view.update_P


def measure_alignment(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return chi_k(v) = ||P v|| / ||v|| (SAY25), its moving average from 0, and f_top = chi_k^2 (GRD18)."""
    name, ema = probe.options["of"], probe.options["ema"]
    vector = _vector(view, name)
    if vector is None:
        return {}
    chi = alignment(view.basis(probe.options), vector)
    before = view.lane.remembered(f"{probe.key}ema/").get("chi")
    average = ema * (0.0 if before is None else float(before)) + (1 - ema) * chi
    view.remember(f"{probe.key}ema/", {"chi": torch.tensor([average], dtype=torch.float64)})
    series = f"alignment/{name}_"
    return {f"{series}chi": chi, f"{series}chi_ema": average, f"{series}f_top": chi**2}


def measure_spread(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return c_i^2 = (u_i . v)^2 / ||v||^2 (GRD18 eq. 12) and their sum; 0 for v = 0."""
    name = probe.options["of"]
    vector = _vector(view, name)
    if vector is None:
        return {}
    square = vector.double().square().sum()
    shares = (view.basis(probe.options) @ vector).double().square() / (square if square > 0 else 1.0)
    values = {f"spread/{name}_{i + 1}": float(share) for i, share in enumerate(shares)}
    return values | {f"spread/{name}_sum": float(shares.sum())}


def measure_overlap(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return g^T H g / (||g|| ||H g||) (GRD18 eq. 3) with gradient and Hessian of the same examples.

    With `k`, also its mean over random vectors of the top subspace.
    """
    options, test = probe.options, probe.options["split"] == "test"
    if test:
        indices = torch.arange(min(len(view.instruments.test), options["holdout_size"]))
        indices = indices.to(view.params_P.device)
    else:
        indices = view.holdout(options)
    gradient = view.instruments.gradient(view.params_P, indices, test=test)
    product = view.instruments.product(view.params_P, indices, test=test)(gradient.unsqueeze(0))[0]
    norm = torch.linalg.vector_norm(gradient) * torch.linalg.vector_norm(product)
    overlap = float(gradient @ product) / float(norm) if float(norm) != 0.0 else 0.0
    values = {f"overlap/{options['split']}": overlap}
    if options["k"]:
        eigenvalues = view.leading(options).values_K
        draw = view.generator(probe, "top")
        parts = torch.randn(TOP_VECTOR_DRAWS, options["k"], generator=draw, dtype=torch.float64)
        images = parts * eigenvalues
        cosines = (parts * images).sum(1) / (parts.norm(dim=1) * images.norm(dim=1))
        values["overlap/top_vector"] = float(cosines.mean())
    return values


def measure_effective_rates(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return -<update, P g> / ||P g||^2 and the same with I - P (SAY25 definition 4, whose sign is lost).

    In float64 with P made exactly a projector, so that plain GD gives its rate for both.
    """
    if view.update_P is None:
        return {}
    update, gradient = view.update_P.double(), view.gradient_P.double()
    basis = torch.linalg.qr(view.basis(probe.options).double().mT)[0]
    dominant = basis @ (basis.mT @ gradient)
    rates: dict[str, float] = {}
    for name, part in (("dom", dominant), ("bulk", gradient - dominant)):
        square = float(part @ part)
        if square > 0:
            rates[f"effective/{name}_rate"] = -float(update @ part) / square
    return rates


def measure_edges(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return the stability thresholds of the sharpness: GD's 2/eta, and SAM's where the stage is SAM's.

    SAY25 section B.2: (||g|| / (2 rho)) (sqrt(1 + 8 rho / (eta ||g||)) - 1), here in a form that neither
    cancels nor divides by a small rho; its limit for rho -> 0 is 2/eta. eta is the larger effective rate.
    """
    stage = view.stage
    rate = max(stage.dom_rate, stage.bulk_rate)
    values = {"edge/gd": 2 / rate}
    if stage.optimizer.name == "sam":
        rho = float(dict(stage.optimizer.options)["rho"])  # type: ignore[arg-type]
        values["edge/sam"] = sam_edge(float(torch.linalg.vector_norm(view.gradient_P.double())), rho, rate)
    return values


def sam_edge(gradient_norm: float, rho: float, rate: float) -> float:
    """Return SAM's stability threshold; 0 for a vanished gradient, unless rho is 0."""
    if rho == 0:
        return 2 / rate
    if gradient_norm == 0:
        return 0.0
    ratio = 8 * rho / (rate * gradient_norm)
    return 4 / (rate * (math.sqrt(1 + ratio) + 1))
