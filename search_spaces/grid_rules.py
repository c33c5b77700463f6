"""The rules of a grid's `exclude`: they name what the grid has, and overrides take them along."""

from search_spaces.reports import AxisValue
from search_spaces.schema import GridSpec, SpaceSpec
from search_spaces.strict import shown
from trainers.errors import ConfigError, unknown_name

Rule = dict[str, tuple[AxisValue, ...]]


def require_rules(grid: GridSpec) -> None:
    """Refuse a rule that names no axis, or an axis or a value that its grid does not have.

    Raises:
        ConfigError: One does.
    """
    for index, rule in enumerate(grid.exclude):
        at = f"grids.{grid.name}.exclude[{index}]"
        if not rule:
            raise ConfigError(f"{at}: found no axis; it would exclude everything.")
        for axis, values in rule.items():
            if axis not in grid.axes:
                raise ConfigError(f"{at}: {unknown_name('axis', axis, grid.axes)}")
            labels = grid.axes[axis].labels
            if missing := [value for value in values if value not in labels]:
                allowed = ", ".join(map(str, labels))
                raise ConfigError(f"{at}.{axis}: found {shown(missing[0])}; allowed: {allowed}.")


def fit_rules(spec: SpaceSpec, *before: SpaceSpec) -> SpaceSpec:
    """Fit the rules of a space that overrides have changed: values that an axis has no more are dropped.

    A rule goes where an axis of it has none left, as it excludes nothing then. What the overrides themselves
    say of rules stays as it is.

    Args:
        spec: The space as the overrides left it.
        before: The space that they were made in, and as earlier ones left it.
    """
    rules = [(grid.name, rule) for space in before for grid in space.grids for rule in grid.exclude]
    grids: list[GridSpec] = []
    for grid in spec.grids:
        fitted = (_kept(rule, grid) if (grid.name, rule) in rules else rule for rule in grid.exclude)
        exclude = tuple(rule for rule in fitted if rule is not None)
        grids.append(grid.model_copy(update={"exclude": exclude}))
    return spec.model_copy(update={"grids": tuple(grids)})


def _kept(rule: Rule, grid: GridSpec) -> Rule | None:
    labels = {axis: grid.axes[axis].labels if axis in grid.axes else () for axis in rule}
    kept = {axis: tuple(value for value in values if value in labels[axis]) for axis, values in rule.items()}
    return kept if all(kept.values()) else None
