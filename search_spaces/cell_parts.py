"""A cell built from plain values, part by part: its fields, and each phase and probe by itself."""

from collections.abc import Mapping
from typing import Any

from search_spaces.cell_schema import BaseSpec
from search_spaces.strict import plain_data
from trainers.cell import Cell, Condition, Phase, Probe, Solver
from trainers.options import Choice

Slot = tuple[str, int | None]
"""A part of the cell: a field, or a field and an index into it."""

LISTS = ("phases", "probes")
CHOICES = ("model", "dataset", "loss")


def base_cell(base: BaseSpec) -> Cell:
    """Build the base cell itself.

    Raises:
        ConfigError: It is not valid.
    """
    values = plain_data(base)
    fields: dict[str, Any] = {
        name: built((name, None), item) for name, item in values.items() if name not in LISTS
    }
    lists: dict[str, Any] = {
        name: tuple(built((name, index), item) for index, item in enumerate(values[name])) for name in LISTS
    }
    return Cell(**fields, **lists)


def built(slot: Slot, values: Any) -> Any:
    """Build one part of a cell from its plain values."""
    match slot[0]:
        case "phases":
            return _phase(dict(values))
        case "probes":
            options = {key: value for key, value in values.items() if key not in ("name", "every")}
            return Probe(
                name=values["name"],
                every=values.get("every"),
                options=Choice.of(values["name"], **options).options,
            )
        case "solver":
            return Solver(**values)
        case name if name in CHOICES:
            options = {key: value for key, value in values.items() if key != "name"}
            return Choice.of(values["name"], **options)
        case _:
            return values


def _phase(values: dict[str, Any]) -> Phase:
    if isinstance(values["until"], Mapping):
        values["until"] = Condition(**values["until"])
    if isinstance(values["optimizer"], Mapping):
        values["optimizer"] = Choice.of(**values["optimizer"])
    return Phase(**values)
