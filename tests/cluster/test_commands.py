"""The commands that `cluster` adds to `sweep`, as a user types them."""

import re
import shlex
import stat
import sys
from pathlib import Path

import pytest
import yaml

from cluster.commands import Kind, _rejoin
from cluster.secrets import LOGIN, RECORD, S3_KEYS, read_environment
from cluster.submission import Submission
from search_spaces import load_space, load_space_text
from sweep.cli import main
from tests.cluster.played import DONE, Played

SPACE = "name: mine\nbase: {model: mlp, dataset: mnist-5k, phases: [{lr: 1, until: 2}]}\naxes: {seed: [0]}\n"
SEARCH = SPACE.replace("axes: {seed: [0]}", "search: {axes: {lr: {low: 0.1, high: 1}}}")


def sweep(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*LOGIN, "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", *RECORD):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_init_writes_secrets_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("cluster", "init", "--gpu") == 0
    assert stat.S_IMODE(Path(".env").stat().st_mode) == 0o600
    assert read_environment(Path(".env"))["COMPOSE_PROFILES"] == "gpu"
    shown = capsys.readouterr()
    assert not any(
        value in shown.out + shown.err for value in read_environment(Path(".env")).values() if len(value) > 20
    )
    assert sweep("cluster", "init") == 2
    assert "stays as it is" in capsys.readouterr().err


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_cluster_is_rendered(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    Path("spec.yaml").write_text("name: ours\non_premise: {head: here, workers: [there]}\n")
    Path("mine.yaml").write_text(SPACE)
    runs_one = kind in (Kind.RAY_JOB, Kind.SLURM)
    assert (
        sweep(
            "cluster", "render", kind, "--spec", "spec.yaml", *(("--space", "mine.yaml") if runs_one else ())
        )
        == 0
    )
    text = capsys.readouterr().out
    assert "ours" in text
    if kind is Kind.SLURM:
        assert str(Path("mine.yaml").absolute()) in text, "the job starts in another folder"
    else:
        assert list(yaml.safe_load_all(text))
    if kind is Kind.RAY_JOB:
        assert "name: mine" in text, "the space travels"


def test_a_space_whose_files_would_not_be_there_is_refused_as_a_rayjob(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("my_model.py").write_text(
        "from torch import nn\n\ndef build(shape, outputs):\n    return nn.Flatten()\n"
    )
    Path("own.yaml").write_text(SPACE.replace("model: mlp", "model: {name: file, path: my_model.py}"))
    assert sweep("cluster", "render", Kind.RAY_JOB, "--space", "own.yaml") == 2
    told = capsys.readouterr()
    assert "model.path: found 'my_model.py'" in told.err and "sweep submit" in told.err
    assert not told.out
    assert sweep("cluster", "render", Kind.SLURM, "--space", "own.yaml") == 0, "its machines share the folder"


@pytest.mark.parametrize("kind", [Kind.RAY_JOB, Kind.SLURM])
def test_options_of_the_driver_come_after_two_dashes(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    render = ("cluster", "render", kind, "--space", "demo")
    assert sweep(*render, "--", "--lanes", "4", "--time-limit", "2h") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert re.search("keeper .*run demo --name demo .*--lanes 4 --time-limit 2h", told)
    for wrong, said in (
        (("--lanes", "none"), "--lanes"),
        (("--surprise",), "--surprise"),
        (("--address", "auto"), "--address is the cluster's own"),
        (("--name", "other"), "--name comes before the `--`"),
        (("--cells", "8"), "--cells"),
    ):
        assert sweep(*render, "--", *wrong) == 2
        assert said in capsys.readouterr().err
    assert sweep(*render, "--lanes", "4") == 2, "before them it is an option of `render`"


@pytest.mark.parametrize("kind", [Kind.RAY_JOB, Kind.SLURM])
def test_what_has_no_grid_is_searched_and_not_run(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(SEARCH)
    render = ("cluster", "render", kind, "--space", "mine.yaml")
    assert sweep(*render) == 2
    assert "has no grid; to search it: add --search" in capsys.readouterr().err
    assert sweep(*render, "--search") == 2
    assert "found no budget" in capsys.readouterr().err
    assert sweep(*render, "--search", "--", "--cells", "8") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert re.search(r"keeper (--stopped-is-done )?search \S*\.yaml --name mine-search .*--cells 8", told)


SMALL = SPACE + "smoke: {base.phases.0.until: 1}\n"


def driver_of(kind: Kind, text: str) -> list[str]:
    """Return the words of the driver that a rendered file starts."""
    if kind is Kind.RAY_JOB:
        text = list(yaml.safe_load_all(text))[-1]["spec"]["entrypoint"]
    (line,) = [line for line in text.splitlines() if "cluster.keeper" in line]
    return shlex.split(line)


@pytest.mark.parametrize("kind", [Kind.RAY_JOB, Kind.SLURM])
def test_a_changed_space_is_what_the_cluster_runs(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ("--smoke", "--set", "seed=[0, 1]")
    assert sweep("cluster", "render", kind, "--space", "demo", *changes, "--", "--lanes", "4") == 0
    words = driver_of(kind, capsys.readouterr().out)
    at = words.index("run")
    assert words[at : at + 4] == ["run", "demo", "--name", "demo-smoke"]
    assert [word for word in words if word in (*changes, "--lanes", "4")] == [*changes, "--lanes", "4"]

    Path("mine.yaml").write_text(SMALL)
    assert sweep("cluster", "render", kind, "--space", "mine.yaml", *changes) == 0
    text = capsys.readouterr().out
    words = driver_of(kind, text)
    assert "mine-smoke" in words
    if kind is Kind.RAY_JOB:
        # The text that travels has the changes, and no small variant any more.
        assert not {"--smoke", "--set"} & set(words)
        travels = next(yaml.safe_load_all(text))["data"]["space.yaml"]
        assert load_space_text(travels) == load_space("mine.yaml", smoke=True, overrides=["seed=[0, 1]"])
    else:
        assert [word for word in words if word in changes] == [*changes]
    for wrong in (("--smoke",), ("--set", "k=2")):
        assert sweep("cluster", "render", kind, "--space", "demo", "--", *wrong) == 2
        assert f"{wrong[0]} comes before the `--`" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [Kind.RAY_JOB, Kind.SLURM])
def test_checks_are_of_the_changed_space(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(SEARCH)
    render = ("cluster", "render", kind, "--space", "mine.yaml", "--search")
    assert sweep(*render) == 2
    assert sweep(*render, "--set", "search.cells=8") == 0
    Path("my_model.py").write_text(
        "from torch import nn\n\ndef build(shape, outputs):\n    return nn.Flatten()\n"
    )
    model = "base.model={name: file, path: my_model.py}"
    assert sweep("cluster", "render", kind, "--space", "demo", "--set", model) == (
        2 if kind is Kind.RAY_JOB else 0
    )


def test_a_name_is_no_file_and_a_file_is_found_as_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("demo").mkdir()
    assert sweep("cluster", "render", Kind.RAY_JOB, "--space", "demo") == 0
    assert "run demo --name demo" in " ".join(capsys.readouterr().out.split()), "the space of the package"
    assert sweep("cluster", "render", Kind.SLURM, "--space", "demo") == 0
    assert "run demo --name demo" in capsys.readouterr().out
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.yaml").write_text(SPACE)
    monkeypatch.setenv("HOME", str(home))
    assert sweep("cluster", "render", Kind.SLURM, "--space", "~/mine.yaml") == 0
    assert f"run {home}/mine.yaml --name mine" in capsys.readouterr().out
    assert sweep("cluster", "render", Kind.RAY_JOB, "--space", "~/mine.yaml") == 0
    assert "name: mine" in capsys.readouterr().out


SECRET = "s3://KEY:SECRET@bucket/path"


@pytest.mark.parametrize(
    "command",
    [
        ("submit", "demo", "--storage", SECRET, "--address", "http://127.0.0.1:9"),
        ("submit", "mine", "--resume", "--storage", SECRET, "--address", "http://127.0.0.1:9"),
        ("resume", "mine", "--storage", SECRET, "--address", "http://127.0.0.1:9"),
        ("doctor", "--tracking-uri", "http://me:SECRET@host:5000", "--address", "http://127.0.0.1:9"),
        ("cluster", "render", "rayjob", "--space", "demo", "--", "--storage", SECRET),
    ],
)
def test_no_secret_reaches_the_logs_of_a_cluster(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(*command) == 2
    told = capsys.readouterr().err
    assert "environment" in told and "SECRET@" not in told


@pytest.mark.parametrize(
    ("option", "uri", "whole", "alone"),
    [
        ("--tracking-uri", "postgresql://me:SECRET@db/mlflow", "`tracking_uri` of the spec", None),
        ("--tracking-uri", "https://me:SECRET@host", "`tracking_uri` of the spec", RECORD[2]),
        ("--storage", SECRET, "`storage` of the spec", "AWS_SECRET_ACCESS_KEY"),
        ("--storage", "abfs://KEY:SECRET@host/path", "`storage` of the spec", None),
    ],
)
@pytest.mark.parametrize("kind", [Kind.RAY_JOB, Kind.SLURM])
def test_a_secret_that_is_refused_in_an_option_has_a_place_elsewhere(
    kind: Kind, option: str, uri: str, whole: str, alone: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("cluster", "render", kind, "--space", "demo", "--", option, uri) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert whole in told
    # Apart from the URI only where that can be: MLflow's login is of its server, and these keys are of S3.
    assert [name for name in (*RECORD[1:], *S3_KEYS) if name in told][1:] == ([alone] if alone else [])
    Path("cluster.yaml").write_text(f"{option.strip('-').replace('-', '_')}: {uri}\n")
    assert sweep("cluster", "render", kind, "--space", "demo", "--spec", "cluster.yaml") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if uri in line]
    # As a value of the environment, and in no command.
    assert lines and all(line.strip().startswith(("value: ", "export ")) for line in lines)


def test_what_runs_no_space_takes_no_options_of_its_driver(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("cluster", "render", Kind.RAY_CLUSTER, "--", "--lanes", "4") == 2
    assert "raycluster runs no space: found --lanes 4" in capsys.readouterr().err
    assert sweep("cluster", "render", Kind.CLOUD, "--smoke", "--set", "k=[2]") == 2
    assert "runs no space: found --smoke --set 'k=[2]'" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [Kind.RAY_JOB, Kind.SLURM])
def test_what_runs_one_space_wants_one(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("cluster", "render", kind) == 2
    assert "--space: found none" in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("submit", "demo") == 2
    assert "--address: found none" in capsys.readouterr().err
    assert sweep("logs", "demo", "--address", "http://127.0.0.1:9") == 2
    told = capsys.readouterr().err
    assert "no Ray cluster at http://127.0.0.1:9" in told
    assert "Traceback" not in told


def test_the_space_comes_before_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("submit", "--gpus-per-trial", "1", "demo", "--address", "http://127.0.0.1:9") == 2
    assert "found '--gpus-per-trial'; it comes first: sweep submit SPACE" in capsys.readouterr().err


def test_a_mistake_in_the_space_is_said_before_the_cluster_is_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sweep("submit", "demo", "--set", "surprise=1", "--address", "http://127.0.0.1:9") == 2
    assert "surprise" in capsys.readouterr().err


def test_a_space_without_a_grid_is_refused_before_it_travels_or_searched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.yaml").write_text(SEARCH)
    submit = ("submit", "mine.yaml", "--address", "http://127.0.0.1:9")
    assert sweep(*submit) == 2
    assert "submit mine.yaml --search" in capsys.readouterr().err
    assert sweep(*submit, "--search") == 2
    assert "found no budget" in capsys.readouterr().err
    taken: list[Submission] = []

    def take(jobs: object, submission: Submission, **named: object) -> int:
        taken.append(submission)
        return 0

    monkeypatch.setattr("cluster.jobs.Jobs", lambda place: place)
    monkeypatch.setattr("cluster.submission.submit_and_follow", take)
    assert sweep(*submit, "--search", "--cells", "8", "--sampler", "random") == 0
    (taken_one,) = taken
    assert taken_one.space is not None and taken_one.space.is_search
    assert taken_one.entrypoint == (
        "python -m cluster.keeper search space.yaml --name mine-search --address auto "
        "--cells 8 --sampler random"
    )
    assert sweep("submit", "mine-search", "--resume", "--search", "--address", "http://x") == 2


@pytest.mark.parametrize("detach", [False, True])
def test_a_driver_that_nobody_follows_knows(detach: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Played([DONE])
    monkeypatch.setattr("cluster.jobs.Jobs", lambda place: jobs)
    words = ["--address", "http://127.0.0.1:9", "--image-code", *(["--detach"] if detach else [])]
    assert sweep("submit", "demo", "--smoke", *words) == 0
    assert jobs.unattended == ["1" if detach else None]
    assert jobs.restarted == [None]


def test_how_to_join_again_names_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep"])
    assert _rejoin("my sweep", "http://a:1") == "sweep logs 'my sweep' --address http://a:1"
    assert _rejoin("-x", None) == "sweep logs -- -x"


@pytest.mark.parametrize(
    "typed",
    [
        "--cell abcd --cell ef01",
        "--first lr=0.1 --first 'alpha_dom=1 2'",
        "--no-system-metrics",
        "--lanes auto",
        "--lanes 4 --continue-stopped",
        "--storage 's3://a b' --gpus-per-trial 0.5 --time-limit 2h --price 0.3",
    ],
)
def test_options_of_resume_reach_the_cluster_as_they_were_typed(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, taken = shlex.split(typed), list[Submission]()

    def submit(jobs: object, submission: Submission, **named: object) -> int:
        taken.append(submission)
        return 0

    monkeypatch.setattr("cluster.jobs.Jobs", lambda place: place)
    monkeypatch.setattr("cluster.submission.submit_and_follow", submit)
    assert sweep("resume", "mine", *words, "--address", "http://x") == 0
    passed_on = list(taken[0].options)
    assert sorted(passed_on) == sorted(words)
    # And these give the same again.
    assert sweep("resume", "mine", *passed_on, "--address", "http://x") == 0
    assert taken[1].options == taken[0].options


def test_options_of_resume_are_checked_before_they_are_passed_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.commands._in_words", lambda options, function: ["--surprise"])
    assert sweep("resume", "mine", "--address", "http://127.0.0.1:9") == 2
    assert "--surprise" in capsys.readouterr().err


def test_options_of_run_are_checked_here_and_passed_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep("submit", "demo", "--lanes", "none", "--address", "http://127.0.0.1:9") == 2
    assert "--lanes" in capsys.readouterr().err
    assert sweep("submit", "demo", "--surprise", "--address", "http://127.0.0.1:9") == 2
    assert "surprise" in capsys.readouterr().err
    taken: list[Submission] = []

    def submit(jobs: object, submission: Submission, **named: object) -> int:
        taken.append(submission)
        return 0

    monkeypatch.setattr("cluster.jobs.Jobs", lambda place: place)
    monkeypatch.setattr("cluster.submission.submit_and_follow", submit)
    command = [
        "submit",
        "demo",
        "--lanes",
        "4",
        "--name",
        "mine",
        "--storage",
        "s3://a b",
        "--address",
        "http://x",
    ]
    assert sweep(*command) == 0
    assert taken[0].name == "mine"
    assert taken[0].entrypoint.endswith("--name mine --address auto --lanes 4 --storage 's3://a b'")
    assert sweep("submit", "mine", "--resume", "--lanes", "4", "--address", "http://x") == 0
    assert taken[1].entrypoint == "python -m cluster.keeper resume mine --address auto --lanes 4"
    assert sweep("submit", "mine", "--resume", "--smoke", "--address", "http://x") == 2
    # The same as `sweep resume` with a dashboard's address.
    assert sweep("resume", "mine", "--lanes", "4", "--accept-version", "--address", "http://x") == 0
    assert taken[2].entrypoint.endswith("keeper resume mine --address auto --lanes 4 --accept-version")
    assert taken[2].space is None
