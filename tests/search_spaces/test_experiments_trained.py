"""Small variants trained through in this process: what claims and figures name is what training records."""

import re
from pathlib import Path

import pytest

from search_spaces import load_space
from search_spaces.reports import CurvesSpec, LevelsSpec, PathSpec, ProfileSpec
from search_spaces.space import Space
from tests.trainers.probes.probed import recorded
from trainers.training import Trainer

TRAINED = ("say25-fig6", "say25-fig10", "grd18-fig2", "grd18-toy", "zs25-fig7", "mmb26")
"""Together they use most probes and optimisers, and every new kind of figure but the density."""

OF_THE_SWEEP = ("train/loss", "train/grad_norm", "test/accuracy")


def named_series(space: Space) -> set[str]:
    """Return every series that figures and claims name, as patterns where an index is left open."""
    named: set[str] = set()
    for report in space.reports:
        match report:
            case CurvesSpec():
                named |= set(report.series())
            case LevelsSpec():
                named |= set(report.series)
            case PathSpec():
                named |= {report.x, report.y}
            case ProfileSpec():
                named.add(report.series)
            case _:
                continue
    for claim in space.claims:
        for option in ("series", "over", "minus"):
            found = claim.statistic.get(option)
            named |= set(found) if isinstance(found, list) else {found} if found else set()
    return named


@pytest.mark.parametrize("name", TRAINED)
def test_training_records_what_the_experiment_names(name: str, tmp_path: Path) -> None:
    space = load_space(name, smoke=True)
    series: set[str] = set()
    for grid in space.grids:
        point = next(grid.points())
        trainer = Trainer([point.cell], data_folder=tmp_path)
        trainer.advance(point.cell.num_steps)
        series |= set(recorded(trainer))
    # Claims are those of the full size, whose waiting times a small variant does not have.
    wanted = {text for text in named_series(space) if "_since_" not in text} - set(OF_THE_SWEEP)
    for text in wanted:
        pattern = ".+".join(map(re.escape, text.split("<i>")))
        assert any(re.fullmatch(pattern, found) for found in series), text
