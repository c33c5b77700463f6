"""Verdicts on a paper's claims: statistics of recorded runs, held against bands that the space stated before.

    claims of the space -> runs with histories -> statistics, seed by seed -> verdicts -> claims.md and .csv

`runs` reads, `statistics` computes, `judgement` decides, `thresholds` asks what another divergence rule would
have said, and `tables` writes. Nothing here draws.
"""

from sweep.verdicts.judgement import Judged, Verdict, judge
from sweep.verdicts.provenance import provenance
from sweep.verdicts.runs import Run, Untestable, load_runs
from sweep.verdicts.tables import claims_csv, claims_markdown
from sweep.verdicts.thresholds import Sensitivity, sensitivity

__all__ = [
    "Judged",
    "Run",
    "Sensitivity",
    "Untestable",
    "Verdict",
    "claims_csv",
    "claims_markdown",
    "judge",
    "load_runs",
    "provenance",
    "sensitivity",
]
