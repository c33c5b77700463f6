"""The sheet that all figures are drawn on: fixed fonts, inches, a title, a caption, reproducible bytes.

matplotlib's object interface only: no global figure, no display, no user style sheet.
"""

import textwrap
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from search_spaces.reports import ReportSpec
from sweep import names
from sweep.convergence import UNCONVERGED_LIMIT, unconverged_share
from sweep.histories import recorded_series
from sweep.record import CellOutcome, Record
from sweep.report.points import seeds
from sweep.report.states import tally
from trainers.history import SWITCH_CONVERGED

DPI = 160
TITLE_SIZE = 11.0
CAPTION_SIZE = 7.0
CAPTION_LINE = 0.125
CAPTION_CHARACTER = 0.058
MARGIN = 0.15
TITLE_HEIGHT = 0.36
MIN_WIDTH = 4.8

SHORT_COMMIT = 7

MINOR_LABELS = (2.0, 0.5)
"""Decades below which some, and then all, ticks between powers of ten are labelled."""

NOT_SAID: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
"""What matplotlib would add to a file, by its format."""

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.linewidth": 0.7,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "grid.linewidth": 0.5,
    "grid.color": "#dddddd",
    "lines.linewidth": 1.3,
    # TrueType: some journals refuse the Type 3 fonts that matplotlib puts into a PDF by itself.
    "pdf.fonttype": 42,
}


@contextmanager
def house_style() -> Generator[None, None, None]:
    """Draw with matplotlib's own defaults and the house style, whatever the user's style sheet says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        cast("Any", matplotlib.rcParams).update(STYLE)
        yield


class Canvas:
    """A figure of a body of given size, with a title above and a caption below it.

    Args:
        width: Width of the body in inches; the sheet may be wider to hold the title.
        height: Height of the body in inches.
        title: Heading; empty for none.
        caption: What the figure rests on; wrapped to the width.
    """

    def __init__(self, *, width: float, height: float, title: str, caption: str) -> None:
        self._width = max(width, MIN_WIDTH)
        # A body narrower than the sheet stands in its middle.
        self._left = (self._width - width) / 2
        # A separator stays at the end of its line: the space before it does not break.
        text = caption.replace(" · ", "\N{NO-BREAK SPACE}· ")
        lines = textwrap.wrap(text, width=int((self._width - 2 * MARGIN) / CAPTION_CHARACTER))
        self._bottom = MARGIN + CAPTION_LINE * len(lines) + 0.06
        title_lines = textwrap.wrap(title, width=int((self._width - 2 * MARGIN) / 0.092)) if title else []
        top = TITLE_HEIGHT + 0.17 * (len(title_lines) - 1) if title_lines else MARGIN
        self._height = self._bottom + height + top
        self.figure = Figure(figsize=(self._width, self._height), dpi=DPI)
        FigureCanvasAgg(self.figure)
        self.figure.text(
            MARGIN / self._width,
            MARGIN / self._height,
            "\n".join(lines),
            fontsize=CAPTION_SIZE,
            color="#555555",
            va="bottom",
            linespacing=1.25,
        )
        if title_lines:
            self.figure.text(
                MARGIN / self._width,
                1 - 0.12 / self._height,
                "\n".join(title_lines),
                fontsize=TITLE_SIZE,
                fontweight="bold",
                va="top",
            )

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Add axes at a place of the body, in inches from its lower left corner."""
        box = (
            (left + self._left) / self._width,
            (bottom + self._bottom) / self._height,
            width / self._width,
            height / self._height,
        )
        return self.figure.add_axes(box)

    def save(self, *paths: Path) -> None:
        """Write the drawing in the formats that the paths end in: .png, or .pdf of lines and text.

        The files depend on the drawing alone: no software version, no date.
        """
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = path.suffix.removeprefix(".")
            self.figure.savefig(path, dpi=DPI, format=kind, metadata=NOT_SAID[kind])


def logarithmic_y(axes: Axes) -> None:
    """Make the y axis logarithmic, its labels plain numbers: 0.4 takes less room than a power of ten."""
    axes.set_yscale("log")
    _number_plainly(axes.yaxis)


def logarithmic_x(axes: Axes) -> None:
    """Make the x axis logarithmic, its labels plain numbers."""
    axes.set_xscale("log")
    _number_plainly(axes.xaxis)


def _number_plainly(axis: Axis) -> None:
    for which in (axis.set_major_formatter, axis.set_minor_formatter):
        which(_PlainNumbers(labelOnlyBase=False, minor_thresholds=MINOR_LABELS))


