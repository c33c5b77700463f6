"""Reading and writing the YAML of a space: plain data only, no surprises.

Of YAML's scalars only null, true/false, whole numbers and decimal numbers are not text (`1e-4` is a number,
`no` and `2024-01-01` are text). Duplicate keys, aliases and tags are refused: a space file says one thing,
once, and cannot run code or unfold into gigabytes. So are numbers that nothing here could hold and text
that no file could.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.events import AliasEvent, NodeEvent
from yaml.nodes import MappingNode, Node, ScalarNode

from trainers.errors import ConfigError

MAX_CHARACTERS = 4_000_000
LINE_WIDTH = 100
LARGEST_WHOLE = 2**63 - 1
"""Of what Parquet, SQL and tensors hold."""

NUMBER_SHOWN = 24

_RESOLVERS = {
    "null": (r"^(?:~|null|)$", ["~", "n", ""]),
    "bool": (r"^(?:true|false)$", list("tf")),
    "int": (r"^[-+]?[0-9][0-9_]*$", list("-+0123456789")),
    "float": (
        r"^(?:[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$",
        list("-+.0123456789"),
    ),
}


class _Reader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()
        if isinstance(event, AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not allowed", problem_mark=event.start_mark
            )
        if isinstance(event, NodeEvent) and (tag := getattr(event, "tag", None)) is not None:
            raise yaml.MarkedYAMLError(
                problem=f"the tag {_shown_tag(tag)} is not allowed; a space is plain data: text, numbers, "
                "lists and mappings",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float)):
                raise yaml.MarkedYAMLError(
                    problem="a key must be text or a number", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} occurs twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_decimal_int(self, node: ScalarNode) -> int:
        text = str(node.value).replace("_", "")
        digits = text.lstrip("+-").lstrip("0") or "0"
        # Python does not read a number of thousands of digits.
        if len(digits) <= len(str(LARGEST_WHOLE)) and int(digits) <= LARGEST_WHOLE:
            return -int(digits) if text.startswith("-") else int(digits)
        shown = text if len(text) <= NUMBER_SHOWN else f"{text[:NUMBER_SHOWN]}…"
        raise yaml.MarkedYAMLError(
            problem=f"found the whole number {shown}; allowed: -{LARGEST_WHOLE} to {LARGEST_WHOLE}",
            problem_mark=node.start_mark,
        )

    def construct_text(self, node: ScalarNode) -> str:
        text = str(node.value)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise yaml.MarkedYAMLError(
                problem="found half of a surrogate pair, which is no letter; write the letter itself",
                problem_mark=node.start_mark,
            )
        return text


class _Writer(yaml.SafeDumper):
    # The reader's rules decide what has to be quoted.
    yaml_implicit_resolvers = _Reader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, data: str) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


for _tag, (_pattern, _first) in _RESOLVERS.items():
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_Reader.add_constructor("tag:yaml.org,2002:int", _Reader.construct_decimal_int)
_Reader.add_constructor("tag:yaml.org,2002:str", _Reader.construct_text)
_Writer.yaml_implicit_resolvers = _Reader.yaml_implicit_resolvers
_Writer.add_representer(str, _Writer.represent_text)


def read_yaml(text: str, origin: str) -> Any:
    """Return the plain data of a YAML document.

    Raises:
        ConfigError: It is not YAML, or uses what is not allowed; with line and column.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{origin}: found {len(text)} characters; allowed: at most {MAX_CHARACTERS}.")
    try:
        return yaml.load(text, Loader=_Reader)  # noqa: S506 - a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{origin}{place}: {_problem(error)}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not YAML: {str(error).splitlines()[0]}.") from error
    except RecursionError as error:
        raise ConfigError(f"{origin}: nested too deeply.") from error


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = (error.problem or "not YAML").strip()
    # Of two documents: "expected a single document in the stream", "but found another document".
    return f"{error.context}, {problem}" if error.context and problem.startswith("but ") else problem


def _shown_tag(tag: str) -> str:
    return repr(tag.replace("tag:yaml.org,2002:", "!!"))


def write_yaml(values: Any) -> str:
    """Return plain data as canonical YAML: keys as given, leaves on one line; `read_yaml` gives it back."""
    return yaml.dump(
        values, Dumper=_Writer, sort_keys=False, default_flow_style=None, width=LINE_WIDTH, allow_unicode=True
    )
