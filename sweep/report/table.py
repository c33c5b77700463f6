"""Tables like ZS25 tables 1 and 2, as Markdown, CSV and figures.

The best value of each block (each value of the first row axis) is bold, diverged runs are red. A reference
grid (plain SGD, which has no k and no holdout) fills further columns, see `sweep.report.reference`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces.reports import AxisValue, TableSpec
from sweep.record import Record
from sweep.report.canvas import MEAN_AND_SPREAD, Canvas, caption, house_style, title_of
from sweep.report.labels import (
    MetricLabel,
    axis_label,
    combination,
    grid_label,
    metric_label,
    plain,
    tidy,
)
from sweep.report.points import (
    Key,
    axis_values,
    group,
    ordered_keys,
    select,
    unshown_axes,
    value_of,
)
from sweep.report.reference import reference_columns
from sweep.report.states import Pool, State, pool
from sweep.report.summary import csv_text, raw

ACCURACY_DECIMALS = 2
LOSS_DIGITS = 4
RED, ORANGE, FAINT, RULE = "#c62828", "#b26a00", "#777777", "#222222"
ROW_HEIGHT, HEADER_HEIGHT, CHARACTER, PAD = 0.25, 0.3, 0.078, 0.3
TEXT_SIZE = 8.5

_PLAIN = (State.OK, State.STOPPED, State.PARTLY_STOPPED, State.PARTIAL)

# Marks that survive where colours do not.
_MARK = {
    State.DIVERGED: "†",
    State.PARTLY_DIVERGED: "‡",
    State.PARTIAL: "§",
    State.STOPPED: "¶",
    State.PARTLY_STOPPED: "‖",
}
_MEANING = {
    State.DIVERGED: "the loss diverged; the last finite value is shown (red)",
    State.PARTLY_DIVERGED: "some seeds diverged; mean over the others",
    State.PARTIAL: "some seeds have not ended; mean over the others",
    State.STOPPED: "stopped early",
    State.PARTLY_STOPPED: "some seeds were stopped early; mean over the others",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableData:
    """A table as plain values.

    Args:
        metric: The metric.
        row_axes: Axes that name the rows.
        column_axis: Axis along the columns.
        reference: Name of the reference grid, or `None`.
        row_keys: One key per row, in display order.
        columns: Values along the columns; `None` stands for a reference column, last.
        reference_axes: Axes of the reference grid that the rows lack and that make a difference.
        reference_keys: Their values, one key per reference column.
        pools: One entry per row and column, in the metric's own unit.
        best: Places that hold the best value of their block.
        left_out: Grid points outside the reference that lack the column axis and so have no place.
    """

    metric: str
    row_axes: tuple[str, ...]
    column_axis: str
    reference: str | None
    row_keys: tuple[Key, ...]
    columns: tuple[AxisValue | None, ...]
    reference_axes: tuple[str, ...]
    reference_keys: tuple[Key, ...]
    pools: tuple[tuple[Pool, ...], ...]
    best: frozenset[tuple[int, int]]
    left_out: int


def table_data(record: Record, spec: TableSpec) -> TableData:
    """Arrange a sweep as a table."""
    chosen = select(record, spec)
    main = [
        p
        for p in chosen
        if record.grids[p] != spec.reference and value_of(record, p, spec.columns) is not None
    ]
    row_axes = (*spec.rows, *unshown_axes(record, main, (*spec.rows, spec.columns)))
    groups = group(record, main, (*row_axes, spec.columns))
    row_keys = tuple(ordered_keys(key[:-1] for key in groups))
    columns = axis_values(record, main, spec.columns)
    rows = [
        [
            pool([record.outcomes[c] for c in groups.get((*key, column), ())], spec.metric)
            for column in columns
        ]
        for key in row_keys
    ]
    compared = reference_columns(record, spec, row_axes, row_keys)
    pools = tuple((*row, *beside) for row, beside in zip(rows, compared.rows, strict=True))
    return TableData(
        metric=spec.metric,
        row_axes=row_axes,
        column_axis=spec.columns,
        reference=spec.reference,
        row_keys=row_keys,
        columns=(*columns, *(None for _ in compared.keys)),
        reference_axes=compared.axes,
        reference_keys=compared.keys,
        pools=pools,
        best=_best(row_keys, pools, lower=metric_label(spec.metric).lower_is_better),
        left_out=sum(record.grids[p] != spec.reference for p in chosen) - len(main),
    )


def _best(
    row_keys: Sequence[Key], pools: Sequence[Sequence[Pool]], *, lower: bool
) -> frozenset[tuple[int, int]]:
    blocks: dict[AxisValue | None, list[tuple[int, int]]] = {}
    for row, key in enumerate(row_keys):
        blocks.setdefault(key[0], []).extend((row, column) for column in range(len(pools[row])))
    best: set[tuple[int, int]] = set()
    for places in blocks.values():
        means = {at: pools[at[0]][at[1]].mean for at in places if pools[at[0]][at[1]].state.has_value}
        if means:
            goal = min(means.values()) if lower else max(means.values())
            best |= {at for at, mean in means.items() if mean == goal}
    return frozenset(best)


def _spans(data: TableData) -> dict[int, dict[int, int]]:
    """Return, by reference column, first row to number of rows of each stretch that shows one value."""
    found: dict[int, dict[int, int]] = {}
    for column in (at for at, value in enumerate(data.columns) if value is None):
        spans = found.setdefault(column, {})
        first = 0
        for row, key in enumerate(data.row_keys):
            places = data.pools[row][column], data.pools[first][column]
            same = row > 0 and key[0] == data.row_keys[first][0] and places[0] == places[1]
            first = first if same else row
            spans[first] = row - first + 1
    return found


def _text(place: Pool, spec: TableSpec, label: MetricLabel) -> str:
    """Write the mean and spread of one place, without emphasis; the state where there is no value."""
    if math.isnan(place.mean):
        return place.state.value
    percent = spec.percent and label.scale != 1
    scale = label.scale if percent else 1.0

    def write(value: float) -> str:
        return f"{value * scale:.{ACCURACY_DECIMALS}f}" if percent else tidy(f"{value:.{LOSS_DIGITS}g}")

    spread = "" if math.isnan(place.std) else f" ± {write(place.std)}"
    return f"{write(place.mean)}{spread}{_MARK.get(place.state, '')}"


def _headers(data: TableData, *, markup: bool = False) -> list[str]:
    def name(axis: str) -> str:
        return axis_label(axis).short if markup else axis_label(axis).plain

    column, reference = name(data.column_axis), grid_label(data.reference or "")
    variants = (combination(data.reference_axes, key, markup=markup) for key in data.reference_keys)
    values = (value for value in data.columns if value is not None)
    return [
        *(name(axis) for axis in data.row_axes),
        *(f"{column} = {plain(value)}" for value in values),
        *(", ".join(filter(None, (reference, variant))) for variant in variants),
    ]


def _caption_of_metric(spec: TableSpec, label: MetricLabel) -> str:
    text = label.text if spec.percent else label.text.replace(" [%]", "")
    return text[0].upper() + text[1:]


def _footnotes(data: TableData) -> list[str]:
    present = {place.state for row in data.pools for place in row}
    notes = [f"{_MARK[state]} {_MEANING[state]}" for state in _MARK if state in present]
    if data.left_out:
        notes.append(f"{data.left_out} grid points without {data.column_axis} are not shown")
    return [*notes, f"bold: best for each {axis_label(data.row_axes[0]).plain}"] if data.best else notes


def table_markdown(record: Record, spec: TableSpec, data: TableData) -> str:
    """Return the table as Markdown; the reference is written once per block, as in the paper."""
    label = metric_label(data.metric)
    headers = _headers(data)
    num_axes = len(data.row_axes)
    spans = _spans(data)
    lines = [
        f"# {spec.title or spec.name}",
        "",
        f"{_caption_of_metric(spec, label)}.",
        "",
        "| " + " | ".join(headers) + " |",
        "| " + " | ".join(["---"] * num_axes + ["---:"] * len(data.columns)) + " |",
    ]
    for row, key in enumerate(data.row_keys):
        texts = [plain(value) for value in key]
        for column, place in enumerate(data.pools[row]):
            if column in spans and row not in spans[column]:
                texts.append("〃")
                continue
            text = _text(place, spec, label)
            if (row, column) in data.best:
                text = f"**{text}**"
            texts.append(f'<span style="color:red">{text}</span>' if place.state is State.DIVERGED else text)
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |")
    notes = _footnotes(data)
    lines += [
        "",
        *(f"{note}.  " for note in notes),
        "" if notes else "",
        caption(record, _points(record, spec), over_seeds=MEAN_AND_SPREAD),
        "",
    ]
    return "\n".join(lines)


def _points(record: Record, spec: TableSpec) -> list[int]:
    chosen = set(select(record, spec))
    return [p for p in range(len(record.cell_ids)) if p in chosen or record.grids[p] == spec.reference]


def table_csv(data: TableData) -> str:
    """Return the table in long form: one row per place, raw values in the metric's own unit."""
    headings = [
        *(raw(value) for value in data.columns if value is not None),
        *(combination(data.reference_axes, key, markup=False) for key in data.reference_keys),
    ]
    columns = [
        *data.row_axes,
        data.column_axis,
        "metric",
        "is_reference",
        "status",
        "mean",
        "std",
        "seeds",
        "of_seeds",
        "diverged",
        "best",
    ]
    rows = [
        [
            *(raw(value) for value in key),
            headings[column],
            data.metric,
            str(int(data.columns[column] is None)),
            place.state.value,
            "" if math.isnan(place.mean) else repr(place.mean),
            "" if math.isnan(place.std) else repr(place.std),
            str(place.num_values),
            str(place.num_cells),
            str(place.num_diverged),
            str(int((row, column) in data.best)),
        ]
        for row, key in enumerate(data.row_keys)
        for column, place in enumerate(data.pools[row])
    ]
    return csv_text(columns, rows)


