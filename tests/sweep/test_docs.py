"""The page on the command line has every option of every command with its default, and no other."""

import re
from typing import Any

import pytest
import typer

from cluster.commands import register
from sweep.cli import app
from tests.pages import DOCS, Row, sections, tables, written

ROWS = [
    row
    for text in sections(DOCS / "commands.md").values()
    for table in tables(text)
    for row in table
    if "option" in row
]


def options_of(command: Any, *words: str) -> dict[tuple[str, str], Any]:
    """The options of a command and of those below it: the command's words and the option to its default."""
    if hasattr(command, "commands"):
        below = [options_of(one, *words, name) for name, one in command.commands.items()]
        return {key: default for found in below for key, default in found.items()}
    own = [one for one in command.params if one.param_type_name == "option"]
    return {(" ".join(words), option.opts[0]): option.default for option in own}


@pytest.fixture(scope="module")
def options() -> dict[tuple[str, str], Any]:
    register(app)
    return options_of(typer.main.get_command(app))


def named(row: Row) -> tuple[str, list[str]]:
    """The option of a row, and the commands that it names."""
    return row["option"].strip("`"), re.findall(r"`([^`]+)`", row["of"])


def test_every_option_has_a_row(options: dict[tuple[str, str], Any]) -> None:
    assert {option for _, option in options} == {named(row)[0] for row in ROWS}


def test_rows_name_commands_that_have_the_option(options: dict[tuple[str, str], Any]) -> None:
    for row in ROWS:
        option, commands = named(row)
        assert [command for command in commands if (command, option) not in options] == [], option


def test_rows_name_every_command_that_has_the_option(options: dict[tuple[str, str], Any]) -> None:
    # One whose row names none has it in words.
    for option in {option for option, commands in map(named, ROWS) if commands}:
        found = {command for one, commands in map(named, ROWS) if one == option for command in commands}
        assert found == {command for command, one in options if one == option}, option


def test_defaults_are_those_of_the_command_that_is_named_first(options: dict[tuple[str, str], Any]) -> None:
    for row in ROWS:
        option, commands = named(row)
        default = options[commands[0], option] if commands else None
        # What is off, or follows from the surroundings, has none.
        shown = "" if default is None or isinstance(default, bool) else f"`{written(default)}`"
        assert row["default"] == shown and row["meaning"], option
