"""Probes of one name in one cell: no two may record the same series; each is judged by what it looks at."""

from pathlib import Path

import pytest
import torch

from tests.trainers.probes.probed import measured, probe, probed
from trainers import instruments
from trainers.canonical import cell_id
from trainers.cell import Probe, Solver
from trainers.errors import ConfigError
from trainers.instruments import Leading

TWICE: list[tuple[Probe, Probe, str]] = [
    (probe("curvature", k=3), probe("curvature", k=4), "curvature/lambda_<i>"),
    (probe("curvature"), probe("curvature", every=7), "curvature/lambda_<i>"),
    (probe("alignment", of="update", k=3), probe("alignment", of="update"), "alignment/update_chi"),
    (probe("spread", k=3), probe("spread", k=4), "spread/gradient_sum"),
    (probe("overlap"), probe("overlap", k=2), "overlap/train"),
    (probe("overlap", k=2), probe("overlap", k=2, split="test"), "overlap/top_vector"),
    (
        probe("subspace_overlap", sizes=[2, 3], since=[0, 5]),
        probe("subspace_overlap", sizes=[3, 4], since=[5]),
        "subspace/top_3_since_5",
    ),
    (probe("distance"), probe("distance", every=7), "distance/from_switch"),
    (probe("distance", since=5), probe("distance", since=5, every=7), "distance/since_5"),
    (probe("sketch", size=3), probe("sketch", size=3, seed=1), "sketch/<i>"),
    (probe("edges"), probe("edges"), "edge/gd"),
]


@pytest.mark.parametrize(("first", "second", "series"), TWICE, ids=[series for *_, series in TWICE])
def test_two_that_would_record_the_same_are_refused(first: Probe, second: Probe, series: str) -> None:
    with pytest.raises(ConfigError, match="would both record ") as info:
        cell_id(probed(first, second))
    assert repr(first.name) in str(info.value) and series in str(info.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (probe("alignment"), probe("alignment", of="update")),
        (probe("spread", of="batch_gradient"), probe("spread", of="update")),
        (probe("overlap", k=2), probe("overlap", split="test")),
        (probe("subspace_overlap", sizes=[2], since=[0, 5]), probe("subspace_overlap", sizes=[3, 3])),
        (probe("distance"), probe("distance", since=5)),
        (probe("distance", since=4), probe("distance", since=5)),
        (probe("curvature"), probe("alignment")),
    ],
    ids=lambda one: one.name,
)
def test_two_that_record_different_things_are_not(first: Probe, second: Probe) -> None:
    cell_id(probed(first, second))


def test_functions_of_ones_own_with_one_name_for_two_things_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "my_probe.py"
    path.write_text(
        "def one(view):\n    return {'a': 1.0, 'b': 2.0}\n"
        "def other(view):\n    return {'b': 3.0}\n"
        "def third(view):\n    return {'c': 4.0}\n"
    )

    def own(function: str) -> Probe:
        return probe("file", path=str(path), function=function)

    with pytest.raises(ConfigError, match=r"'file' would both record own/<name> by one of .*my_probe\.py"):
        cell_id(probed(own("one"), own("one")))
    with pytest.raises(ConfigError, match="'file' both record own/b"):
        measured(probed(own("one"), own("other")))
    series, _ = measured(probed(own("one"), own("third")))
    assert (series["own/b"][0], series["own/c"][0]) == (2.0, 4.0)


def test_fewer_leading_eigenpairs_are_judged_by_themselves() -> None:
    space = Leading(
        basis_KP=torch.eye(3),
        values_K=torch.tensor([10.0, 2.0, 1e-3], dtype=torch.float64),
        residuals_K=torch.tensor([0.01, 0.1, 0.3], dtype=torch.float64),
        tolerance=0.05,
        products=9,
    )
    expected = {1: (0.001, True), 2: (0.05, True), 3: (3.0, False)}
    for k, (residual, converged) in expected.items():
        first = space.first(k)
        assert len(first.basis_KP) == len(first.values_K) == k and first.products == 9
        assert first.residual == pytest.approx(residual) and first.converged == converged
    assert space.first(3).residual == space.residual


def test_a_probe_is_not_unconverged_for_a_wider_one_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share an eigenspace, whose budget here is enough for one eigenpair and not for forty."""
    monkeypatch.setattr(instruments, "SOLVER", Solver(max_cold_products=3))
    options = {"holdout_size": 60, "tolerance": 1e-2}
    for curvature, other in ((1, 40), (40, 1)):
        # In a canonical form the one with the longer period comes last.
        pair = probe("curvature", k=curvature, **options), probe("spread", every=7, k=other, **options)
        series, _ = measured(probed(*pair))
        assert (series["curvature/residual"][0] <= options["tolerance"]) == (curvature == 1)
        assert series["curvature/converged"][0] == float(curvature == 1)
        assert series["probes/converged"][0] == float(other == 1)
