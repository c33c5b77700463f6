"""Shows how a sweep stands: a table that may be live, and pictures made of characters."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweep.html.data import heatmap_specs, place_axes
from sweep.invocation import TRAINS, hint
from sweep.lease import STALE_SECONDS
from sweep.names import TRIALS_RUNNING, Status
from sweep.progress import STYLES, count_of, duration
from sweep.record import SECONDS_NODES_ARE_SHOWN, Record
from sweep.report.heatmap import HeatmapData, heatmap_data
from sweep.report.labels import (
    axis_label,
    combination,
    metric_label,
    number,
    plain,
    plain_metric,
    spaced,
    spread,
)
from sweep.report.states import State
from sweep.standing import Best, DeviceUse, Search, Standing, standing_of

LEAST_PAUSE_SECONDS = 2.0
PAUSE_PER_READ = 3.0
"""A live table reads again after so many times what reading takes, so that looking does not load MLflow."""

BARS = "▁▂▃▄▅▆▇█"
SHADES = "·░▒▓█"
"""From the worst to the best value; no colour, so that any terminal and any log can show it."""

MARKS = {
    State.DIVERGED: "x",
    State.FAILED: "!",
    State.RUNNING: ">",
    State.INTERRUPTED: "=",
    State.PENDING: "-",
    State.MISSING: "?",
    State.ABSENT: " ",
}
SPARK_WIDTH = 60
REASONS_SHOWN = 5
FRONT_SHOWN = 8


def show(record: Record, console: Console, *, pictures: bool) -> None:
    """Print how a sweep stands, once."""
    console.print(_view(record, pictures=pictures))


def watch(
    read: Callable[[], Record],
    console: Console,
    *,
    pictures: bool,
    given: Mapping[str, str] | None = None,
) -> None:
    """Show how a sweep stands until every cell has ended and no more is asked for, reading again and again.

    It ends before where its driver falls silent, which of one on another machine only waiting can tell.

    Args:
        read: Reads the record.
        console: A terminal gets one live table; anything else a table each time.
        pictures: Also a heatmap and a sparkline made of characters.
        given: The options about places that its driver is started with again, see `Places.given`.
    """
    beat, heard = "", time.monotonic()
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            begun = time.monotonic()
            record = read()
            took = time.monotonic() - begun
            if console.is_terminal:
                live.update(_view(record, pictures=pictures), refresh=True)
            else:
                console.print(_view(record, pictures=pictures))
            unended = any(Status(name) in _UNENDED for name in record.counts() if name != "missing")
            if not (unended or _is_asking(record)):
                return
            if not record.is_driven or record.lease_beat != beat:
                beat, heard = record.lease_beat, begun + took
            elif begun - heard >= STALE_SECONDS:
                break
            time.sleep(max(LEAST_PAUSE_SECONDS, PAUSE_PER_READ * took))
    again = hint("resume", record.name, given=given, options=TRAINS)
    console.print(
        f"its driver has not been heard of for {STALE_SECONDS:g} s; go on with: {again}",
        markup=False,
        soft_wrap=True,
    )


_UNENDED = (Status.RUNNING, Status.PENDING, Status.INTERRUPTED)


def _is_asking(record: Record) -> bool:
    """Whether a search may ask for more: between two questions every cell of it has ended."""
    return record.search is not None and record.is_driven


def _view(record: Record, *, pictures: bool) -> RenderableType:
    standing = standing_of(record)
    parts: list[RenderableType] = [
        Text(
            f"{standing.name}: {count_of(standing.cells, 'cell')}, {count_of(standing.points, 'grid point')}"
        )
    ]
    parts += [
        Text(f"  {count:6d} {name}", style=STYLES.get(_status(name), ""))
        for name, count in standing.counts.items()
    ]
    parts.append(_facts(standing))
    if standing.search is not None:
        parts += [Text(line) for line in search_lines(standing.search)]
    if pictures:
        parts += [Text(), Text(sparkline_text(standing)), Text(heatmap_text(record))]
    return Group(*parts)


def _status(name: str) -> Status:
    return Status(name) if name in list(Status) else Status.PENDING


def _facts(standing: Standing) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    if math.isfinite(standing.cells_per_minute):
        left = f", about {duration(standing.eta_seconds)} left" if math.isfinite(standing.eta_seconds) else ""
        table.add_row("speed", f"{standing.cells_per_minute:.3g} cells a minute{left}")
    for best in standing.best:
        table.add_row(f"best {metric_label(best.metric).text}", Text(_best_text(best)))
    for (status, reason), count in list(standing.reasons.items())[:REASONS_SHOWN]:
        table.add_row(status, Text(f"{count} x {reason or 'no reason recorded'}"))
    if (more := len(standing.reasons) - REASONS_SHOWN) > 0:
        table.add_row("", f"and {more} more reasons")
    for use in standing.devices:
        table.add_row("device", Text(f"{use.device}: {device_text(use)}"))
    for node, use in standing.nodes.items():
        table.add_row(_when(standing.nodes_seconds), Text(f"{node}: {node_text(use)}"))
    return table


def _when(seconds: float) -> str:
    """Say how long ago a driver last told of its nodes: "now", as long as it does so all the time."""
    return f"{duration(seconds)} ago" if seconds > SECONDS_NODES_ARE_SHOWN else "now"


def device_text(use: DeviceUse) -> str:
    """Say what a device did: "5 cells, 50 s of device time, busy 8% of the 10 min from first start to …"."""
    if not math.isfinite(use.share):
        return f"{count_of(use.cells, 'cell')}, {duration(use.seconds)} of device time"
    of = f" of the last {use.timed_cells}" if use.timed_cells < use.cells else ""
    busy = f"busy {use.share:.0%} of the {duration(use.span_seconds)} from first start to last end{of}"
    return f"{count_of(use.cells, 'cell')}, {duration(use.seconds)} of device time, {busy}"


def _best_text(best: Best) -> str:
    """Say how good the best is and where: "0.210 ±0.014 at grid long (mean of 2 seeds)"."""
    label = metric_label(best.metric)
    where = f" at {best.place}" if best.place else ""
    if len(best.cells) == 1:
        return f"{number(best.value, label)}{where} (cell {best.cells[0]})"
    error = spread(best.std, label, mean=best.value)
    return f"{number(best.value, label)} {error}{where} (mean of {len(best.cells)} seeds)"


def node_text(use: Mapping[str, float]) -> str:
    """Say how busy a node is: "2 trials, processors 93 %, memory 41 %"."""
    parts = [count_of(round(use[TRIALS_RUNNING]), "trial")] if TRIALS_RUNNING in use else []
    for name, value in sorted(use.items()):
        if name.endswith("_percentage"):
            what = name.removesuffix("_percentage").replace("cpu_utilization", "processors")
            what = what.replace("system_memory_usage", "memory").replace("_usage", "").replace("_", " ")
            parts.append(f"{what} {value:.0f} %")
    return ", ".join(parts)


def search_lines(search: Search) -> list[str]:
    """Say how a search stands: by whom, how far, and what is best."""
    known = f", {search.known} known before" if search.known else ""
    lines = [
        f"  search by {search.sampler}: {count_of(search.asked, 'configuration')} asked for, "
        f"{search.told} told{known}; {search.budget}"
    ]
    heading = "best" if len(search.best) == 1 else "on the Pareto front"
    lines += [f"    {heading}: {one}" for one in search.best[:FRONT_SHOWN]]
    if (more := len(search.best) - FRONT_SHOWN) > 0:
        lines.append(f"    and {more} more on the front")
    return lines


def sparkline_text(standing: Standing) -> str:
    """Draw the lowest training loss so far against the number of cells that have ended, in a line."""
    finite = [value for value in standing.losses if math.isfinite(value)]
    if not finite:
        return "lowest training loss: no cell has ended well yet"
    kept = [standing.losses[at] for at in spaced(len(standing.losses), SPARK_WIDTH)]
    label = metric_label("train/loss")
    return (
        f"lowest training loss of a cell  {sparkline(kept)}  "
        f"{number(max(finite), label)} to {number(min(finite), label)} "
        f"over {count_of(len(standing.losses), 'cell')}"
    )


def sparkline(values: Sequence[float]) -> str:
    """Draw values as bars of eight heights, logarithmically where all are positive; blank without one."""
    finite = [value for value in values if math.isfinite(value)]
    scaled = [math.log(value) for value in finite] if all(value > 0 for value in finite) else finite
    if not finite:
        return " " * len(values)
    heights = iter(_steps(scaled, len(BARS)))
    return "".join(BARS[next(heights)] if math.isfinite(value) else " " for value in values)


def heatmap_text(record: Record) -> str:
    """Draw the sweep's first heatmap in characters: darker is better, letters are cells without a value."""
    specs = heatmap_specs(record, place_axes(record))
    if not specs:
        return "no heatmap: fewer than two axes have several listed values"
    data = heatmap_data(record, specs[0], specs[0].metrics[0])
    if not data.x_values or not data.y_values:
        return f"no heatmap: no grid point has both {data.x} and {data.y}"
    lines = [f"{plain_metric(data.metric)}: {SHADES} from the worst to the best"]
    ranks = _ranks(data)
    for index, key in enumerate(data.panel_keys):
        lines += [combination(data.panel_axes, key, markup=False)] if data.panel_axes else []
        lines += _panel_lines(data, index, ranks)
    seen = {state for state in data.states.flat if state in MARKS and MARKS[state].strip()}
    if seen:
        lines.append("  ".join(f"{MARKS[state]} {state.value}" for state in MARKS if state in seen))
    return "\n".join(lines)


