"""The base of every model of the schema, and how a failed validation is told to the user.

A complaint names the dotted path, what was found and what is allowed; an unknown field is answered with the
nearest valid one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NoReturn, cast

from pydantic import BaseModel, ConfigDict, Strict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from trainers.errors import ConfigError, unknown_name

MAX_COMPLAINTS = 5
MAX_SHOWN = 80

_COMPLAINT = "complaint"
_UNION_TAGS = (
    "heatmap",
    "table",
    "curves",
    "finals",
    "spectrum",
    "profile",
    "path",
    "separation",
    "levels",
    "density",
)
_SCALARS = ("float", "int", "str")
"""The last part of pydantic's places where a value may be either."""

_SCALAR = "scalar"
_ALLOWED = {
    _SCALAR: "a number or text",
    "string_type": "text",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "at most {max_length} characters",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "too_short": "a list of at least {min_length}",
}
"""What pydantic calls by the names of Python, in the words of YAML."""

_INFINITIES = {"inf": math.inf, "+inf": math.inf, "-inf": -math.inf}


Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
"""Without these pydantic takes the text "5" for a number and "no" for a truth value."""


class StrictModel(BaseModel):
    """A frozen model that refuses fields it does not know, with the nearest one it does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for key in cast("Mapping[Any, Any]", values):
                if key not in cls.model_fields:
                    complain_unknown("field", key, cls.model_fields)
        return cast("Any", values)


def complain(text: str) -> NoReturn:
    """Fail a validation with `text`; pydantic adds the path."""
    raise PydanticCustomError(_COMPLAINT, "{text}", {"text": text})


def complain_unknown(what: str, name: object, valid: Iterable[str]) -> NoReturn:
    """Fail a validation because `name` is none of `valid`."""
    complain(str(unknown_name(what, name, valid)))


def shown(value: object) -> str:
    """Write a value that was found, shortened."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def infinity(value: Any) -> Any:
    """Read the text "inf" as the number; anything else is returned as it is."""
    return _INFINITIES.get(value.strip().lower(), value) if isinstance(value, str) else value


def config_error(
    error: ValidationError, origin: str, *, at: Sequence[str] = (), hidden: Sequence[Any] = ()
) -> ConfigError:
    """Turn pydantic's findings into one message.

    Args:
        error: What pydantic found.
        origin: Where the values came from: a file, an option.
        at: Path of the validated value within the origin.
        hidden: First parts of a path that the origin does not have: a short form was written out.
    """
    found = _each_mistake_once(error)
    lines = [_line(item, at, hidden) for item in found[:MAX_COMPLAINTS]]
    if len(found) > MAX_COMPLAINTS:
        lines.append(f"and {len(found) - MAX_COMPLAINTS} more.")
    return ConfigError(f"{origin}: " + "\n".join(lines))


def _each_mistake_once(error: ValidationError) -> list[dict[str, Any]]:
    """Drop what pydantic says beside a mistake because of it.

    A list with a bad item is "too short" as well, and a value that is no number is no text either.
    """
    found = [cast("dict[str, Any]", dict(item)) for item in error.errors(include_url=False)]
    at_place: dict[tuple[Any, ...], dict[str, Any]] = {}
    for item in found:
        loc = item["loc"]
        if item["type"] == "too_short" and any(
            len(o["loc"]) > len(loc) and o["loc"][: len(loc)] == loc for o in found
        ):
            continue
        if loc and loc[-1] in _SCALARS:
            loc, item = loc[:-1], {**item, "loc": loc[:-1], "type": _SCALAR}
        at_place.setdefault((*loc, item["type"] == "missing"), item)
    return list(at_place.values())


def _line(item: Mapping[str, Any], at: Sequence[str], hidden: Sequence[Any]) -> str:
    loc = item["loc"][len(hidden) :] if item["loc"][: len(hidden)] == tuple(hidden) else item["loc"]
    path = dotted((*at, *(part for part in loc if part not in _UNION_TAGS)))
    prefix = f"{path}: " if path else ""
    if item["type"] == "missing":
        return prefix + "missing; it is required."
    if item["type"] == "union_tag_not_found":
        return prefix + f"kind is missing; allowed: {', '.join(_UNION_TAGS)}."
    if item["type"] == "union_tag_invalid":
        return f"{prefix}kind: " + str(unknown_name("kind of report", item["ctx"]["tag"], _UNION_TAGS))
    return prefix + expected(item)


def expected(item: Mapping[str, Any]) -> str:
    """Say what one of pydantic's findings expected and what it found, without the path."""
    if item["type"] == _COMPLAINT:
        return str(item["msg"])
    allowed = str(item["msg"]).removeprefix("Input should ").removeprefix("be ")
    for kind, text in _ALLOWED.items():
        if item["type"] == kind:
            allowed = text.format(**item.get("ctx", {}))
    return f"expected {allowed}, found {shown(item['input'])}."


def dotted(parts: Iterable[object]) -> str:
    """Join the parts of a path."""
    return ".".join(str(part) for part in parts)


def plain_data(value: Any, *, compact: bool = False) -> Any:
    """Return validated values as YAML has them: mappings, lists and scalars.

    Args:
        value: A model, or what models are made of.
        compact: Leave out the fields that are off or empty unless stated, and are.
    """
    if isinstance(value, StrictModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        if compact:
            fields = {name: item for name, item in fields.items() if not _is_unused(type(value), name, item)}
        return {name: plain_data(item, compact=compact) for name, item in fields.items()}
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {key: plain_data(item, compact=compact) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [plain_data(item, compact=compact) for item in cast("Sequence[Any]", value)]
    return value


def _is_unused(model: type[StrictModel], name: str, value: Any) -> bool:
    default = model.model_fields[name].get_default(call_default_factory=True)
    return value == default and (value is None or value in ((), {}, ""))
