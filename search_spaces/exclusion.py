"""What a search never runs: rules over its axes and its seeds, by values or by a range.

    exclude:
      - {alpha_dom: .inf, beta_bulk: .inf}
      - {lr: {low: 1}, alpha_dom: [1, 2]}      # both: a rate from 1 on, and one of two divisors

A configuration is excluded when a rule holds in all the axes that it names.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

from pydantic import model_validator

from search_spaces.reports import AxisValue
from search_spaces.strict import Number, StrictModel, complain, infinity, shown


class ExcludedSpec(StrictModel):
    """Values of one axis.

    Attributes:
        values: These, where there are any.
        low: Or numbers from here on; `None` is no bound.
        high: And up to here.
    """

    values: tuple[AxisValue, ...] = ()
    low: Number | None = None
    high: Number | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        if bool(self.values) == ((self.low, self.high) != (None, None)):
            complain("expected values, or a range with low, high or both.")
        if not low <= high:
            complain(f"found low {low:g} and high {high:g}; low must not be above high.")
        return self

    def holds(self, value: AxisValue) -> bool:
        """Whether a value of the axis is meant."""
        if self.values:
            return value in self.values
        if isinstance(value, str):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


Rule = dict[str, ExcludedSpec]


def long_rules(given: Any) -> Any:
    """Write the short forms out: one value, or several."""
    if not isinstance(given, (list, tuple)):
        return given
    return [_long_rule(rule) for rule in cast("Sequence[Any]", given)]


def _long_rule(rule: Any) -> Any:
    if not isinstance(rule, Mapping):
        complain(f"exclude: expected mappings of axes to values, found {shown(rule)}.")
    long: dict[str, Any] = {}
    for axis, given in cast("Mapping[str, Any]", rule).items():
        if isinstance(given, (Mapping, ExcludedSpec)):
            long[axis] = given
            continue
        values = cast("Sequence[Any]", given) if isinstance(given, (list, tuple)) else [given]
        long[axis] = {"values": [infinity(value) for value in values]}
    return long


def is_excluded(rules: Sequence[Rule], values: Mapping[str, AxisValue]) -> bool:
    """Whether a rule holds for these values of axes."""
    return any(
        all(axis in values and spec.holds(values[axis]) for axis, spec in rule.items()) for rule in rules
    )
