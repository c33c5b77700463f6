"""Reports after overrides: filters lose values that are gone, titles and reports that no longer hold go.

A report without a title is named after its space and itself.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, cast

from search_spaces.report_checks import axis_labels, shows
from search_spaces.reports import Filter, Report
from search_spaces.schema import SpaceSpec
from search_spaces.strict import plain_data

PARTED = {"name", "title", "where", "highlight"}
"""In what reports differ that are one, parted by a filter, so that each part has its own highlight."""


def fit_reports(
    spec: SpaceSpec, before: SpaceSpec, paths: Sequence[str], earlier: Sequence[str] = ()
) -> SpaceSpec:
    """Fit the reports of a space that overrides have changed.

    Values of `where` that an axis has no more are dropped; a filter that lost all but null goes altogether,
    and the report shows every value of that axis. Unless overrides speak of it, it goes with its filter where
    another report is left that shows the same of other values. Unless the overrides gave one, a title goes
    where the filter has changed; and the report's own name takes its place, or that of the space's
    description, where they name a setting (a data set, a model, a label of an axis) that is there no more.

    Args:
        spec: The space as the overrides left it.
        before: The space that they were made in, its reports fitted.
        paths: What they set.
        earlier: What was set before.
    """
    given = _titles_given(spec, paths)
    filters = {report.name: report.where for report in before.reports}
    gone = _settings(before) - _settings(spec)
    heading = spec.description.strip().partition("\n")[0]
    fitting = {report.name: _fitting(report, spec) for report in spec.reports}
    kept = _spoken_of(spec, [*earlier, *paths])
    reports: list[Report] = []
    for report in spec.reports:
        if report.name not in kept and _is_shown_elsewhere(report, spec.reports, fitting):
            continue
        where, title = fitting[report.name], report.title
        if report.name not in given:
            title = title if where == filters.get(report.name, where) else ""
            title = report.name if any(_names(title or heading, one) for one in gone) else title
        reports.append(report.model_copy(update={"where": where, "title": title}))
    return spec.model_copy(update={"reports": tuple(reports)})


def _is_shown_elsewhere(report: Report, reports: Sequence[Report], fitting: Mapping[str, Filter]) -> bool:
    """Whether a report has lost a filter, and another part of it has not, or comes before it."""
    if not (lost := report.where.keys() - fitting[report.name].keys()):
        return False
    parts = [
        other.name
        for other in reports
        if lost <= other.where.keys() and _whole(other, lost) == _whole(report, lost)
    ]
    kept = [name for name in parts if lost <= fitting[name].keys()]
    return (kept or parts)[0] != report.name


def _whole(report: Report, lost: Set[str]) -> dict[str, Any]:
    """Return what a report shows without its filter of some axes."""
    where = {axis: values for axis, values in report.where.items() if axis not in lost}
    return {**report.model_dump(exclude=PARTED), "where": where}


def _fitting(report: Report, spec: SpaceSpec) -> Filter:
    grids = [grid for grid in spec.grids if shows(report, grid)]
    where: Filter = {}
    for axis, values in report.where.items():
        labels = axis_labels(axis, grids)
        kept = tuple(value for value in values if value in labels)
        # Null alone, "the points without this axis", is a filter as long as some have the axis.
        whole = kept == values and set(labels) != {None}
        if whole or set(kept) - {None}:
            where[axis] = kept
    return where


def _titles_given(spec: SpaceSpec, paths: Sequence[str]) -> set[str]:
    """Return the reports whose titles, or all of them, were set."""
    titles = [path for path in paths if path.split(".")[2:] in ([], ["title"])]
    every = any(path.split(".")[:2] == ["reports", "*"] for path in titles)
    return {report.name for report in spec.reports} if every else _spoken_of(spec, titles)


def _spoken_of(spec: SpaceSpec, paths: Sequence[str]) -> set[str]:
    """Return the reports of which something, or all, was set by itself."""
    names = [report.name for report in spec.reports]
    found: set[str] = set()
    for path in paths:
        match path.split("."):
            case ["reports"]:
                found.update(names)
            case ["reports", which, *_]:
                places = ((name, str(at), str(at - len(names))) for at, name in enumerate(names))
                found.update(place[0] for place in places if which in place)
            case _:
                pass
    return found


def _settings(spec: SpaceSpec) -> set[str]:
    """Return every text that the cells of a space are made of: names, and labels of axes."""
    return set(_texts([plain_data(spec.base), plain_data(spec.grids)]))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, Mapping):
        for key, item in cast("Mapping[Any, Any]", value).items():
            if key == "choices" and isinstance(item, Mapping):
                yield from (label for label in cast("Mapping[Any, Any]", item) if isinstance(label, str))
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in cast("Iterable[Any]", value):
            yield from _texts(item)


def _names(title: str, setting: str) -> bool:
    """Whether a title has the name of a setting in it, as it is written in words."""
    words = re.escape(setting.replace("_", "-"))
    return re.search(rf"(?<![\w-]){words}(?![\w-])", title.replace("_", "-"), re.IGNORECASE) is not None
