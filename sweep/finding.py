"""Publishing a report: rebuild it, log it to the parent run, and say in words what it shows."""

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from rich.console import Console

from sweep import names
from sweep.html import write_html
from sweep.invocation import hint
from sweep.ledger import Ledger
from sweep.names import Status
from sweep.places import Places
from sweep.record import SEED_AXIS, Record, load_record
from sweep.report import ReportFile, make_report

LOOKED_AT = (".png", ".html")
"""Files that MLflow shows by itself: the sweep's description there links to them."""


def publish_report(places: Places, name: str, folder: Path, console: Console) -> None:
    """Write a sweep's figures, tables and page, log them to its parent run, and print what was found.

    Args:
        places: Where MLflow is, the only source.
        name: The sweep.
        folder: Receives `figures/`, `tables/` and `report.html`.
        console: Where to say it.
    """
    record = load_record(places.tracking_uri, name)
    files = [
        *make_report(record, folder),
        ReportFile(path=write_html(record, folder), artifact_dir=names.ARTIFACT_FIGURES),
    ]
    for file in files:
        record.client.log_artifact(record.parent_run_id, str(file.path), file.artifact_dir)
    shown = [f"{file.artifact_dir}/{file.path.name}" for file in files if file.path.suffix in LOOKED_AT]
    Ledger.open(places.tracking_uri, create=False).add_figures(record.parent_run_id, shown)
    for line in findings(record):
        console.print(line, markup=False)
    console.print("\nfigures, tables and an interactive report:")
    for file in files:
        console.print(f"  {file.path}", markup=False)
    opens = f"open them beside the runs in MLflow: {hint('ui', given=places.given)}"
    console.print(f"\n{opens}  (experiment {name!r})", markup=False)


def findings(record: Record) -> list[str]:
    """Say in a few lines what a sweep shows: its outcomes, and where the best loss and accuracy lie."""
    counts = record.counts()
    text = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines = [
        f"{record.name}: {len(record.cell_ids)} grid points, {len(record.outcomes)} distinct cells: {text}."
    ]
    shared = len(record.cell_ids) - len(record.outcomes)
    if shared:
        lines.append(f"{shared} grid points share a cell with another one (the same experiment, run once).")
    for metric, better, label in (
        (names.FINAL_TRAIN_LOSS, min, "lowest training loss"),
        (names.FINAL_TEST_ACCURACY, max, "best test accuracy"),
    ):
        means = _means(record, metric)
        if means:
            where = better(means, key=lambda key: means[key])
            lines.append(f"{label}: {means[where]:.4g} at {_place(where)}.")
    diverged = [
        _place(setting)
        for setting, points in _settings(record).items()
        if all(record.outcome(point).diverged for point in points)
    ]
    if diverged:
        shown = "; ".join(diverged[:4]) + ("; …" if len(diverged) > 4 else "")
        lines.append(f"diverged: {shown}.")
    return lines


_Setting = tuple[tuple[str, object], ...]


def _setting(record: Record, point: int) -> _Setting:
    """A grid point without its seed."""
    return tuple(
        (axis, values[point])
        for axis, values in record.axes.items()
        if axis != SEED_AXIS and values[point] is not None
    )


def _settings(record: Record) -> Mapping[_Setting, list[int]]:
    settings: dict[_Setting, list[int]] = {}
    for point in range(len(record.cell_ids)):
        settings.setdefault(_setting(record, point), []).append(point)
    return settings


def _means(record: Record, metric: str) -> dict[_Setting, float]:
    """Mean over the seeds of the settings that completed with all of them."""
    means: dict[_Setting, float] = {}
    for setting, points in _settings(record).items():
        outcomes = [record.outcome(point) for point in points]
        values = [outcome.metrics.get(metric, math.nan) for outcome in outcomes]
        completed = all(outcome.status is Status.COMPLETED and not outcome.diverged for outcome in outcomes)
        if completed and all(math.isfinite(value) for value in values):
            means[setting] = fmean(values)
    return means


def _place(setting: _Setting) -> str:
    return " ".join(
        f"{axis}={value:g}" if isinstance(value, float) else f"{axis}={value}" for axis, value in setting
    )
