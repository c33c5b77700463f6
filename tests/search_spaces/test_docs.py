"""The page on the space file: its examples load, and its tables have every field with its default."""

from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from search_spaces import load_space
from search_spaces.axes import AxisSpec
from search_spaces.cell_schema import ALIASES, BaseSpec, SolverSpec
from search_spaces.claims import STATISTICS, Band, ClaimSpec, EntrySpec
from search_spaces.exclusion import ExcludedSpec
from search_spaces.report_checks import FINAL_METRICS, SERIES
from search_spaces.reports import Report, ReportSpec
from search_spaces.schema import GridSpec, SpaceSpec
from search_spaces.search import OBJECTIVES, RangeSpec, SearchSpec, StopperSpec
from search_spaces.strict import StrictModel
from search_spaces.yaml_text import read_yaml
from tests.pages import DOCS, ROOT, Row, by_first, examples, sections, tables, written
from trainers.cell import INITIALISATIONS

PAGE = DOCS / "space.md"
SECTIONS = sections(PAGE)
LEAST, WHOLE = examples(PAGE)
STATISTICS_TABLE = by_first(tables(sections(DOCS / "experiments.md")["Claims"])[0])

SHORT = {"loss": "mse", "solver": "{}"}
"""Defaults that a page writes shorter than they are."""

INFERRED = {(RangeSpec, "integer")}
"""What no file says: it follows from the field that a range is for."""

REPORTS: dict[str, type[ReportSpec]] = {
    get_args(spec.model_fields["kind"].annotation)[0]: spec for spec in get_args(get_args(Report)[0])
}
CASES: list[tuple[str, int, type[StrictModel]]] = [
    ("A space", 0, SpaceSpec),
    ("Base", 0, BaseSpec),
    ("Solver", 0, SolverSpec),
    ("Grids and axes", 0, GridSpec),
    ("Grids and axes", 1, AxisSpec),
    ("Reports", 0, ReportSpec),
    *((kind, 0, spec) for kind, spec in REPORTS.items()),
    ("Claims", 0, ClaimSpec),
    ("Search", 0, SearchSpec),
    ("Search", 1, RangeSpec),
    ("Stopper", 0, StopperSpec),
]
"""The heading, which table below it, and the class that the table is about."""


def fields_of(spec: type[StrictModel]) -> dict[str, FieldInfo]:
    """The fields that the table of a class has: those of all reports stand in a table of their own."""
    common = {"kind", *ReportSpec.model_fields} if spec in REPORTS.values() else set[str]()
    return {
        name: field
        for name, field in spec.model_fields.items()
        if name not in common and (spec, name) not in INFERRED
    }


def default_of(name: str, field: FieldInfo) -> str:
    """The cell of a field's default: empty where the field must be given."""
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    text = SHORT.get(name) or written(value) or '""'
    return f"`{text}`"


@pytest.mark.parametrize(
    ("heading", "place", "spec"), CASES, ids=lambda value: getattr(value, "__name__", None)
)
def test_every_field_is_there_with_its_default(heading: str, place: int, spec: type[StrictModel]) -> None:
    rows, fields = by_first(tables(SECTIONS[heading])[place]), fields_of(spec)
    assert [*rows] == [*(["kind"] if spec is ReportSpec else []), *fields]
    for name, field in fields.items():
        assert rows[name]["default"] == default_of(name, field), name
        assert rows[name]["type"] and (rows[name]["meaning"] or name in "xy"), name
        if get_origin(field.annotation) is Literal:
            assert rows[name]["type"] == ", ".join(get_args(field.annotation)), name


def test_names_that_are_no_literals_are_there() -> None:
    base, search = by_first(tables(SECTIONS["Base"])[0]), by_first(tables(SECTIONS["Search"])[0])
    assert base["init"]["type"] == ", ".join(INITIALISATIONS)
    assert search["objectives"]["type"] == ", ".join(OBJECTIVES)
    assert all(f"`{name}`" in SECTIONS["Reports"] for name in (*FINAL_METRICS, *SERIES))


def test_fields_of_what_stands_within_a_field_are_there() -> None:
    for heading, spec in (("Claims", Band), ("Claims", EntrySpec), ("Search", ExcludedSpec)):
        inner = spec.model_fields.keys() - {"values"}
        assert [name for name in inner if f"`{name}`" not in SECTIONS[heading]] == []


def test_every_axis_that_needs_no_path_is_there() -> None:
    rows = by_first(tables(SECTIONS["Paths"])[0])
    assert {name: row["path"].strip("`") for name, row in rows.items()} == ALIASES


def test_every_kind_of_report_has_an_example_and_a_table() -> None:
    given = read_yaml(WHOLE, "")
    assert [report["kind"] for report in given["reports"]] == [*REPORTS]
    assert all(tables(SECTIONS[kind]) for kind in REPORTS)


def test_statistics_are_there_with_their_options() -> None:
    rows: dict[str, Row] = {}
    for names, row in STATISTICS_TABLE.items():
        rows |= {name.strip("`"): row for name in names.split(", ")}
    assert rows.keys() == STATISTICS.keys()
    for name, options in STATISTICS.items():
        for option, declared in options.items():
            stated = f"`{option}` ({written(declared.default)}"
            assert stated in rows[name]["options"] or stated in sections(DOCS / "experiments.md")["Claims"], (
                option
            )


def test_the_least_example_loads(tmp_path: Path) -> None:
    (tmp_path / "least.yaml").write_text(LEAST)
    assert len(list(load_space(tmp_path / "least.yaml").points())) == 2
    required = {name for name, field in SpaceSpec.model_fields.items() if field.is_required()}
    assert read_yaml(LEAST, "").keys() == required | {"axes"}


@pytest.mark.parametrize("smoke", [False, True])
def test_the_whole_example_loads(smoke: bool, tmp_path: Path) -> None:
    (tmp_path / "whole.yaml").write_text(WHOLE)
    space = load_space(tmp_path / "whole.yaml", smoke=smoke)
    assert len(list(space.points())) == (14 if smoke else 36)
    space.for_search({}).search.require_budget()


def test_the_whole_example_has_every_section_and_every_field_of_a_cell() -> None:
    given = read_yaml(WHOLE, "")
    assert given.keys() == {*SpaceSpec.model_fields, "smoke"}
    assert given["base"].keys() == BaseSpec.model_fields.keys()


def test_the_example_of_the_readme_loads(tmp_path: Path) -> None:
    (little,) = (text for text in examples(ROOT / "README.md") if text.startswith("name:"))
    (tmp_path / "little.yaml").write_text(little)
    assert len(list(load_space(tmp_path / "little.yaml").points())) == 12
