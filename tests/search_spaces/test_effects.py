"""What one label of an axis, or one `set`, says: all of it must count, and be something to build from."""

from pathlib import Path

import pytest

from search_spaces import load_space, load_space_text
from tests.search_spaces.test_space import TWO_PHASES
from trainers.cell import Cell
from trainers.errors import ConfigError
from trainers.options import Choice

IN_A_CHOICE = TWO_PHASES + "axes: {network: {choices: {one: SAID}}}\n"
IN_SET = TWO_PHASES + "grids: [{name: g, set: SAID}]\n"
IN_A_SEARCH = TWO_PHASES + "search: {axes: {network: {choices: {first: {}, one: SAID, last: {}}}}}\n"
SET_OF_A_SEARCH = TWO_PHASES + "search: {axes: {lr: [0.1]}, set: SAID}\n"


def only(text: str) -> Cell:
    (point,) = load_space_text(text).points()
    return point.cell


@pytest.mark.parametrize("where", [IN_A_CHOICE, IN_SET, IN_A_SEARCH, SET_OF_A_SEARCH])
@pytest.mark.parametrize(
    ("said", "idle", "over"),
    [
        ("{model.activation: tanh, model: cnn}", "model.activation", "model"),
        ("{phases.1.lr: 0.05, phases.*.lr: 0.001}", "phases.1.lr", "phases.*.lr"),
        ("{phases.1.lr: 0.05, phases.-1.lr: 0.001}", "phases.1.lr", "phases.-1.lr"),
    ],
)
def test_what_is_set_again_after_is_refused(where: str, said: str, idle: str, over: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_space_text(where.replace("SAID", said))
    assert f"{idle!r} has no effect, since {over!r} after it" in str(caught.value)


def test_a_list_of_phases_after_a_part_of_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"grids\.g\.set: 'phases\.0\.lr' has no effect"):
        load_space_text(IN_SET.replace("SAID", "{phases.0.lr: 0.5, phases: [{lr: 0.7, until: 2}]}"))


@pytest.mark.parametrize("where", [IN_A_CHOICE, IN_SET])
def test_a_part_may_be_set_after_the_whole(where: str) -> None:
    cell = only(
        where.replace(
            "SAID", "{model: {name: cnn}, model.activation: tanh, phases.*.lr: 0.001, phases.1.lr: 0.05}"
        )
    )
    assert cell.model == Choice.of("cnn", activation="tanh")
    assert [phase.lr for phase in cell.phases] == [0.001, 0.05]


def test_an_exception_may_follow_what_is_said_of_all_phases() -> None:
    one = TWO_PHASES.replace("    - {lr: 0.2, until: 9}\n", "")
    cell = only(one + "axes: {network: {choices: {one: {phases.*.lr: 0.3, phases.0.lr: 0.4}}}}\n")
    assert [phase.lr for phase in cell.phases] == [0.4]


def test_an_axis_may_set_a_place_twice_to_its_value() -> None:
    axis = "axes: {rate: {path: [phases.0.lr, phases.*.lr], values: [0.3]}}\n"
    assert [phase.lr for phase in only(TWO_PHASES + axis).phases] == [0.3, 0.3]


@pytest.mark.parametrize("value", ["{100}", "{a: 1}", "[[100, {a: 1}]]"])
@pytest.mark.parametrize("path", ["model.widths", "dataset.labels", "loss.scale", "probes.0.k"])
def test_an_option_is_no_mapping(path: str, value: str) -> None:
    text = IN_A_CHOICE.replace("  phases", "  probes: [curvature]\n  phases")
    with pytest.raises(ConfigError, match="choices.one: expected a number, text, .*; found"):
        load_space_text(text.replace("SAID", f"{{{path}: {value}}}"))


@pytest.mark.parametrize(
    ("override", "rates"),
    [
        ("phases.*.lr=0.7", [0.7, 0.5]),
        ("phases.1.lr=0.7", [0.3, 0.7]),
        ("phases.-1.lr=0.7", [0.3, 0.7]),
        ("phases.0.lr=0.7", [0.7, 0.5]),
        ("phases=[{lr: 0.7, until: 3}]", [0.7]),
        ("phases.*={lr: 0.7, until: 3}", [0.7, 0.7]),
    ],
)
def test_an_override_replaces_what_it_sets_anew(tmp_path: Path, override: str, rates: list[float]) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(IN_SET.replace("SAID", "{phases.*.lr: 0.3, phases.1.lr: 0.5, model.activation: tanh}"))
    (point,) = load_space(path, overrides=[f"grids.g.set.{override}"]).points()
    assert [phase.lr for phase in point.cell.phases] == rates
    assert point.cell.model == Choice.of("mlp", activation="tanh")


def test_an_override_that_leads_nowhere_says_so(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(IN_SET.replace("SAID", "{phases.1.lr: 0.5}"))
    for wrong in ("phases.2.lr", "phases.9.lr"):
        with pytest.raises(ConfigError, match=rf"set\.{wrong}: found index .; allowed: 0 to 1"):
            load_space(path, overrides=[f"grids.g.set.{wrong}=0.7"])


@pytest.mark.parametrize(("path", "rates"), [("phases.*.lr", [0.7, 0.7]), ("phases.-1.lr", [0.1, 0.7])])
def test_a_search_over_a_grid_replaces_what_it_sets_anew(path: str, rates: list[float]) -> None:
    grid = "grids: [{name: g, set: {phases.1.lr: 0.5, seed: 3}, axes: {k: [1, 2]}}]\n"
    space = load_space_text(TWO_PHASES + grid + "search: {set: {" + path + ": 0.7}}\n")
    (point,) = space.sampled({"k": 2})
    assert ([phase.lr for phase in point.cell.phases], point.cell.seed) == (rates, 3)
