"""Reports of a sweep, rebuilt from its record: figures, tables and a summary.

Each kind of report has one module, which first arranges plain data and then draws it. Nothing here writes to
MLflow: `make_report` writes files and says where each belongs among the parent run's artifacts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces.reports import (
    CurvesSpec,
    DensitySpec,
    FinalsSpec,
    HeatmapSpec,
    LevelsSpec,
    PathSpec,
    ProfileSpec,
    Report,
    SeparationSpec,
    SpectrumSpec,
    TableSpec,
)
from sweep import names
from sweep.record import Record
from sweep.report.curves import draw_curves
from sweep.report.density import draw_density
from sweep.report.finals import draw_finals
from sweep.report.heatmap import draw_heatmap
from sweep.report.levels import levels_csv, levels_data, levels_markdown
from sweep.report.path import draw_path
from sweep.report.profile import draw_profile
from sweep.report.search import draw_parallel, draw_search
from sweep.report.separation import draw_separation
from sweep.report.spectrum import draw_spectrum
from sweep.report.summary import summary_csv
from sweep.report.table import draw_table, table_csv, table_data, table_markdown

SUMMARY = "summary.csv"
CLAIMS = "claims"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFile:
    """A written file and the folder of the parent run's artifacts that it belongs in."""

    path: Path
    artifact_dir: str


def make_report(record: Record, folder: Path, *, pdf: bool = False) -> list[ReportFile]:
    """Write everything that the space wants drawn, the verdicts on its claims, and the summary.

    Args:
        record: The sweep.
        folder: Receives `figures/*` and `tables/*`; made if it is not there.
        pdf: Write each figure as a PDF, too.

    Returns:
        The files in the order of the specifications; those of a search, claims and the summary last.
    """
    suffixes = (".png", ".pdf") if pdf else (".png",)
    written: list[ReportFile] = []
    for spec in record.reports:
        written += _write(record, spec, folder, suffixes)
    written += _write_search(record, folder, suffixes)
    written += _write_claims(record, folder)
    summary = folder / names.ARTIFACT_TABLES / SUMMARY
    _write_text(summary, summary_csv(record))
    return [*written, ReportFile(path=summary, artifact_dir=names.ARTIFACT_TABLES)]


def _write(record: Record, spec: Report, folder: Path, suffixes: Sequence[str]) -> list[ReportFile]:
    figures = _figures(folder, spec.name, suffixes)
    files = [ReportFile(path=path, artifact_dir=names.ARTIFACT_FIGURES) for path in figures]
    match spec:
        case HeatmapSpec():
            draw_heatmap(record, spec, *figures)
        case CurvesSpec():
            draw_curves(record, spec, *figures)
        case FinalsSpec():
            draw_finals(record, spec, *figures)
        case SpectrumSpec():
            draw_spectrum(record, spec, *figures)
        case ProfileSpec():
            draw_profile(record, spec, *figures)
        case PathSpec():
            draw_path(record, spec, *figures)
        case SeparationSpec():
            draw_separation(record, spec, *figures)
        case DensitySpec():
            draw_density(record, spec, *figures)
        case LevelsSpec():
            levels = levels_data(record, spec)
            texts = {".md": levels_markdown(record, spec, levels), ".csv": levels_csv(spec, levels)}
            return _write_tables(folder, spec.name, texts)
        case TableSpec():
            data = table_data(record, spec)
            draw_table(record, spec, data, *figures)
            texts = {".md": table_markdown(record, spec, data), ".csv": table_csv(data)}
            files += _write_tables(folder, spec.name, texts)
    return files


def _figures(folder: Path, name: str, suffixes: Sequence[str]) -> list[Path]:
    return [folder / names.ARTIFACT_FIGURES / f"{name}{suffix}" for suffix in suffixes]


def _write_tables(folder: Path, stem: str, texts: Mapping[str, str]) -> list[ReportFile]:
    files: list[ReportFile] = []
    for suffix, text in texts.items():
        path = folder / names.ARTIFACT_TABLES / f"{stem}{suffix}"
        _write_text(path, text)
        files.append(ReportFile(path=path, artifact_dir=names.ARTIFACT_TABLES))
    return files


def _write_search(record: Record, folder: Path, suffixes: Sequence[str]) -> list[ReportFile]:
    if record.search is None:
        return []
    drawn = {"search": draw_search, "parallel": draw_parallel}
    files: list[ReportFile] = []
    for name, draw in drawn.items():
        figures = _figures(folder, name, suffixes)
        draw(record, record.search, *figures)
        files += [ReportFile(path=path, artifact_dir=names.ARTIFACT_FIGURES) for path in figures]
    return files


def _write_claims(record: Record, folder: Path) -> list[ReportFile]:
    if not record.claims:
        return []
    # Verdicts stand on the arithmetic of axes in this package, so they are imported when they are needed.
    from sweep.verdicts import claims_csv, claims_markdown, judge, load_runs, provenance, sensitivity

    runs = load_runs(record)
    judged = judge(record.claims, runs)
    found = sensitivity(runs, record.divergence_factor)
    title = f"{record.space_name}: the paper's claims"
    notes = provenance(record)
    texts = {
        ".md": claims_markdown(title, judged, found, notes),
        ".csv": claims_csv(judged, notes),
    }
    return _write_tables(folder, CLAIMS, texts)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
