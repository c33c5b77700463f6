"""Names and addresses can be typed as they are printed, however narrow the terminal is."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from sweep.console import UNLIMITED, add_typed_column, output

NAMES = ["zs25-fig1-smoke-with-a-long-name", "b"]
ADDRESSES = "7c30d62e5c487644 50f36c45d7b814db"


@pytest.mark.parametrize("width", [60, 80])
def test_what_one_types_stays_whole(width: int) -> None:
    table = Table(box=None)
    add_typed_column(table, "sweep", NAMES)
    table.add_column("what it is")
    add_typed_column(table, "cells", ADDRESSES.split())
    for name in NAMES:
        table.add_row(name, "a description that is long enough", ADDRESSES)
    said = io.StringIO()
    Console(file=said, width=width, soft_wrap=True).print(table)
    for word in (*NAMES, *ADDRESSES.split()):
        assert word in said.getvalue()
    assert "…" not in said.getvalue()


def test_what_is_no_terminal_has_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert output().width == UNLIMITED
    monkeypatch.setenv("COLUMNS", "60")
    assert output().width == 60


def test_what_is_printed_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["SGD [a]", "SGD [b]", "[/x]", ":smile:", "[bold]lr[/bold]"]
    table = Table(*labels, title="[t]")
    table.add_row(*labels)
    for stderr in (False, True):
        output(stderr=stderr).print(table)
        output(stderr=stderr).print("[y/N] [/y]")
    told = capsys.readouterr()
    for shown in (told.out, told.err):
        assert all(shown.count(label) == 2 for label in labels) and "[t]" in shown and "[y/N] [/y]" in shown
