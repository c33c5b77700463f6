"""Publishing a report: rebuild it, log it to the parent run, and say in words what it shows."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from search_spaces.reports import AxisValue
from sweep import names
from sweep.best import best_by, configurations
from sweep.html import write_html
from sweep.invocation import hint
from sweep.ledger import Ledger
from sweep.outputs import writing
from sweep.places import Places
from sweep.progress import count_of
from sweep.record import Record, load_record
from sweep.report import ReportFile, make_report

LOOKED_AT = (".png", ".html")
"""Files that MLflow shows by itself: the sweep's description there links to them."""


def publish_report(places: Places, name: str, folder: Path, console: Console, *, pdf: bool = False) -> None:
    """Write a sweep's figures, tables and page, log them to its parent run, and print what was found.

    Args:
        places: Where MLflow is, the only source.
        name: The sweep.
        folder: Receives `figures/`, `tables/` and `report.html`.
        console: Where to say it.
        pdf: Write each figure as a PDF, too.

    Raises:
        ConfigError: There is no sweep of that name, or nothing can be written into the folder.
        LedgerError: MLflow does not answer.
    """
    record = load_record(places.tracking_uri, name)
    with writing(folder):
        files = [
            *make_report(record, folder, pdf=pdf),
            ReportFile(path=write_html(record, folder), artifact_dir=names.ARTIFACT_FIGURES),
        ]
    for file in files:
        path = f"{file.artifact_dir}/{file.path.name}"
        record.artifacts.put(record.parent_run_id, path, file.path.read_bytes())
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
        f"{record.name}: {count_of(len(record.cell_ids), 'grid point')}, "
        f"{count_of(len(record.outcomes), 'distinct cell')}: {text}."
    ]
    shared = len(record.cell_ids) - len(record.outcomes)
    if shared:
        share = "grid point shares" if shared == 1 else "grid points share"
        lines.append(f"{shared} {share} a cell with another one (the same experiment, run once).")
    for metric, label in (
        (names.FINAL_TRAIN_LOSS, "lowest training loss"),
        (names.FINAL_TEST_ACCURACY, "best test accuracy"),
    ):
        if (best := best_by(record, metric)) is not None:
            lines.append(f"{label}: {best.values[metric].mean:.4g} at {_place(best.place)}.")
    axes, places = configurations(record)
    diverged = [
        _place(dict(zip(axes, key, strict=True)))
        for key, cells in places.items()
        if all(record.outcomes[cell].diverged for cell in cells)
    ]
    if diverged:
        shown = "; ".join(diverged[:4]) + ("; …" if len(diverged) > 4 else "")
        lines.append(f"diverged: {shown}.")
    return lines


def _place(setting: Mapping[str, AxisValue | None]) -> str:
    return " ".join(
        f"{axis}={value:g}" if isinstance(value, float) else f"{axis}={value}"
        for axis, value in setting.items()
        if value is not None
    )