def _ranks(data: HeatmapData) -> dict[float, int]:
    """Return the shade of each value that any panel has, by its number: one scale for all, as in figures."""
    label = metric_label(data.metric)
    shown = [value for value in data.mean.ravel().tolist() if math.isfinite(value)]
    positive = label.positive and all(value > 0 for value in shown)
    scaled = [math.log(value) for value in shown] if positive else shown
    goodness = [-value for value in scaled] if label.lower_is_better else scaled
    return dict(zip(shown, _steps(goodness, len(SHADES)), strict=True))


def _panel_lines(data: HeatmapData, panel: int, ranks: Mapping[float, int]) -> list[str]:
    width = max(len(plain(value)) for value in (*data.x_values, "xx")) + 1
    names = [plain(value) for value in data.y_values]
    left = max(map(len, names))
    lines: list[str] = []
    for row in reversed(range(len(names))):
        cells: list[str] = []
        for column in range(len(data.x_values)):
            value, state = float(data.mean[panel, row, column]), data.states[panel, row, column]
            rank = ranks.get(value)
            cells.append((MARKS.get(state, "?") if rank is None else SHADES[rank]) * 2)
        lines.append(f"{names[row]:>{left}} " + "".join(f"{cell:>{width}}" for cell in cells))
    lines.append(" " * (left + 1) + "".join(f"{plain(value):>{width}}" for value in data.x_values))
    lines.append(f"across: {axis_label(data.x).plain}; up: {axis_label(data.y).plain}")
    return lines


def _steps(values: Sequence[float], count: int) -> list[int]:
    """Divide the range of values into equal steps; all equal values are the highest."""
    if not values:
        return []
    low, high = min(values), max(values)
    if high <= low:
        return [count - 1] * len(values)
    return [min(int(count * (value - low) / (high - low)), count - 1) for value in values]
