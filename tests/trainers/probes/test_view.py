"""What a function of the user's own may look at."""

from pathlib import Path

import pytest

from tests.trainers.probes.probed import DATA, measured, probe, probed
from trainers.cell import Probe
from trainers.errors import ConfigError

HOLDOUT = {"holdout_size": 60, "holdout_seed": 0, "tolerance": 1e-2}


def own(folder: Path, **asked: object) -> Probe:
    """One that counts the eigenvectors that it is given."""
    path = folder / "my_probe.py"
    path.write_text(f"def measure(view):\n    return {{'rows': len(view.basis({asked}))}}\n")
    return probe("file", path=str(path))


@pytest.mark.parametrize("k", [1, 3])
def test_a_function_of_ones_own_sees_what_another_probe_follows(k: int, tmp_path: Path) -> None:
    series, _ = measured(probed(probe("curvature", k=3, **HOLDOUT), own(tmp_path, k=k, **HOLDOUT)))
    assert series["own/rows"] == {0: k, 5: k, 10: k}


def test_a_seed_that_decides_nothing_names_no_other_eigenpairs(tmp_path: Path) -> None:
    whole = {**HOLDOUT, "holdout_size": len(DATA.train_labels), "holdout_seed": 7}
    series, _ = measured(probed(probe("curvature", k=3, **whole), own(tmp_path, k=2, **whole)))
    assert series["own/rows"] == {0: 2, 5: 2, 10: 2}


@pytest.mark.parametrize(
    ("declared", "asked", "says"),
    [
        ((probe("curvature", k=3, **HOLDOUT),), {**HOLDOUT, "k": 4}, "k: 4}: the cell's probes follow 3 of"),
        ((), {**HOLDOUT, "k": 2}, "the cell's probes follow none of"),
        ((probe("curvature", k=3, **HOLDOUT),), {**HOLDOUT, "holdout_size": 50, "k": 2}, "follow none of"),
        ((probe("curvature", k=3, **HOLDOUT),), {"k": 2}, "{k: 2}: .* follow none of"),
        ((probe("curvature", k=3, **HOLDOUT),), {}, "follow none of"),
    ],
)
def test_what_no_probe_follows_is_refused(
    declared: tuple[Probe, ...], asked: dict[str, object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"{says}.* Declare a probe .*name: curvature"):
        measured(probed(*declared, own(tmp_path, **asked)))
