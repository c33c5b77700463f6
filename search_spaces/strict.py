"""The base of every model of the schema, and how a failed validation is told to the user.

A complaint names the dotted path, what was found and what is allowed; an unknown field is answered with the
nearest valid one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, cast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from trainers.errors import ConfigError, unknown_name

MAX_COMPLAINTS = 5
MAX_SHOWN = 80

_COMPLAINT = "complaint"
_UNION_TAGS = ("heatmap", "table", "curves", "finals", "spectrum", "profile", "path", "levels", "density")
_INFINITIES = {"inf": math.inf, "+inf": math.inf, "-inf": -math.inf}


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


def config_error(error: ValidationError, origin: str, *, at: Sequence[str] = ()) -> ConfigError:
    """Turn pydantic's findings into one message.

    Args:
        error: What pydantic found.
        origin: Where the values came from: a file, an option.
        at: Path of the validated value within the origin.
    """
    found = error.errors(include_url=False)
    lines = [_line(dict(item), at) for item in found[:MAX_COMPLAINTS]]
    if len(found) > MAX_COMPLAINTS:
        lines.append(f"and {len(found) - MAX_COMPLAINTS} more.")
    return ConfigError(f"{origin}: " + "\n".join(lines))


def _line(item: Mapping[str, Any], at: Sequence[str]) -> str:
    path = dotted((*at, *(part for part in item["loc"] if part not in _UNION_TAGS)))
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
