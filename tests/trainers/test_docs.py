"""The page on what a cell may say names every row of every table, and every option with its default."""

import dataclasses
import re
from collections.abc import Mapping

import pytest

from tests.pages import DOCS, ROOT, by_first, sections, tables, written
from trainers.cell import Condition, Phase
from trainers.data import DATASETS
from trainers.losses import LOSSES
from trainers.models import MODELS
from trainers.optimizers import OPTIMIZERS
from trainers.options import Choice, Option
from trainers.probes import PROBES

SECTIONS = sections(DOCS / "choices.md")
WITHOUT_DEFAULT = {"path", "digest"}
"""Options that must be given, or are filled in whatever is given."""


def require(name: str, option: Option, row: str, common: str = "") -> None:
    """An option stands in its row, or else outside of the table: `name` (default), and what it may be."""
    if name in WITHOUT_DEFAULT:
        assert f"`{name}`" in row, name
        return
    text = row if f"`{name}` (" in row else common
    assert re.search(rf"`{name}` \({re.escape(written(option.default))}[,;:) ]", text), name
    for value in option.allowed or ():
        assert written(value) in row + common, f"{name}: {value}"


@pytest.mark.parametrize(
    ("section", "table"),
    [("Base optimisers", OPTIMIZERS), ("Probes", PROBES), ("Models", MODELS), ("Data", DATASETS)],
)
def test_rows_and_options_are_named(section: str, table: Mapping[str, object]) -> None:
    text = SECTIONS[section]
    rows = by_first(tables(text)[0])
    assert list(rows) == list(table)
    # What several rows have is said once, outside of the table.
    common = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    for name, entry in table.items():
        options: Mapping[str, Option] = getattr(entry, "options", {})
        row = rows[name].get("options", rows[name].get("further options", ""))
        for option, declared in options.items():
            require(option, declared, row, common)
        named = set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", row)))
        assert named <= set(options), f"{name} has no such options"


def test_losses_are_named() -> None:
    for name, entry in LOSSES.items():
        assert f"`{name}`" in SECTIONS["Losses"]
        for option, declared in entry.options.items():
            require(option, declared, SECTIONS["Losses"])


@pytest.mark.parametrize(("kind", "place"), [(Phase, 0), (Condition, 1)])
def test_fields_of_phases_and_conditions_are_named(kind: type, place: int) -> None:
    rows = by_first(tables(SECTIONS["Phases"])[place])
    assert rows.keys() == {field.name for field in dataclasses.fields(kind)}
    for field in dataclasses.fields(kind):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        shown = default.name if isinstance(default, Choice) else default
        expected = "" if shown is dataclasses.MISSING else f"`{written(shown)}`"
        assert rows[field.name]["default"] == expected, field.name


def test_the_readme_counts_them() -> None:
    readme = (ROOT / "README.md").read_text()
    # Besides those of your own.
    counts = [len(table) - 1 for table in (PROBES, MODELS, DATASETS)]
    assert "{}\nprobes, {} models and {} data sets".format(*counts) in readme
