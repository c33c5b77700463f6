"""A cell as plain JSON values and back: what travels to a worker and is kept beside a run.

This is the cell as stated; its identity is `trainers.canonical.canonical_form`.
"""

import dataclasses
import math
from typing import Any

from trainers.cell import Cell, Condition, Phase, Probe, Solver
from trainers.errors import ConfigError
from trainers.options import Choice


def cell_to_json(cell: Cell) -> dict[str, Any]:
    """Return a cell as JSON values; an infinite divisor is the string "inf"."""
    values = {field.name: getattr(cell, field.name) for field in dataclasses.fields(cell)}
    for name in ("model", "dataset", "loss"):
        choice: Choice = values[name]
        values[name] = {"name": choice.name, **dict(choice.options)}
    values["solver"] = dataclasses.asdict(cell.solver)
    values["phases"] = [_phase_to_json(phase) for phase in cell.phases]
    values["probes"] = [
        {"name": probe.name, "every": probe.every, **dict(probe.options)} for probe in cell.probes
    ]
    return _plain(values)


def cell_from_json(values: dict[str, Any]) -> Cell:
    """Undo `cell_to_json`.

    Raises:
        ConfigError: The values are not those of a cell.
    """
    try:
        given = dict(values)
        for name in ("model", "dataset", "loss"):
            options = dict(given[name])
            given[name] = Choice.of(options.pop("name"), **options)
        given["solver"] = Solver(**given["solver"])
        given["phases"] = tuple(_phase(phase) for phase in given["phases"])
        given["probes"] = tuple(_probe(dict(probe)) for probe in given["probes"])
        return Cell(**given)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"these values are not a cell: {error!r}.") from error


def _phase_to_json(phase: Phase) -> dict[str, Any]:
    optimizer = {"name": phase.optimizer.name, **dict(phase.optimizer.options)}
    return _plain({**dataclasses.asdict(phase), "optimizer": optimizer})


def _phase(values: dict[str, Any]) -> Phase:
    fields: dict[str, Any] = {key: math.inf if value == "inf" else value for key, value in values.items()}
    if isinstance(fields["until"], dict):
        fields["until"] = Condition(**fields["until"])
    if isinstance(fields.get("optimizer"), dict):
        fields["optimizer"] = Choice.of(**fields["optimizer"])
    return Phase(**fields)


def _probe(values: dict[str, Any]) -> Probe:
    name, every = values.pop("name"), values.pop("every")
    return Probe(name=name, every=every, options=Choice.of(name, **values).options)


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float() if math.isinf(value):
            return "inf"
        case _:
            return value
