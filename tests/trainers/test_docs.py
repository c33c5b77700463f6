"""The page on what a cell may say names every row of every table, and every option."""

import dataclasses
from pathlib import Path

import pytest

from trainers.cell import Condition, Phase
from trainers.data import DATASETS
from trainers.losses import LOSSES
from trainers.models import MODELS
from trainers.optimizers import OPTIMIZERS
from trainers.probes import PROBES

PAGE = (Path(__file__).parents[2] / "docs" / "choices.md").read_text()
SECTIONS = {text.partition("\n")[0]: text for text in PAGE.split("\n## ")}


@pytest.mark.parametrize(
    ("section", "table"),
    [
        ("Base optimisers", OPTIMIZERS),
        ("Probes", PROBES),
        ("Models", MODELS),
        ("Data", DATASETS),
        ("Losses", LOSSES),
    ],
)
def test_rows_and_options_are_named(section: str, table: dict[str, object]) -> None:
    text = SECTIONS[section]
    for name, entry in table.items():
        assert f"`{name}`" in text, name
        for option in getattr(entry, "options", {}):
            assert f"`{option}`" in text, f"{name}.{option}"


def test_fields_of_phases_and_conditions_are_named() -> None:
    for kind in (Phase, Condition):
        for field in dataclasses.fields(kind):
            assert f"`{field.name}`" in SECTIONS["Phases"], field.name
