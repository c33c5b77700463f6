"""The schema of a cell in a space file: its fields, one by one, and the dotted paths that name them."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, Strict, TypeAdapter, ValidationError

from search_spaces.strict import (
    StrictModel,
    complain,
    complain_unknown,
    config_error,
    expected,
    infinity,
    shown,
)
from trainers.cell import INITIALISATIONS
from trainers.data import DATASETS
from trainers.errors import ConfigError
from trainers.losses import LOSSES
from trainers.models import MODELS
from trainers.optimizers import OPTIMIZERS
from trainers.options import Choice, Option
from trainers.probes import PROBES

Count = Annotated[int, Strict(), Field(ge=1)]
Index = Annotated[int, Strict(), Field(ge=0)]
AtLeastOne = Annotated[float, Strict(), BeforeValidator(infinity), Field(ge=1, allow_inf_nan=False)]
Positive = Annotated[float, Strict(), BeforeValidator(infinity), Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Strict(), Field(ge=0, lt=1)]
Divisor = Annotated[float, Strict(), BeforeValidator(infinity), Field(gt=0)]


def _choice(what: str, options_of: Mapping[str, Mapping[str, Option]], *reserved: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or not isinstance(cast("Any", value).get("name"), str):
            complain(f"expected a name, or a mapping with `name` and options; found {shown(value)}.")
        given = dict(cast("Mapping[str, Any]", value))
        if unnamed := [key for key in given if not isinstance(cast("Any", key), str)]:
            complain(f"found {shown(unnamed[0])} as the name of an option; expected text.")
        name = given.pop("name")
        if name not in options_of:
            complain_unknown(what, name, options_of)
        options = {key: item for key, item in given.items() if key not in reserved}
        try:
            Choice.of(name, **options).resolve(what, options_of[name])
        except ConfigError as error:
            complain(str(error))
        return {"name": name, **given}

    return BeforeValidator(check)


def _one_of(what: str, valid: Sequence[str]) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value not in valid:
            complain_unknown(what, value, valid)
        return value

    return BeforeValidator(check)


def _name_alone(value: Any) -> Any:
    """A choice without options is written as its name."""
    return value["name"] if isinstance(value, Mapping) and len(cast("Options", value)) == 1 else value


def _step_or_condition(value: Any) -> Any:
    if isinstance(value, ConditionSpec):
        return value
    if not isinstance(value, Mapping):
        return validated(TypeAdapter(Index), value)
    try:
        return ConditionSpec.model_validate(value)
    except ValidationError as error:
        complain(str(config_error(error, "condition")))


def _probe_period(value: dict[str, Any]) -> dict[str, Any]:
    every = value.get("every")
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        complain(f"every: expected a whole number of at least 1, found {shown(every)}.")
    return value


Options = dict[str, Any]
ModelChoice = Annotated[Options, _choice("model", {name: entry.options for name, entry in MODELS.items()})]
DatasetChoice = Annotated[
    Options, _choice("dataset", {name: entry.options for name, entry in DATASETS.items()})
]
LossChoice = Annotated[Options, _choice("loss", {name: entry.options for name, entry in LOSSES.items()})]
ProbeChoice = Annotated[
    Options,
    BeforeValidator(_probe_period),
    _choice("probe", {name: entry.options for name, entry in PROBES.items()}, "every"),
]
OptimizerChoice = Annotated[
    str | Options,
    AfterValidator(_name_alone),
    _choice("optimizer", {name: entry.options for name, entry in OPTIMIZERS.items()}),
]
InitName = Annotated[str, _one_of("init", INITIALISATIONS)]


class ConditionSpec(StrictModel):
    """A condition on which a phase ends; see `trainers.cell.Condition`."""

    chi_above: Fraction
    at_most: Count
    ema: Fraction = 0.9
    every: Count = 10
    k: Count | None = None
    holdout_size: Count | None = None
    holdout_seed: Index = 0
    tolerance: Positive = 2e-2


class PhaseSpec(StrictModel):
    """A phase; see `trainers.cell.Phase`."""

    lr: Positive
    until: Annotated[int | ConditionSpec, BeforeValidator(_step_or_condition)]
    optimizer: OptimizerChoice = "sgd"
    alpha_dom: Divisor = 1.0
    beta_bulk: Divisor = 1.0
    k: Count | None = None
    carry: Annotated[bool, Strict()] = True


class SolverSpec(StrictModel):
    """Accuracy of the eigenspace tracker; see `trainers.cell.Solver`."""

    tolerance: Positive = 5e-2
    guard: Index = 2
    max_products: Count = 6
    max_cold_products: Count = 40
    order: Literal["algebraic", "magnitude"] = "algebraic"


class BaseSpec(StrictModel):
    """The cell that the grids vary; see `trainers.cell.Cell`."""

    model: ModelChoice
    dataset: DatasetChoice
    loss: LossChoice = Field(default_factory=lambda: {"name": "mse"})
    seed: Index = 0
    batch_size: Count = 50
    holdout_size: Count | None = 500
    holdout_seed: Index = 0
    refresh_every: Count = 10
    solver: SolverSpec = Field(default_factory=SolverSpec)
    init: InitName = "pytorch"
    divergence_factor: AtLeastOne = 10.0
    divergence_every: Count = 100
    evaluate_every: Count = 100
    probes: tuple[ProbeChoice, ...] = ()
    phases: tuple[PhaseSpec, ...] = Field(min_length=1)


ALIASES: dict[str, str] = {
    **{name: f"phases.-1.{name}" for name in ("lr", "alpha_dom", "beta_bulk", "k", "optimizer")},
    "num_steps": "phases.-1.until",
    "switch_step": "phases.0.until",
    **{name: name for name in BaseSpec.model_fields if name not in ("solver", "probes", "phases")},
}
"""Axes that need no path: the name says where the values go."""


def field_adapter(path: str) -> TypeAdapter[Any] | None:
    """Return the validator of the field that a dotted path of a cell names; `None` for an option of a choice.

    Raises:
        PydanticCustomError: No cell has such a field.
    """
    if not isinstance(cast("Any", path), str):
        complain(f"expected a dotted path of the cell, found {shown(path)}.")
    head, *rest = path.split(".")
    if head not in BaseSpec.model_fields:
        complain_unknown("cell field", head, BaseSpec.model_fields)
    owner: type[StrictModel] = BaseSpec
    if head in ("phases", "probes"):
        if len(rest) != 2 or not (rest[0] == "*" or rest[0].removeprefix("-").isdecimal()):
            complain(f"found path {path!r}; a path into {head} is {head}.<index or *>.<field>.")
        owner, field = PhaseSpec, rest[1]
        if head == "probes":
            return TypeAdapter(Count | None) if field == "every" else None
    elif head == "solver":
        if len(rest) != 1:
            complain(f"found path {path!r}; a path into the solver is solver.<field>.")
        owner, field = SolverSpec, rest[0]
    elif head in ("model", "dataset", "loss") and len(rest) == 1:
        return None
    else:
        if rest:
            complain(f"found path {path!r}; {head} has no parts.")
        field = head
    if field not in owner.model_fields:
        complain_unknown("cell field", f"{path}", _siblings(path, owner))
    return _field_type(owner, field)


def takes_whole_numbers(base: BaseSpec, changes: Mapping[str, Any], path: str) -> bool | None:
    """Return whether an option of a choice is a whole number; `None` where nothing declares it.

    Args:
        base: The cell.
        changes: What is set in it, by path.
        path: Of the option.
    """
    head, *place, option = path.split(".")
    tables: dict[str, Mapping[str, Any]] = {"model": MODELS, "dataset": DATASETS, "loss": LOSSES}
    chosen = changes.get(head) or getattr(base, head)
    if place:
        index = 0 if place[0] == "*" else int(place[0])
        chosen = base.probes[index] if -len(base.probes) <= index < len(base.probes) else ""
    name = cast("Options", chosen).get("name") if isinstance(chosen, Mapping) else chosen
    entry = tables.get(head, PROBES).get(str(name))
    declared: Option | None = None if entry is None else entry.options.get(option)
    return None if declared is None else (declared.kind or type(declared.default)) is int


def _siblings(path: str, owner: type[StrictModel]) -> list[str]:
    return [f"{path.rpartition('.')[0]}.{name}" for name in owner.model_fields]


# Pydantic takes a third of a millisecond to build one, and an axis asks for one a value.
@lru_cache
def _field_type(owner: type[StrictModel], field: str) -> TypeAdapter[Any]:
    info = owner.model_fields[field]
    annotation: Any = info.annotation
    for constraint in info.metadata:
        annotation = Annotated[annotation, constraint]
    return TypeAdapter(annotation)


def checked(path: str, value: Any) -> Any:
    """Return a value for a path in the field's type.

    Raises:
        PydanticCustomError: The path or the value is not valid.
    """
    return validated(field_adapter(path), value)


def validated(adapter: TypeAdapter[Any] | None, value: Any) -> Any:
    """Return a value as the field's validator has it, or fail with one sentence and no path."""
    if adapter is None:
        if _has_mapping(value):
            complain(f"expected a number, text, true or false, null, or a list; found {shown(value)}.")
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        complain(expected(dict(found)))


def _has_mapping(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_has_mapping(item) for item in cast("Sequence[Any]", value))
    return isinstance(value, Mapping)
