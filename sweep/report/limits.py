"""From where to where a panel shows values, so that its bands of ± one standard deviation can be seen.

Limits fit the means and their bands. A band far wider than the others does not press them flat: it may leave
the panel, and so may a run that diverges, upwards. A logarithmic axis has no place for 0 and below, nor for
what is just above: a band ends at the axis there. The caption says so.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

Band = tuple[np.ndarray, np.ndarray]
"""Mean and standard deviation, shape (points,) each."""

HEADROOM_LOG, HEADROOM_LINEAR = 8.0, 1.5
"""Room above the highest line that ended well; a diverging line leaves the panel beyond it."""

LEAST_SPAN, CONSTANT_SPAN = 1e-3, 0.2
"""Least height of a panel, as a share of its values; that of a line that never changes."""

MARGIN_LOG, MARGIN_LINEAR = 1.25, 0.05

USUAL = 0.25
"""Share of the bands' edges on either side that may be unusual."""

BAND_ROOM = 0.5
"""Room for those, on either side, as a share of what the means and the usual edges take."""

BAND_ALPHA = 0.16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of an axis, and what becomes of the bands there.

    Args:
        low: The lower limit.
        high: The upper one.
        ends_at_axis: Whether a band reaches below a logarithmic axis.
        cut_off: Whether one leaves the panel otherwise, because it is far wider than the others.
    """

    low: float
    high: float
    ends_at_axis: bool = False
    cut_off: bool = False


def masked(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Blank what a logarithmic scale cannot show."""
    return np.where(values > 0, values, math.nan) if logarithmic else values


def limits_of(
    means: Sequence[np.ndarray],
    bands: Sequence[Band] = (),
    diverged: Sequence[np.ndarray] = (),
    *,
    logarithmic: bool,
) -> Limits:
    """Return the limits of a panel.

    Args:
        means: What ended well.
        bands: Those of them that have a band.
        diverged: What may leave the panel upwards.
        logarithmic: Whether the axis is; what is not positive does not count then.
    """
    well, bad = _shown(means, logarithmic), _shown(diverged, logarithmic)
    both = np.concatenate([well, bad])
    if not both.size:
        return Limits(low=0.1, high=1.0) if logarithmic else Limits(low=0.0, high=1.0)
    low, top = float(both.min()), float(well.max() if well.size else both.max())
    # Within a thousandth, a reference that never changes would be written as an offset and a remainder.
    least = CONSTANT_SPAN if math.isclose(top, low, rel_tol=1e-9) else LEAST_SPAN
    span = max(top - low, abs(top) * least, 1e-12)
    headroom = top * HEADROOM_LOG if logarithmic else low + span * HEADROOM_LINEAR
    high = min(float(both.max()), headroom)
    below = [mean - std for mean, std in bands]
    lower = _shown(below, logarithmic)
    upper = _shown([mean + std for mean, std in bands], logarithmic)
    bottom, roof = _with_bands(low, top, lower, upper, logarithmic=logarithmic)
    margin = MARGIN_LINEAR * max(span, roof - bottom)
    low, high = min(low, bottom), max(high, roof)
    low, high = (low / MARGIN_LOG, high * MARGIN_LOG) if logarithmic else (low - margin, high + margin)
    return Limits(
        low=low,
        high=high,
        ends_at_axis=logarithmic and any(bool((edge < low).any()) for edge in below),
        cut_off=bool((upper > high).any() or (not logarithmic and (lower < low).any())),
    )


def _shown(values: Sequence[np.ndarray], logarithmic: bool) -> np.ndarray:
    """Return what an axis can show of some arrays, as one."""
    joined = np.concatenate([*values, np.array([])])
    return joined[np.isfinite(joined) & ((joined > 0) | (not logarithmic))]


def _with_bands(
    low: float, top: float, lower: np.ndarray, upper: np.ndarray, *, logarithmic: bool
) -> tuple[float, float]:
    """Return the range of the means, widened by their bands as far as these leave the means a good half."""
    if not upper.size:
        return low, top
    to, back = (np.log, np.exp) if logarithmic else (np.positive, np.positive)
    bottom, roof = (float(to(end)) for end in (low, top))
    lower, upper = to(lower) if lower.size else np.array([bottom]), to(upper)
    usual = min(bottom, float(np.quantile(lower, USUAL))), max(roof, float(np.quantile(upper, 1 - USUAL)))
    least = math.log(HEADROOM_LOG) if logarithmic else CONSTANT_SPAN * abs(top)
    room = BAND_ROOM * max(usual[1] - usual[0], least)
    bottom = min(bottom, max(float(lower.min()), usual[0] - room))
    roof = max(roof, min(float(upper.max()), usual[1] + room))
    return float(back(bottom)), float(back(roof))


def draw_band(axes: Axes, x: np.ndarray, band: Band, limits: Limits, colour: Any) -> None:
    """Fill a band as far as the panel goes, whose limits the caller sets."""
    mean, std = band
    axes.fill_between(x, np.maximum(mean - std, limits.low), mean + std, color=colour, alpha=BAND_ALPHA, lw=0)


def band_notes(limits: Iterable[Limits], what: str = "band") -> str:
    """Say for the caption what bands (or bars) are, and where they are not drawn whole."""
    found = tuple(limits)
    notes = [f"{what}: ± one standard deviation"]
    if any(one.ends_at_axis for one in found):
        notes.append("ending at the axis where that reaches below it")
    if any(one.cut_off for one in found):
        notes.append("cut off where that is far wider than elsewhere")
    return ", ".join(notes)
