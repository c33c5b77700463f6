"""How axes, metrics and numbers are written in figures and tables: the paper's symbols, one home."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.reports import AxisValue, series_of
from sweep import names

INFINITY = "∞"
LONGEST_WHOLE = 1e7
INITIALISMS = ("sgd", "gd", "sam")


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisLabel:
    """The three ways to write an axis: along a figure's axis, within a line's label, in plain text."""

    long: str
    short: str
    plain: str


_AXES = {
    "alpha_dom": AxisLabel(long=r"$\alpha_{\mathrm{Dom}}$", short=r"$\alpha_{\mathrm{Dom}}$", plain="α_Dom"),
    "beta_bulk": AxisLabel(long=r"$\beta_{\mathrm{Bulk}}$", short=r"$\beta_{\mathrm{Bulk}}$", plain="β_Bulk"),
    "lr": AxisLabel(long=r"learning rate $\eta$", short=r"$\eta$", plain="η"),
    "k": AxisLabel(long=r"Dominant dimension $k$", short=r"$k$", plain="k"),
    "holdout_size": AxisLabel(long=r"Hessian holdout size $l$ [examples]", short=r"$l$", plain="l"),
    "refresh_every": AxisLabel(long=r"refresh period $T$ [steps]", short=r"$T$", plain="T"),
    "switch_step": AxisLabel(long="switch point [step]", short="switch", plain="switch step"),
    "batch_size": AxisLabel(long="batch size [examples]", short="batch", plain="batch size"),
    "seed": AxisLabel(long="seed", short="seed", plain="seed"),
}


def axis_label(axis: str) -> AxisLabel:
    """Return how an axis is written; one without a symbol by its own name."""
    text = axis.replace("_", " ")
    return _AXES.get(axis, AxisLabel(long=text, short=text, plain=text))


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricLabel:
    """How a metric is written.

    Args:
        text: Name with unit.
        scale: Factor from the recorded to the displayed value.
        decimals: Decimal places of a displayed value, or `None` for three significant digits.
        lower_is_better: Whether the best value is the least.
        positive: Whether a logarithmic scale may be used.
    """

    text: str
    scale: float = 1.0
    decimals: int | None = None
    lower_is_better: bool = False
    positive: bool = True


_METRICS = {
    names.FINAL_TRAIN_LOSS: MetricLabel(text="final training loss", lower_is_better=True),
    "train/loss": MetricLabel(text="training loss", lower_is_better=True),
    "train/batch_loss": MetricLabel(text="minibatch loss", lower_is_better=True),
    names.FINAL_TEST_ACCURACY: MetricLabel(
        text="final test accuracy [%]", scale=100, decimals=1, positive=False
    ),
    "test/accuracy": MetricLabel(text="test accuracy [%]", scale=100, decimals=1, positive=False),
    names.FINAL_STEPS: MetricLabel(text="steps trained", decimals=0, lower_is_better=True, positive=False),
    names.STATUS_DIVERGED: MetricLabel(text="share that diverged", lower_is_better=True, positive=False),
    names.EIGENSPACE_UNCONVERGED: MetricLabel(
        text="share of refreshes not converged", lower_is_better=True, positive=False
    ),
    "train/grad_norm": MetricLabel(text=r"gradient norm $\|g\|$"),
    "curvature/chi": MetricLabel(text=r"alignment $\chi_k(g)$", positive=False),
    "curvature/residual": MetricLabel(text="eigenspace residual", lower_is_better=True),
    "alignment/gradient_chi": MetricLabel(text=r"alignment $\chi_k(g)$", positive=False),
    "alignment/gradient_chi_ema": MetricLabel(text=r"moving average of $\chi_k(g)$, probe", positive=False),
    "switch/chi": MetricLabel(text=r"alignment $\chi_k(g)$, switch", positive=False),
    "switch/ema": MetricLabel(text=r"moving average of $\chi_k(g)$, switch", positive=False),
    "alignment/gradient_f_top": MetricLabel(text=r"$f_{\mathrm{top}} = \chi_k(g)^2$", positive=False),
    "alignment/update_chi": MetricLabel(text=r"alignment of the update, $\chi_k$", positive=False),
    "alignment/batch_gradient_chi": MetricLabel(
        text=r"alignment of the batch gradient, $\chi_k$", positive=False
    ),
    "spread/gradient_i": MetricLabel(text="share of the gradient, $c_i^2$", positive=False),
    "spread/gradient_sum": MetricLabel(text=r"$\sum_i c_i^2$", positive=False),
    "layers/1_i": MetricLabel(text="share of the first eigenvector", positive=False),
    "weights/1": MetricLabel(text="$x$", positive=False),
    "weights/2": MetricLabel(text="$y$", positive=False),
    "effective/dom_rate": MetricLabel(text="effective Dominant rate", positive=False),
    "effective/bulk_rate": MetricLabel(text="effective Bulk rate", positive=False),
    "energy/h": MetricLabel(text=r"$\|H\|_F^2$"),
    "energy/h_o": MetricLabel(text=r"$\|H_o\|_F^2$"),
    "energy/h_f": MetricLabel(text=r"$\|H_f\|_F^2$"),
    "energy/dom_h": MetricLabel(text=r"$\|H\|_{S_k}^2$"),
    "energy/dom_h_o": MetricLabel(text=r"$\|H_o\|_{S_k}^2$"),
    "energy/dom_h_f": MetricLabel(text=r"$\|H_f\|_{S_k}^2$"),
    "eigenvector/ipr_i": MetricLabel(text="IPR of eigenvector $i$"),
    "eigenvector/ipr_random": MetricLabel(text="IPR, random vector"),
    "eigenvector/displacement_random": MetricLabel(text="displacement, random vectors", positive=False),
    "overlap/train": MetricLabel(text="overlap of $g$ and $Hg$", positive=False),
    "overlap/test": MetricLabel(text="overlap on the test set", positive=False),
    "overlap/top_vector": MetricLabel(text="overlap of random top vectors", positive=False),
    "edge/gd": MetricLabel(text=r"$2 / \eta$"),
    "edge/sam": MetricLabel(text="SAM's edge"),
    "distance/from_switch": MetricLabel(text="distance from the switch", positive=False),
}

_NUMBERED = (
    (r"subspace/(top|next)_(\d+|i)_since_(\d+)", r"overlap of the \1 \2, since step \3"),
    (r"eigenvector/displacement_1_since_(\d+)", r"displacement since step \1"),
    (r"eigenvector/displacement_null_(\d+)", r"displacement in the null model, \1"),
    (r"distance/since_(\d+)", r"distance since step \1"),
)
"""Series whose names hold numbers: a pattern, and how such a one is written. All of them may be 0."""


def metric_label(metric: str) -> MetricLabel:
    """Return how a metric is written; an unlisted one by its own name."""
    if len(parts := tuple(series_of(metric))) > 1:
        return MetricLabel(text=" / ".join(metric_label(part).text for part in parts), positive=False)
    if metric.startswith("curvature/lambda_"):
        index = metric.rpartition("_")[2]
        return MetricLabel(text=rf"eigenvalue $\lambda_{{{index}}}$", positive=False)
    if found := re.fullmatch(r"eigenvector/ipr_(null_)?(\d+)", metric):
        return MetricLabel(text=f"IPR of eigenvector {found[2]}{', null model' if found[1] else ''}")
    for pattern, text in _NUMBERED:
        if found := re.fullmatch(pattern, metric):
            return MetricLabel(text=found.expand(text), positive=False)
    return _METRICS.get(
        metric, MetricLabel(text=metric, lower_is_better="loss" in metric, positive="loss" in metric)
    )


def plain_metric(metric: str) -> str:
    """Return how a metric is written where symbols cannot be drawn: by its own name if it has some."""
    text = metric_label(metric).text
    return metric if "$" in text else text


def plain(value: AxisValue | None) -> str:
    """Write an axis value: 0.1, 20000, ∞, text."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if math.isinf(value):
        return INFINITY if value > 0 else f"−{INFINITY}"
    if value == int(value) and abs(value) < LONGEST_WHOLE:
        return str(int(value))
    return tidy(f"{value:g}")


