"""Reading and writing the YAML of a space: plain data only, no surprises.

Of YAML's scalars only null, true/false, whole numbers and decimal numbers are not text (`1e-4` is a number,
`no` and `2024-01-01` are text). Duplicate keys, aliases and tags are refused: a space file says one thing,
once, and cannot run code or unfold into gigabytes.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode

from trainers.errors import ConfigError

MAX_CHARACTERS = 4_000_000
LINE_WIDTH = 100

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
        if self.check_event(AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not allowed", problem_mark=event.start_mark
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
        return int(str(node.value).replace("_", ""))


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
    except ValueError as error:
        raise ConfigError(f"{origin}: not a number that can be read: {error}.") from error


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = (error.problem or "not YAML").strip()
    if "could not determine a constructor for the tag" in problem:
        tag = problem.rpartition(" ")[2]
        return f"the tag {tag} is not allowed; a space is plain data: text, numbers, lists and mappings"
    return problem


def write_yaml(values: Any) -> str:
    """Return plain data as canonical YAML: keys as given, leaves on one line; `read_yaml` gives it back."""
    return yaml.dump(
        values, Dumper=_Writer, sort_keys=False, default_flow_style=None, width=LINE_WIDTH, allow_unicode=True
    )
