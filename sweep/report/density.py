"""The spectral density of the Hessian (GRD18 fig. 4, 5) from the nodes and weights of a Lanczos quadrature.

Each random vector gives a sum of weighted points; their mean over vectors and seeds, widened by Gaussians, is
the density. The nodes span many decades on both sides of zero, so x is an eigenvalue on a symmetric
logarithmic scale, and the density is per unit of that scale; axis and caption say so. What is a millionth of
the peak is not drawn: it is the tail of a Gaussian and no measurement.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from search_spaces.reports import DensitySpec
from sweep.convergence import convergence_series, unconverged_shares
from sweep.histories import read_histories
from sweep.record import Record, Series
from sweep.report.panels import Panel, PanelLine, PanelsData, draw_panels, step_label
from sweep.report.points import group, ordered_keys, select, unshown_axes

NODE, WEIGHT = "spectrum/node_", "spectrum/weight_"
POINTS = 400
WIDTH = 0.01
"""Standard deviation of the Gaussians, in units of the range that the nodes of a step span on the scale."""

SMALLEST = 1e-3
"""Where the scale turns from linear to logarithmic, as a share of the largest eigenvalue of a panel."""

FLOOR = 1e-6


def density_data(record: Record, spec: DensitySpec) -> PanelsData:
    """Read the quadratures and arrange the densities, a line per step."""
    points = select(record, spec)
    panel_axes = (*spec.panels, *unshown_axes(record, points, spec.panels))
    groups = group(record, points, panel_axes)
    outcomes = [record.outcomes[cell] for cells in groups.values() for cell in cells]
    wanted = (NODE, WEIGHT, *convergence_series(()))
    read = read_histories(record, outcomes, lambda name: name.startswith(wanted))
    panels: list[Panel] = []
    for key in ordered_keys(groups):
        histories = [read[cell] for cell in groups[key] if cell in read]
        found = {step: quadrature(histories, step) for step in spec.steps}
        unit = SMALLEST * max((np.abs(nodes).max() for nodes, _ in found.values() if nodes.size), default=1.0)
        lines: list[PanelLine] = []
        for step, (nodes, weights) in found.items():
            if nodes.size:
                x, density = widened(nodes, weights, unit)
                density = np.where(density > FLOOR * density.max(), density, np.nan)
                std = np.full(len(x), np.nan)
                lines.append(PanelLine(label=step_label(step), x=x, mean=density, std=std))
        panels.append(Panel(key=key, lines=tuple(lines), linear_below=unit))
    return PanelsData(
        panel_axes=panel_axes,
        panels=tuple(panels),
        labels=tuple(map(step_label, spec.steps)),
        x_label=r"Hessian eigenvalue $\lambda$",
        y_label=r"density per unit of asinh($\lambda / u$)",
        notes=_notes(panels),
        unconverged=unconverged_shares(read.values(), ()),
    )


def _notes(panels: Sequence[Panel]) -> tuple[str, ...]:
    """Say what u is, and how far the Gaussians reach that widen the points."""
    units = dict.fromkeys(f"{panel.linear_below:.2g}" for panel in panels if panel.lines)
    if not units:
        return ()
    u = f"u = {', '.join(units)} ({SMALLEST:g} of the largest |λ| of a panel)"
    return (u, f"Gaussians of standard deviation {WIDTH:g} of what the nodes span in asinh(λ / u)")


def quadrature(histories: Sequence[Mapping[str, Series]], step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the finite nodes of a step, and their weights, which sum to 1 over all of them."""
    pairs: list[tuple[float, float]] = []
    for history in histories:
        for name, series in history.items():
            if name.startswith(NODE) and (at := np.flatnonzero(series.steps == step)).size:
                weight = history[WEIGHT + name.removeprefix(NODE)]
                pairs.append((float(series.values[at[0]]), float(weight.values[weight.steps == step][0])))
    # A run that diverged there has none.
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    if not pairs:
        return np.array([]), np.array([])
    nodes, weights = np.array(pairs).T
    return nodes, weights / weights.sum()


def widened(nodes: np.ndarray, weights: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, shape (points,), and the density, whose integral over asinh(x / unit) is 1."""
    places = np.arcsinh(nodes / unit)
    span = places.max() - places.min() or 1.0
    x = np.linspace(places.min() - 0.05 * span, places.max() + 0.05 * span, POINTS)
    width = WIDTH * span
    bumps = np.exp(-(((x[:, None] - places[None, :]) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
    return unit * np.sinh(x), bumps @ weights


def draw_density(record: Record, spec: DensitySpec, *paths: Path) -> None:
    """Draw the densities of a specification, logarithmic: few large eigenvalues among many."""
    draw_panels(record, spec, density_data(record, spec), *paths, log_y=True)