def tidy(number: str) -> str:
    """Shorten an exponent: 1e-05 to 1e-5."""
    mantissa, mark, exponent = number.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else number


def number(value: float, label: MetricLabel) -> str:
    """Write a metric's value as displayed, unit left out."""
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else plain(value)
    shown = value * label.scale
    return significant(shown, 3) if label.decimals is None else f"{shown:.{label.decimals}f}"


def significant(value: float, digits: int) -> str:
    """Write a number with significant digits, as a power of ten where that is shorter: 0.220, 4.18e-4."""
    text = tidy(f"{value:#.{digits}g}".removesuffix("."))
    power = tidy(f"{value:.{digits - 1}e}")
    return power if len(power) < len(text) else text


def spread(value: float, label: MetricLabel, *, mean: float | None = None) -> str:
    """Write a standard deviation: "±0.3".

    Args:
        value: The standard deviation, as recorded.
        label: Of the metric.
        mean: What it stands beside: it then has as many decimal places, one more where nothing would be left.
    """
    shown = value * label.scale
    decimals = label.decimals
    if decimals is None and mean is not None and "e" not in (beside := number(mean, label)):
        decimals = len(beside.partition(".")[2])
        decimals += 0 < shown < 0.5 * 10**-decimals
        if 0 < shown < 0.5 * 10**-decimals:
            decimals = None
    return "±" + (significant(shown, 2) if decimals is None else f"{shown:.{decimals}f}")


