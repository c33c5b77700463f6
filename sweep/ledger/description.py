"""How a cell reads in MLflow: run name, params, `hp/` metrics, and its document `cell.json`."""

import json
import math
from collections.abc import Mapping

from sweep.grid_table import AxisValue
from sweep.names import AXIS_METRIC_PREFIX
from trainers.canonical import canonical_form, dataset_entry
from trainers.cell import Cell, Phase
from trainers.cell_json import cell_to_json

RUN_NAME_LENGTH = 200
TAG_LENGTH = 8000
"""MLflow cuts the value of a tag that is longer, in silence."""

CUT = " …"
PHASE_AXES = ("lr", "k", "switch_step", "alpha_dom", "beta_bulk", "optimizer")
"""Bare names of params that belong to a phase: as the axis of that name has it, else of the last phase."""


def run_name(axes: Mapping[str, AxisValue], cell_id: str, method: str) -> str:
    """Return a readable name: `alpha_dom=2 beta_bulk=1 k=10 seed=0`; without axes `sgd 2e3c943a7eab1189`."""
    text = " ".join(f"{name}={_short(value)}" for name, value in axes.items())
    return text[:RUN_NAME_LENGTH] or f"{method} {cell_id}"


def note_with_links(own: str, links: str) -> str:
    """Join a description and the links below it; where both are too long for a tag the links stay whole."""
    room = TAG_LENGTH - len(links)
    return (own if len(own) <= room else own[: room - len(CUT)] + CUT) + links


def cell_params(cell: Cell, axes: Mapping[str, AxisValue]) -> dict[str, str]:
    """Return the params of a cell's run; floats as `repr`."""
    values = _described(cell)
    for index, phase in enumerate(cell.phases):
        for name, value in _phase_values(cell, phase).items():
            values[f"phase.{index}.{name}"] = value
    for name, value in _bare_values(cell, axes).items():
        values.setdefault(name, value)
    return {name: _text(value) for name, value in values.items()}


def axis_metrics(cell: Cell, axes: Mapping[str, AxisValue]) -> dict[str, float]:
    """Return the finite numeric axes and phase values as metrics: params compare as text."""
    return {
        f"{AXIS_METRIC_PREFIX}{name}": float(value)
        for name, value in _bare_values(cell, axes).items()
        if not isinstance(value, str) and math.isfinite(value)
    }


def cell_document(cell: Cell) -> bytes:
    """Return `cell.json`: the canonical form (the identity) and the cell as stated."""
    document = {"canonical": canonical_form(cell), "stated": cell_to_json(cell)}
    return json.dumps(document, indent=1, sort_keys=True).encode()


def _described(cell: Cell) -> dict[str, AxisValue]:
    entry = dataset_entry(cell.dataset)
    return {
        "model": str(cell.model),
        "dataset": str(cell.dataset),
        "loss": str(cell.loss),
        "seed": cell.seed,
        "batch_size": cell.batch_size,
        "num_steps": cell.num_steps,
        "holdout_size": entry.num_train if cell.holdout_size is None else cell.holdout_size,
        "refresh_every": cell.refresh_every,
        "init": cell.init,
    }


def _phase_values(cell: Cell, phase: Phase) -> dict[str, AxisValue]:
    return {
        "optimizer": str(phase.optimizer),
        "lr": float(phase.lr),
        "alpha_dom": float(phase.alpha_dom),
        "beta_bulk": float(phase.beta_bulk),
        "k": dataset_entry(cell.dataset).num_outputs if phase.k is None else phase.k,
        "until": phase.until if isinstance(phase.until, int) else str(phase.until),
    }


def _bare_values(cell: Cell, axes: Mapping[str, AxisValue]) -> dict[str, AxisValue]:
    last = _phase_values(cell, cell.phases[-1])
    values = {name: last[name] for name in PHASE_AXES if name in last}
    if len(cell.phases) > 1:
        values["switch_step"] = _phase_values(cell, cell.phases[-2])["until"]
    # A divisor is a real number even where a space writes a whole one.
    floats = {name for name, value in values.items() if isinstance(value, float)}
    for name, value in axes.items():
        values[name] = float(value) if name in floats and not isinstance(value, str) else value
    return values


def _text(value: AxisValue) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _short(value: AxisValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
