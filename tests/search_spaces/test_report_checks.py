"""Reports are held against what the cells of the grids that they show record."""

import pytest

from search_spaces import load_space_text
from trainers.errors import ConfigError

SPACE = """\
name: s
base:
  model: {{name: mlp, widths: [4]}}
  dataset: {dataset}
  probes: [{probe}]
  phases: [{{lr: 0.1, until: 5}}]
grids:
  - {{name: shown{grid}}}
  - {{name: wide, set: {{probes: [{{name: curvature, k: 50}}]}}}}
reports: [{{kind: curves, name: c, grids: [{grids}], metrics: [{metric}]}}]
"""


def load(metric: str, **fields: str) -> None:
    given = {"dataset": "mnist-5k", "probe": "curvature", "grid": "", "grids": "shown", **fields}
    load_space_text(SPACE.format(metric=metric, **given))


DIGITS_OR_PARITY = ", axes: {labels: {path: dataset.labels, values: [given, parity]}}"


@pytest.mark.parametrize(
    ("recorded", "fields"),
    [
        (10, {}),
        (100, {"dataset": "cifar100"}),
        (2, {"dataset": "{name: mnist-5k, labels: parity}"}),
        (3, {"probe": "{name: curvature, k: 3}"}),
        (50, {"grids": "shown, wide"}),
        (10, {"grid": DIGITS_OR_PARITY}),
        (7, {"grid": ", axes: {k: {path: probes.0.k, values: [3, 7]}}"}),
        (6, {"grid": ", axes: {k: {choices: {few: {probes.0.k: 2}, many: {probes.0.k: 6}}}}"}),
        (
            2,
            {"grid": DIGITS_OR_PARITY.replace("}}", "}, seed: [0, 1]}, exclude: [{labels: given}]")},
        ),
        (12, {"grid": ", set: {probes: [{name: curvature, k: 12}]}"}),
        (4, {"grid": ", set: {probes.0.k: 4}"}),
    ],
)
def test_as_many_eigenvalues_as_the_shown_cells_record(recorded: int, fields: dict[str, str]) -> None:
    load(f"curvature/lambda_{recorded}", **fields)
    with pytest.raises(ConfigError, match=rf"unknown metric 'curvature/lambda_{recorded + 1}'"):
        load(f"curvature/lambda_{recorded + 1}", **fields)


def test_probes_that_a_grid_replaces_record_nothing_there() -> None:
    fields = {"probe": "alignment", "grid": ", set: {probes: [{name: overlap}]}"}
    load("overlap/train", **fields)
    with pytest.raises(ConfigError, match="unknown metric 'alignment/gradient_chi'"):
        load("alignment/gradient_chi", **fields)