def spaced(count: int, most: int) -> list[int]:
    """Return at most about `most` of `count` indices, evenly spaced, the last one among them."""
    every = max(-(-count // most), 1)
    chosen = list(range(0, count, every))
    if chosen and chosen[-1] != count - 1:
        # The last label replaces one that would crowd it.
        keep = chosen if count - 1 - chosen[-1] > every // 2 else chosen[:-1]
        chosen = [*keep, count - 1]
    return chosen


def apart(places: Sequence[float], most: int) -> list[int]:
    """Return indices of ascending places that have room for a label of their own, the two ends among them.

    Room is a `most`-th of the way from end to end.
    """
    last = len(places) - 1
    room = (places[last] - places[0]) / most
    chosen = [0]
    for index in range(1, last):
        if places[index] - places[chosen[-1]] >= room and places[last] - places[index] >= room:
            chosen.append(index)
    return [*chosen, last] if last else chosen


def grid_label(name: str) -> str:
    """Write the name of a grid in words, initialisms in capitals: "first-200-sgd" is "first 200 SGD"."""
    words = name.replace("_", " ").replace("-", " ").split()
    return " ".join(word.upper() if word in INITIALISMS else word for word in words)


def combination(axes: Sequence[str], values: Sequence[AxisValue | None], *, markup: bool = True) -> str:
    """Write a combination of axis values: "k = 10, η = 0.1"; axes that are absent are left out.

    Args:
        axes: Their names.
        values: Their values.
        markup: Symbols as figures read them; otherwise in plain text.
    """
    parts: list[str] = []
    for axis, value in zip(axes, values, strict=True):
        if value is None:
            continue
        # A word says what it is by itself ("Bulk-SGD"); a number needs its axis.
        word = value.upper() if value in INITIALISMS else value
        label = axis_label(axis)
        symbol = label.short if markup else label.plain
        parts.append(word if isinstance(word, str) else f"{symbol} = {plain(word)}")
    return ", ".join(parts)
