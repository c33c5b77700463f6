"""The pages of docs/ as tests read them: sections, tables, examples, and values as they are written there."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

Row = dict[str, str]


def sections(page: Path) -> dict[str, str]:
    """Return what stands under each heading, of whatever depth, up to the next one."""
    parts = re.split(r"^#+ (.+)\n", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def examples(page: Path) -> list[str]:
    """Return the YAML of a page, block by block."""
    return re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def tables(text: str) -> list[list[Row]]:
    """Return the tables of a text: rows, each a cell by its heading."""
    found: list[list[Row]] = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        heads, _, *rows = [re.split(r" *\| *", line)[1:-1] for line in block.splitlines()]
        found.append([dict(zip(heads, row, strict=True)) for row in rows])
    return found


def by_first(table: list[Row]) -> dict[str, Row]:
    """Return the rows of a table by what stands in their first cells."""
    return {next(iter(row.values())).strip("`"): row for row in table}


def written(value: Any) -> str:
    """Return a value as a page writes it: as YAML does, numbers as short as they can be."""
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case int() | float():
            return f"{value:g}".replace("e-0", "e-")
        case list() | tuple():
            return f"[{', '.join(map(written, value))}]"
        case _:
            return str(value)
