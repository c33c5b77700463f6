"""The claims table as Markdown and CSV: the paper's value, ours with its spread, the band, the verdict."""

from collections import Counter
from collections.abc import Sequence

from sweep.report.summary import csv_text
from sweep.verdicts.judgement import Judged, Verdict
from sweep.verdicts.thresholds import Sensitivity

POOLED_SEEDS = -1


def claims_csv(judged: Sequence[Judged], notes: Sequence[str] = ()) -> str:
    """Return a row per claim, each with the notes on the runs; numbers can be read back exactly."""
    columns = [
        "claim",
        "says",
        "paper",
        "median",
        "lowest",
        "highest",
        "seeds",
        "band",
        "in_band",
        "verdict",
        "note",
        "notes",
    ]
    rows = [
        [
            item.claim,
            item.says,
            "" if item.paper is None else repr(item.paper),
            "" if item.median is None else repr(item.median),
            *(
                (repr(min(item.by_seed.values())), repr(max(item.by_seed.values())))
                if item.by_seed
                else ("", "")
            ),
            _seeds(item),
            str(item.band),
            str(item.in_band) if item.by_seed else "",
            item.verdict.value,
            item.note,
            "; ".join(notes),
        ]
        for item in judged
    ]
    return csv_text(columns, rows)


def claims_markdown(
    title: str, judged: Sequence[Judged], found: Sensitivity | None, notes: Sequence[str] = ()
) -> str:
    """Return the table for reading.

    Args:
        title: Heading.
        judged: The verdicts.
        found: What other divergence thresholds would have said.
        notes: What to know about these runs: where they come from, what was made smaller.
    """
    counts = Counter(item.verdict for item in judged)
    summary = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    lines = [f"# {title}", "", f"{len(judged)} claims: {summary}." if judged else "No claims.", ""]
    lines += [*(f"- {note}" for note in notes), ""] if notes else []
    lines += ["| claim | paper says | paper | ours | lowest to highest | seeds | band | in band | verdict |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for item in judged:
        verdict = f"{item.verdict.value}: {item.note}" if item.note else item.verdict.value
        cells = [item.claim, item.says, _short(item.paper), _short(item.median), _spread(item), _seeds(item),
                 str(item.band), _in_band(item), verdict]  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if found is not None:
        lines += ["", *_threshold_lines(found)]
    return "\n".join(lines) + "\n"


def _threshold_lines(found: Sensitivity) -> list[str]:
    def times(share: float) -> str:
        return " or ".join(f"{share * factor:g}" for factor in found.factors) + " times"

    lines = [
        f"**Divergence.** Of {found.cells} cells {found.diverged} diverged at {times(1)} the initial loss; "
        f"{found.at_half} would have at {times(1 / 2)}; at {times(2)} {found.at_double} for certain; "
        f"{found.open_at_double} had not come that far when ended."
    ]
    if found.changed:
        peaks = ", ".join(f"`{cell}` ({peak:.3g})" for cell, peak in found.changed.items())
        lines += ["", f"Cells for which it matters, with their peak in initial losses: {peaks}."]
    return lines


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _spread(item: Judged) -> str:
    if len(item.by_seed) < 2:
        return ""
    return f"{min(item.by_seed.values()):.4g} to {max(item.by_seed.values()):.4g}"


def _seeds(item: Judged) -> str:
    return "all" if POOLED_SEEDS in item.by_seed else str(len(item.by_seed))


def _in_band(item: Judged) -> str:
    return f"{item.in_band} of {len(item.by_seed)}" if item.by_seed else ""
