"""A comparison as the plain values of its page, and the page."""

from pathlib import Path
from typing import Any

from sweep.compare import Comparison, Difference, Pair
from sweep.html.data import metric_entry, rounded
from sweep.html.page import page
from sweep.report.labels import axis_label, plain
from sweep.report.points import GRID_AXIS, in_order
from sweep.report.states import Pool, State, tally


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """Write the page of a comparison; the same records give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"{comparison.first.name} and {comparison.second.name}"
    path.write_bytes(page(title, comparison_data(comparison)).encode())
    return path


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    """Arrange a comparison for the page."""
    records = comparison.first, comparison.second
    return {
        "kind": "comparison",
        "first": records[0].name,
        "second": records[1].name,
        "caption": " · ".join(f"{record.name}: {tally(record.outcomes.values())}" for record in records),
        "axes": [_axis(comparison, axis) for axis in comparison.axes],
        "metrics": [metric_entry(metric) for metric in comparison.metrics],
        "states": [{"name": state.name, "text": state.value} for state in State],
        "places": [_place(comparison, pair) for pair in comparison.pairs],
    }


def _axis(comparison: Comparison, axis: str) -> dict[str, Any]:
    values = in_order(pair.axes[axis] for pair in comparison.pairs)
    label = "grid" if axis == GRID_AXIS else axis_label(axis).plain
    return {"name": axis, "label": label, "values": list(values), "texts": [plain(value) for value in values]}


def _place(comparison: Comparison, pair: Pair) -> dict[str, Any]:
    lonely = comparison.second.name if not pair.first else comparison.first.name if not pair.second else None
    known = next(iter(pair.metrics.values()))
    return {
        "axes": dict(pair.axes),
        "only": lonely,
        "states": [known.first.state.name, known.second.state.name],
        "values": {metric: _values(found) for metric, found in pair.metrics.items()},
    }


def _values(found: Difference) -> dict[str, Any]:
    return {
        "first": _moments(found.first),
        "second": _moments(found.second),
        "difference": rounded(found.difference),
        "base": rounded(found.base),
        "spread": rounded(found.spread),
        "pairs": found.num_pairs,
    }


def _moments(known: Pool) -> list[float]:
    return [rounded(known.mean), rounded(known.std)]
