"""Whether a range is of real or of whole numbers: as the field is, or the option is declared."""

import pytest

from search_spaces import Space, load_space_text
from search_spaces.search import RangeSpec
from tests.search_spaces.test_space import TWO_PHASES

MIXTURE = TWO_PHASES.replace("mnist-5k", "gaussian-mixture").replace(
    "  phases", "  probes: [{name: alignment, k: 3}]\n  phases"
)


def searched(path: str, ends: str, more: str = "") -> Space:
    return load_space_text(f"{MIXTURE}search: {{axes: {{a: {{path: {path}, {ends}}}}}, cells: 2{more}}}\n")


def integer(space: Space) -> bool:
    axis = space.search.axes["a"]
    assert isinstance(axis, RangeSpec)
    return axis.integer


@pytest.mark.parametrize(
    ("path", "ends", "whole"),
    [
        ("dataset.sigma", "low: 0, high: 1", False),
        ("dataset.sigma", "low: 0.5, high: 1", False),
        ("dataset.classes", "low: 2, high: 5", True),
        ("probes.0.ema", "low: 0, high: 0.5", False),
        ("probes.0.k", "low: 1, high: 3", True),
        ("probes.0.every", "low: 1, high: 3", True),
        ("phases.0.lr", "low: 1, high: 2", False),
        ("phases.0.until", "low: 1, high: 2", True),
    ],
)
def test_a_range_is_of_numbers_as_they_are_declared(path: str, ends: str, whole: bool) -> None:
    space = searched(path, ends)
    assert integer(space) is whole
    assert load_space_text(space.text) == space
    assert integer(space.for_search({})) is whole


def test_a_search_that_was_recorded_with_whole_numbers_keeps_them() -> None:
    assert integer(searched("dataset.sigma", "low: 0, high: 1, integer: true")) is True


def test_the_option_is_that_of_what_the_search_sets() -> None:
    changed = ", set: {dataset: {name: gaussian-mixture, classes: 3}}"
    assert integer(searched("dataset.sigma", "low: 0, high: 1", changed)) is False


def test_between_whole_ends_of_a_real_option_there_are_others() -> None:
    axis = searched("dataset.sigma", "low: 0, high: 1").search.axes["a"]
    assert isinstance(axis, RangeSpec)
    assert axis.value(0.25) == 0.25 and axis.holds(0.25)
