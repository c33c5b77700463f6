"""Figures of a search: the best so far, the Pareto front, which axes matter; and its configurations as lines.

Each of the two figures arranges the journal's account (`sweep.search.account`) and then draws it.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize

from search_spaces.axes import AxisSpec
from search_spaces.reports import AxisValue
from search_spaces.search import OBJECTIVES, RangeSpec
from sweep.progress import count_of
from sweep.record import Record
from sweep.report.canvas import Canvas, blank, caption, house_style, logarithmic_x, logarithmic_y
from sweep.report.labels import axis_label, metric_label, plain
from sweep.search.account import LEAST_TOLD, Account, Trial, importances

PANEL_WIDTH, PANEL_HEIGHT, LEFT, BOTTOM, GAP, ROW_GAP = 3.3, 2.4, 0.75, 0.55, 0.95, 0.8
MOST_IN_ROW = 3
COLUMN_WIDTH, LINES_HEIGHT, TOP, RIGHT = 1.35, 2.9, 0.35, 0.55
BEST, WHOLE, STOPPED, LOST = "#0b5cad", "#8fb6d9", "#e8a33d", "#9e9e9e"
FATES = ("completed", "known before", "stopped early", "a seed diverged", "failed")
COLOURS = ("#0072b2", "#d55e00", "#009e73")
COLOURMAP = "viridis"
"""Bright is better, as in the heatmaps."""

EDGE = 0.965
"""Height, as a share, at which configurations that diverged or failed are drawn."""


def draw_search(record: Record, account: Account, *paths: Path) -> None:
    """Draw how the search went: a panel an objective, the front of two, and the importances."""
    with house_style():
        objectives = account.search.objectives
        num_panels = len(objectives) + (len(objectives) == 2) + 1
        columns = num_panels if num_panels <= MOST_IN_ROW else math.ceil(num_panels / 2)
        rows = math.ceil(num_panels / columns)
        canvas = Canvas(
            width=LEFT + columns * PANEL_WIDTH + (columns - 1) * GAP + 0.1,
            height=BOTTOM + rows * PANEL_HEIGHT + (rows - 1) * ROW_GAP + 0.1,
            title=f"{record.name}: {account.search.sampler.upper()}, {account.budget()}",
            caption=caption(record, range(len(record.cell_ids)), *_notes(account)),
        )
        panels: list[Axes] = []
        for index in range(num_panels):
            row, column = divmod(index, columns)
            bottom = BOTTOM + (rows - 1 - row) * (PANEL_HEIGHT + ROW_GAP)
            panels.append(canvas.axes(LEFT + column * (PANEL_WIDTH + GAP), bottom, PANEL_WIDTH, PANEL_HEIGHT))
        for index, panel in enumerate(panels[: len(objectives)]):
            _draw_history(panel, account, index)
        if len(objectives) == 2:
            _draw_front(panels[2], account)
        _draw_importances(panels[-1], account)
        canvas.save(*paths)


def _notes(account: Account) -> list[str]:
    known = len(account.trials) - len(account.asked)
    excluded = sum(t.result is not None and t.result.state == "excluded" for t in account.asked)
    notes = [f"{count_of(len(account.asked), 'configuration')} asked for"]
    notes += [f"{excluded} of them excluded"] if excluded else []
    notes += [f"{known} known before"] if known else []
    if len(account.search.seeds) > 1:
        risk = f" made worse by {account.search.risk:g} standard deviations" if account.search.risk else ""
        notes.append(f"means over {len(account.search.seeds)} seeds{risk}")
    return notes


def _draw_history(axes: Axes, account: Account, objective: int) -> None:
    """Draw each configuration at the number of cells trained before it, and the best so far as a line."""
    label = metric_label(account.search.objectives[objective])
    axes.set(xlabel="cells trained before", ylabel=label.text)
    found = _by_fate(account.trials, objective)
    if not (found["completed"] or found["known before"]):
        blank(axes, "no configuration has completed yet")
        return
    for kind, colour, face in (
        ("completed", WHOLE, WHOLE),
        ("known before", WHOLE, "white"),
        ("stopped early", STOPPED, STOPPED),
    ):
        if found[kind]:
            places = [(cells, value * label.scale) for cells, value in found[kind]]
            axes.plot(*zip(*places, strict=True), "o", color=colour, mfc=face, markersize=4, label=kind)
    for kind, marker in (("a seed diverged", "x"), ("failed", "|")):
        if found[kind]:
            # At the edge: what such a configuration came to is no value to compare, and may be huge.
            places = [(cells, EDGE) for cells, _ in found[kind]]
            transform = axes.get_xaxis_transform()
            axes.plot(
                *zip(*places, strict=True), marker, color=LOST, markersize=4, transform=transform, label=kind
            )
    steps = [
        (t.cells_before, best) for t, best in zip(account.trials, account.best_so_far(objective), strict=True)
    ]
    known = [(cells, best * label.scale) for cells, best in steps if not math.isnan(best)]
    known.append((max(account.cells, known[-1][0]), known[-1][1]))
    axes.step(*zip(*known, strict=True), where="post", color=BEST, label="best so far")
    values = [value for kind in ("completed", "known before", "stopped early") for _, value in found[kind]]
    if label.positive and min(values) > 0:
        logarithmic_y(axes)
    axes.legend(loc="best", handlelength=1.2)


def _by_fate(trials: Sequence[Trial], objective: int) -> dict[str, list[tuple[int, float]]]:
    """Sort trials by how they ended: (cells trained before, value or NaN) each."""
    found: dict[str, list[tuple[int, float]]] = {fate: [] for fate in FATES}
    for trial in trials:
        if (result := trial.result) is None or result.state == "excluded":
            continue
        if result.state == "failed":
            fate = "failed"
        elif result.diverged:
            fate = "a seed diverged"
        else:
            whole = "completed" if trial.number is not None else "known before"
            fate = "stopped early" if result.state == "pruned" else whole
        value = result.objectives[objective] if result.objectives else math.nan
        found[fate].append((trial.cells_before, value))
    return found


def _draw_front(axes: Axes, account: Account) -> None:
    first, second = (metric_label(name) for name in account.search.objectives)
    axes.set(xlabel=first.text, ylabel=second.text)
    front = account.front()
    if not front:
        blank(axes, "no configuration has completed yet")
        return

    def values(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
        pairs = [trial.result.objectives for trial in trials if trial.result is not None]
        return [pair[0] * first.scale for pair in pairs], [pair[1] * second.scale for pair in pairs]

    whole = values([trial for trial in account.trials if trial.is_whole])
    axes.plot(*whole, "o", color=WHOLE, markersize=4)
    axes.plot(*values(front), "o-", color=BEST, markersize=5, label=f"Pareto front, {len(front)}")
    if first.positive and min(whole[0]) > 0:
        logarithmic_x(axes)
    axes.legend(loc="best")


def _draw_importances(axes: Axes, account: Account) -> None:
    found = importances(account)
    if not found:
        blank(axes, f"which axes matter: said from {LEAST_TOLD} complete\nconfigurations of two axes on")
        return
    names = sorted(account.search.axes, key=lambda name: max(shares[name] for shares in found.values()))
    height = 0.8 / len(found)
    for index, (objective, shares) in enumerate(found.items()):
        places = [place + (len(found) / 2 - index - 0.5) * height for place in range(len(names))]
        text = metric_label(objective).text
        axes.barh(places, [shares[name] for name in names], height * 0.9, color=COLOURS[index], label=text)
    axes.set_yticks(range(len(names)), [axis_label(name).short for name in names])
    axes.set(xlabel="share of what sets the best apart (PED-ANOVA)", xlim=(0, 1))
    axes.legend(loc="lower right")


def draw_parallel(record: Record, account: Account, *paths: Path) -> None:
    """Draw every complete configuration as a line through its axes and objectives, coloured by the first."""
    trials = [trial for trial in account.trials if trial.is_whole]
    names, objectives = list(account.search.axes), account.search.objectives
    count = len(names) + len(objectives)
    with house_style():
        canvas = Canvas(
            width=LEFT + (count - 1) * COLUMN_WIDTH + RIGHT,
            height=LINES_HEIGHT + TOP + 0.15,
            title=f"{record.name}: complete configurations",
            caption=caption(record, range(len(record.cell_ids)), *_notes(account)),
        )
        axes = canvas.axes(LEFT, 0.15, (count - 1) * COLUMN_WIDTH, LINES_HEIGHT)
        if not trials:
            blank(axes, "no configuration has completed yet")
        else:
            _draw_lines(axes, account, trials)
        canvas.save(*paths)


def _draw_lines(axes: Axes, account: Account, trials: Sequence[Trial]) -> None:
    columns = [
        _Column.of_axis(name, axis, [trial.configuration[name] for trial in trials])
        for name, axis in account.search.axes.items()
    ]
    columns += [
        _Column.of_metric(name, [trial.result.objectives[index] for trial in trials if trial.result])
        for index, name in enumerate(account.search.objectives)
    ]
    axes.set(xlim=(0, len(columns) - 1), ylim=(-0.03, 1.03))
    axes.axis("off")
    first = columns[len(account.search.axes)]
    lower = OBJECTIVES[account.search.objectives[0]] == "minimize"
    shares = [1 - share if lower else share for share in first.shares]
    # The best are drawn last, above the others.
    for index in sorted(range(len(trials)), key=lambda one: shares[one]):
        colour = matplotlib.colormaps[COLOURMAP](shares[index])
        heights = [column.shares[index] for column in columns]
        axes.plot(range(len(columns)), heights, color=colour, linewidth=1.0 + shares[index])
    for place, column in enumerate(columns):
        axes.axvline(place, color="#333333", linewidth=0.8, zorder=3)
        axes.text(place, 1.07, column.title, ha="center", va="bottom", fontsize=8)
        for share, text in column.ticks:
            axes.text(
                place + 0.04, share, text, va="center", fontsize=7, zorder=4,
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip


class _Column:
    """One upright line: its title, the height of each configuration as a share, and labelled heights."""

    def __init__(self, title: str, shares: Sequence[float], ticks: Sequence[tuple[float, str]]) -> None:
        self.title, self.shares, self.ticks = title, shares, ticks

    @classmethod
    def of_axis(cls, name: str, axis: RangeSpec | AxisSpec, values: Sequence[AxisValue]) -> "_Column":
        """A range to scale, listed values evenly spaced."""
        title = axis_label(name).short
        if isinstance(axis, RangeSpec):
            shown = [float(value) for value in values]
            return cls._scaled(title, shown, float(axis.low), float(axis.high), axis.log, axis.integer)
        labels = list(axis.labels)
        if axis.choices is None and not any(isinstance(label, str) for label in labels):
            labels.sort()  # pyright: ignore[reportCallIssue, reportArgumentType] - numbers only
        last = max(len(labels) - 1, 1)
        ticks = [(index / last, plain(label)) for index, label in enumerate(labels)]
        return cls(title, [labels.index(value) / last for value in values], ticks)

    @classmethod
    def of_metric(cls, name: str, values: Sequence[float]) -> "_Column":
        """To scale, between the least and the greatest value."""
        label = metric_label(name)
        shown = [value * label.scale for value in values]
        title = label.text.replace("final ", "")
        return cls._scaled(title, shown, min(shown), max(shown), label.positive and min(shown) > 0)

    @classmethod
    def _scaled(
        cls, title: str, values: Sequence[float], low: float, high: float, log: bool, whole: bool = False
    ) -> "_Column":
        norm = (LogNorm if log else Normalize)(low, high) if high > low else Normalize(low - 1, low + 1)
        marked = [float(norm.inverse(share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
        if whole:
            marked = [float(value) for value in dict.fromkeys(map(round, marked))]
        ticks = [(float(norm(value)), f"{value:.3g}") for value in marked]
        return cls(title, [float(norm(value)) for value in values], ticks)