class _PlainNumbers(LogFormatter):
    """Decides as matplotlib does which ticks get a label, and writes the number out."""

    def _num_to_string(self, x: float, vmin: float, vmax: float) -> str:
        return f"{x:g}"


def balanced(count: int, most: int) -> int:
    """Return how many of `count` panels go side by side, at most `most`, so that rows are equally full."""
    rows = max(1, -(-count // most))
    return max(1, -(-count // rows))


def blank(axes: Axes, message: str) -> None:
    """Say in an empty panel why it is empty, instead of numbering axes that mean nothing."""
    axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", va="center", color="#777777")
    axes.set_xticks([])
    axes.set_yticks([])


def title_of(record: Record, spec: ReportSpec) -> str:
    """Return the title of a report; one that has none is named after its space and itself."""
    return spec.title or ": ".join(part for part in (record.description, spec.name) if part)


MEAN_AND_SPREAD = "mean ± standard deviation"


def caption(
    record: Record,
    points: Iterable[int],
    *notes: str,
    over_seeds: str = "",
    unconverged: Sequence[float] | None = None,
) -> str:
    """Say what a figure rests on: sweep, commit, seeds, fates of cells, eigenspaces that did not converge.

    Args:
        record: The sweep.
        points: The grid points that are shown.
        notes: What else there is to say.
        over_seeds: What the figure shows where there are several seeds; empty where it says so itself.
        unconverged: Of each run, the share of what is shown whose eigenspaces had not converged, those of
            its conditions among it. `None`: what is shown has no history; those of conditions are read.
    """
    points = tuple(points)
    outcomes = {record.cell_ids[point]: record.outcome(point) for point in points}
    if unconverged is None:
        unconverged = tuple(of_conditions(record, outcomes.values()).values())
    found = [str(seed) for seed in seeds(record, points)]
    if len(found) > 1:
        seed_text = f"seeds {', '.join(found)}" + (f" ({over_seeds})" if over_seeds else "")
    else:
        seed_text = f"seed {found[0]}" if found else ""
    parts = [
        f"Sweep {record.name}",
        commit_text(record),
        seed_text,
        tally(outcomes.values()),
        _convergence("eigenspace refreshes", _refreshes(outcomes.values()), len(outcomes)),
        _convergence("measured eigenspaces", unconverged, len(outcomes)),
    ]
    return " · ".join(part for part in (*parts, *notes) if part) + "."


def commit_text(record: Record) -> str:
    """Name the commit that a sweep was last planned with, and say whether there were changes to it."""
    commit = record.commit[:SHORT_COMMIT] or "unknown"
    return f"planned at commit {commit}" + (", with changes" if record.dirty else "")


def _refreshes(outcomes: Iterable[CellOutcome]) -> list[float]:
    shares = (outcome.metrics.get(names.EIGENSPACE_UNCONVERGED) for outcome in outcomes)
    return [share for share in shares if share is not None]


def of_conditions(record: Record, outcomes: Iterable[CellOutcome]) -> dict[str, float]:
    """Return by cell the share of the eigenspaces that had not converged by which its phases ended.

    Of runs without a condition no history is read, and of others it is read once a record.
    """
    # One of the two is there at the end, the other while a run goes on.
    told = {names.FINAL_SWITCH_STEP, SWITCH_CONVERGED}
    known = record.of_conditions
    conditional = [outcome for outcome in outcomes if told & outcome.metrics.keys()]
    new = [outcome for outcome in conditional if outcome.run_id not in known]
    for outcome, history in recorded_series(record, new, {SWITCH_CONVERGED}.__contains__):
        known[str(outcome.run_id)] = unconverged_share(history, ())
    shares = {outcome.cell_id: known.get(str(outcome.run_id)) for outcome in conditional}
    return {cell: share for cell, share in shares.items() if share is not None}


def _convergence(what: str, shares: Sequence[float], num_cells: int) -> str:
    """Say how many of the cells' eigenspaces had not converged; nothing where there are none."""
    if not shares:
        return ""
    worst = max(shares)
    if worst == 0:
        return f"all {what} converged"
    text = f"{what} not converged: at most {100 * worst:.3g} % of a run"
    if worst <= UNCONVERGED_LIMIT:
        return text
    above = sum(share > UNCONVERGED_LIMIT for share in shares)
    return f"CAUTION: {text}, above {100 * UNCONVERGED_LIMIT:g} % in {above} of {num_cells} cells"