def draw_table(record: Record, spec: TableSpec, data: TableData, *paths: Path) -> None:
    """Draw the table with the rules of a printed table."""
    label = metric_label(data.metric)
    headers = _headers(data)
    num_axes = len(data.row_axes)
    body = [
        [*(plain(value) for value in key), *(_text(place, spec, label) for place in data.pools[row])]
        for row, key in enumerate(data.row_keys)
    ]
    widths = (
        [
            max(len(headers[column]), *(len(row[column]) for row in body), 1) * CHARACTER + PAD
            for column in range(len(headers))
        ]
        if body
        else [len(header) * CHARACTER + PAD for header in headers]
    )
    width, height = sum(widths), HEADER_HEIGHT + ROW_HEIGHT * max(len(body), 1)
    blocks = [row for row in range(1, len(body)) if data.row_keys[row][0] != data.row_keys[row - 1][0]]
    notes = _footnotes(data)
    title = title_of(record, spec)
    said = caption(record, _points(record, spec), *notes, over_seeds=MEAN_AND_SPREAD)
    below = f"{_caption_of_metric(spec, label)}. {said}"
    with house_style():
        canvas = Canvas(width=width, height=height, title=title, caption=below)
        axes = canvas.axes(0, 0, width, height)
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        for y, weight in ((0.02, 1.2), (HEADER_HEIGHT, 0.7), (height - 0.02, 1.2)):
            axes.plot([0.05, width - 0.05], [y, y], color=RULE, lw=weight)
        for row in blocks:
            y = HEADER_HEIGHT + ROW_HEIGHT * row
            axes.plot([0.05, width - 0.05], [y, y], color="#bbbbbb", lw=0.6)
        rights = [sum(widths[: column + 1]) - PAD / 2 for column in range(len(widths))]
        for column, header in enumerate(_headers(data, markup=True)):
            axes.text(rights[column], HEADER_HEIGHT / 2, header, ha="right", va="center", fontsize=TEXT_SIZE)
        spans = _spans(data)
        for row, texts in enumerate(body):
            for column, text in enumerate(texts):
                y = HEADER_HEIGHT + ROW_HEIGHT * (row + 0.5)
                is_value = column >= num_axes
                at = (row, column - num_axes)
                place = data.pools[row][column - num_axes] if is_value else None
                if (stretches := spans.get(column - num_axes)) is not None:
                    if row not in stretches:
                        continue
                    y += ROW_HEIGHT * (stretches[row] - 1) / 2
                if not is_value and column == 0 and row and row not in blocks:
                    continue
                axes.text(
                    rights[column],
                    y,
                    text,
                    ha="right",
                    va="center",
                    fontsize=TEXT_SIZE,
                    color=_colour(place),
                    fontweight="bold" if place is not None and at in data.best else "normal",
                )
        canvas.save(*paths)


def _colour(place: Pool | None) -> str:
    if place is None or place.state in _PLAIN:
        return "black"
    if place.state is State.PARTLY_DIVERGED:
        return ORANGE
    return RED if place.state in (State.DIVERGED, State.FAILED) else FAINT
