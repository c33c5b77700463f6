"""A measurement of the user's own: what its file may hold, and how its mistakes are told."""

from pathlib import Path

import pytest

from tests.trainers.probes.probed import measured, probe, probed
from trainers.errors import ConfigError

ANNOTATED = """
from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass
class Largest:
    scale: float

    def of(self, view) -> dict[str, float]:
        assert Path(__file__).name == "my_probe.py"
        return {"largest": self.scale * float(view.params_P.abs().max())}


def measure(view):
    return Largest(2.0).of(view)
"""


def series(source: str, folder: Path) -> dict[str, dict[int, float]]:
    path = folder / "my_probe.py"
    path.write_text(source)
    return measured(probed(probe("file", path=str(path))))[0]


def test_a_file_may_have_dataclasses_with_later_annotations(tmp_path: Path) -> None:
    assert series(ANNOTATED, tmp_path)["own/largest"][0] > 0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def measured(view):\n    return {}\n", r"my_probe\.py has no function 'measure'"),
        ("{}['width']\n", r"my_probe\.py failed: KeyError\('width'\)"),
        (
            "def measure(view):\n    return {}['width']\n",
            r"measure of .*my_probe\.py failed: KeyError\('width'\)",
        ),
    ],
    ids=["no function", "the file fails", "the function fails"],
)
def test_a_mistake_is_told_as_what_it_is(source: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        series(source, tmp_path)
