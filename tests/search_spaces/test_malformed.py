"""Every malformed space gets one clear message: where, what was found, what is allowed."""

from pathlib import Path

import pytest

from search_spaces import load_space, load_space_text
from tests.search_spaces.malformed import GOOD, MALFORMED, Malformed
from trainers.errors import ConfigError

LONGEST_MESSAGE = 2000


def test_the_good_space_is_good() -> None:
    assert len(list(load_space_text(GOOD).points())) == 7


@pytest.mark.parametrize("case", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(case: Malformed) -> None:
    assert case.old in GOOD
    with pytest.raises(ConfigError) as caught:
        load_space_text(GOOD.replace(case.old, case.new, 1), origin="the-space.yaml")
    message = str(caught.value)
    assert message.startswith("the-space.yaml")
    for text in case.says:
        assert text in message
    assert len(message) < LONGEST_MESSAGE
    assert "pydantic" not in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("- {lr: 0.1, until: 100}", "- 3"),
        ("lr: 0.1, until: 100", "lr: 0, until: 100"),
        ("model: mlp", "model:"),
    ],
)
def test_one_mistake_is_one_complaint(old: str, new: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_space_text(GOOD.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_a_path_is_that_of_the_file() -> None:
    text = f"{GOOD[: GOOD.index('grids:')]}axes: {{lr: [fast]}}\n"
    with pytest.raises(ConfigError, match=r"the-space\.yaml: axes\.lr: values\[0\]: .*'fast'"):
        load_space_text(text, origin="the-space.yaml")


def test_a_tag_runs_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    with pytest.raises(ConfigError):
        load_space_text(f"name: !!python/object/apply:os.system ['touch {victim}']")
    assert not victim.exists()


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text", "42"])
def test_not_a_mapping(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a mapping"):
        load_space_text(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no-such\.yaml.*No such file"):
        load_space(tmp_path / "no-such.yaml")
    with pytest.raises(ConfigError, match="directory"):
        load_space(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_space(str(binary))
    (tmp_path / "huge.yaml").write_text("# " + "x" * 5_000_000)
    with pytest.raises(ConfigError, match="characters"):
        load_space(tmp_path / "huge.yaml")


def test_an_unknown_space_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'zs25-table1'"):
        load_space("zs25-tabel1")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("lr", "path=value"),
        ("=3", "path=value"),
        ("lr=[0.1", "--set lr"),
        ("lr=[]", "at least one value"),
        ("lr=[0.1, fast]", "'fast'"),
        ("lrr=[0.1]", "Did you mean 'lr'"),
        ("base.refresh_evry=3", "Did you mean 'refresh_every'"),
        ("base.phases.7.until=3", "0 to 1"),
        ("base.phases.x.until=3", "unknown name 'x'"),
        ("base.seed.x=3", "no such path"),
        ("bse.seed=3", "Did you mean 'base'"),
        ("grids.mian.axes.lr=[1]", "Did you mean 'main'"),
        ("method=[SDG]", "Did you mean 'SGD'"),
        ("base.refresh_every=-3", "base.refresh_every"),
        ("base.model.activation=swish", "'swish'"),
        ("base.phases=[]", "at least 1"),
        ("name=A b", "'A b'"),
        ("lr=!!python/name:os.system", "not allowed"),
    ],
)
def test_malformed_overrides(override: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(GOOD)
    with pytest.raises(ConfigError) as caught:
        load_space(path, overrides=[override])
    assert says in str(caught.value)


def test_a_smoke_that_does_not_fit_and_one_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(GOOD)
    with pytest.raises(ConfigError, match="smoke: expected a mapping"):
        load_space(path, smoke=True)
    path.write_text(GOOD + "smoke: {base.sed: 1}\n")
    with pytest.raises(ConfigError, match=r"Did you mean 'seed'"):
        load_space(path, smoke=True)
    assert load_space(path).name == "small"
    path.write_text(
        GOOD.replace("- name: sgd", "- name: sgd\n    set: {probes: [3]}") + "smoke: {base.seed: 1}\n"
    )
    with pytest.raises(ConfigError, match=r"grids\.sgd\.set: probes\.0: expected a name"):
        load_space(path, smoke=True)
