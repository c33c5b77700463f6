"""Choices from literal tables: a name with options, resolved against the table entry's declared options.

Models, data sets, losses and probes are all chosen this way, so one place checks names, types and ranges,
and one place fills in defaults (an option left out and the same option spelled out are one experiment).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainers.errors import ConfigError, unknown_name

_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}

OptionValue = bool | int | float | str | None | tuple["OptionValue", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One declared option of a table entry.

    Args:
        default: The value when the option is left out; its type is the option's type.
        allowed: The complete list of valid values, or `None`.
        minimum: The least valid number (of each element, for a tuple), or `None`.
        below: A bound that a valid number must stay under, or `None`.
        optional: Whether `None` is a valid value.
        kind: The type, when the default is `None`.
        later: Whether the option came after its table entry was first used: left out of a cell's canonical
            form at its default, so that older addresses stay.
        when: Another option, and the value that it must have for this one to decide anything; otherwise a
            canonical form has the default.
    """

    default: OptionValue
    allowed: tuple[OptionValue, ...] | None = None
    minimum: float | None = None
    below: float | None = None
    optional: bool = False
    kind: type | None = None
    later: bool = False
    when: tuple[str, OptionValue] | None = None

    def deciding(self, value: OptionValue, resolved: Mapping[str, OptionValue]) -> OptionValue:
        """Return the value as it is hashed, beside all options: the default where it decides nothing."""
        if self.when is None or resolved[self.when[0]] == self.when[1]:
            return value
        return self.default

    def left_out(self, value: OptionValue) -> bool:
        """Whether a canonical form says nothing about the option at this value."""
        return self.later and value == self.default

    def check(self, label: str, value: Any) -> OptionValue:
        """Return `value` in its canonical type, or raise `ConfigError` naming `label` and what is allowed."""
        if value is None and (self.optional or self.default is None):
            return None
        kind = self.kind or type(self.default)
        if kind is tuple:
            if not isinstance(value, (list, tuple)):
                raise ConfigError(f"{label}: expected a list, found {value!r}.")
            element = type(self.default[0]) if isinstance(self.default, tuple) and self.default else int
            return tuple(self._scalar(f"{label}[{i}]", item, element) for i, item in enumerate(value))
        return self._scalar(label, value, kind)

    def _scalar(self, label: str, value: Any, kind: type) -> OptionValue:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not kind:
            raise ConfigError(f"{label}: expected {_KINDS[kind]}, found {value!r}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{label}: expected a finite number, found {value!r}.")
        if self.allowed is not None and value not in self.allowed:
            raise ConfigError(f"{label}: found {value!r}; allowed: {', '.join(map(repr, self.allowed))}.")
        if self.minimum is not None and isinstance(value, (int, float)) and not value >= self.minimum:
            raise ConfigError(f"{label}: found {value!r}; must be at least {self.minimum:g}.")
        if self.below is not None and isinstance(value, (int, float)) and not value < self.below:
            raise ConfigError(f"{label}: found {value!r}; must be below {self.below:g}.")
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """A name from a literal table with the options that differ from its defaults.

    Args:
        name: The table's key.
        options: Option values by name; hashable through a sorted tuple of pairs.
    """

    name: str
    options: tuple[tuple[str, OptionValue], ...] = field(default=())

    @classmethod
    def of(cls, name: "str | Choice", **options: Any) -> "Choice":
        """Build a choice; lists become tuples. `Choice.of("mlp", activation="tanh")`."""
        if isinstance(name, Choice):
            return name
        return cls(name, tuple(sorted((key, _frozen(value)) for key, value in options.items())))

    def resolve(self, what: str, declared: Mapping[str, Option]) -> dict[str, OptionValue]:
        """Return every declared option with its value, defaults filled in and values checked.

        Raises:
            ConfigError: An option is unknown, or its value has the wrong type or range.
        """
        given = dict(self.options)
        for name in given:
            if name not in declared:
                raise unknown_name(f"option of {what} {self.name!r}", name, declared)
        return {
            name: option.check(f"{what}.{name}", given[name]) if name in given else option.default
            for name, option in declared.items()
        }

    def canonical(self, what: str, declared: Mapping[str, Option]) -> dict[str, OptionValue]:
        """Return the options as they are hashed: all, but later ones only where they say something."""
        resolved = self.resolve(what, declared)
        hashed = {name: declared[name].deciding(value, resolved) for name, value in resolved.items()}
        return {name: value for name, value in hashed.items() if not declared[name].left_out(value)}

    def __str__(self) -> str:
        if not self.options:
            return self.name
        return f"{self.name}({', '.join(f'{key}={_text(value)}' for key, value in self.options)})"


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


def _text(value: OptionValue) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
