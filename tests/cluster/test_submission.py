"""What travels with a job, which job is joined, and the command of its driver."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.main import get_command

from cluster.jobs import Job, Jobs, submission_id
from cluster.shipping import SPACE_FILE, pack_code, pack_space
from cluster.submission import Submission, standing, submit
from search_spaces import Space, load_space, load_space_text
from sweep.cli import app
from sweep.environment import source_state
from sweep.errors import ClusterError, LedgerUnavailableError
from sweep.plan import make_plan
from tests.cluster.played import RUNNING, SPACE, SUBMISSION
from trainers.errors import ConfigError

PROBE = "def measure(view):\n    return {}\n"
MODEL = "from torch import nn\n\ndef build(input_shape, num_outputs):\n    return nn.Flatten()\n"


def test_what_travels_runs_by_itself(tmp_path: Path) -> None:
    pack_space(tmp_path, SPACE)
    pack_code(tmp_path)
    command = [sys.executable, "-m", "sweep", "plan", SPACE_FILE, "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env={})
    told, planned = json.loads(done.stdout), make_plan(SPACE).to_json()
    assert {key: told[key] for key in planned} == planned
    script = (
        "import sweep; from sweep.environment import source_state; print(sweep.__file__, *source_state())"
    )
    state = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True, env={}
    ).stdout.split()
    assert state == [str(tmp_path / "sweep" / "__init__.py"), *map(str, source_state())]


def test_a_space_travels_with_its_overrides(tmp_path: Path) -> None:
    pack_space(tmp_path, SPACE)
    assert [path.name for path in tmp_path.iterdir()] == [SPACE_FILE]
    assert load_space_text((tmp_path / SPACE_FILE).read_text()) == SPACE


ONE_SEED = {"seed": [0]}


def one_cell(axes: Mapping[str, object] = ONE_SEED, **changes: object) -> Space:
    """Return a space of one cell."""
    phases = [{"lr": 1, "until": 2}]
    base = {
        "model": "mlp",
        "dataset": "mnist-5k",
        "batch_size": 2,
        "holdout_size": None,
        "phases": phases,
        **changes,
    }
    return load_space_text(yaml.safe_dump({"name": "own", "base": base, "axes": dict(axes)}))


def own_file(kind: str, path: str) -> dict[str, object]:
    """Return what names a file of the user's own, having written it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if kind == "dataset":
        inputs, labels = np.zeros((4, 2)), np.array([0, 1, 0, 1])
        arrays = {
            "train_inputs": inputs,
            "train_labels": labels,
            "test_inputs": inputs,
            "test_labels": labels,
        }
        np.savez(path, **arrays)
    else:
        Path(path).write_text(MODEL if kind == "model" else PROBE)
    named = {"name": "file", "path": path}
    return {kind: [named] if kind == "probes" else named}


@pytest.mark.parametrize("kind", ["model", "dataset", "probes"])
@pytest.mark.parametrize("path", ["own/mine.npz", "../mine.npz", "/mine.npz"])
def test_a_file_of_the_user_s_own_travels_when_it_is_below_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, path: str
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    path = str(tmp_path / "mine.npz") if path == "/mine.npz" else path
    monkeypatch.chdir(here)
    space = one_cell(**own_file(kind, path))
    if path == "own/mine.npz":
        pack_space(there, space)
        assert (there / path).read_bytes() == Path(path).read_bytes()
        # Where it goes there is nothing else, and planning reads it.
        monkeypatch.chdir(there)
        Path("../here", path).unlink()
        make_plan(load_space(SPACE_FILE))
    elif kind == "dataset" and path.startswith("/"):
        pack_space(there, space)
        assert [one.name for one in there.iterdir()] == [SPACE_FILE], "where all nodes see it, it stays"
    else:
        with pytest.raises(ConfigError, match=rf"{kind}\.path: .*below the working folder"):
            pack_space(there, space)


def test_two_files_of_one_content_both_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("first.py", "second.py"):
        own_file("model", path)
    axis = {"path": "model.path", "values": ["first.py", "second.py"]}
    space = one_cell({"which": axis}, **own_file("model", "base.py"))
    assert len(make_plan(space).cells) == 1, "one experiment"
    (tmp_path / "there").mkdir()
    pack_space(tmp_path / "there", space)
    assert {one.name for one in Path("there").glob("*.py")} == {"base.py", "first.py", "second.py"}


def test_own_files_lie_beside_the_code_in_folders_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, path in (("there", "sweep/mine.py"), ("elsewhere", "sweep/cli.py")):
        Path(folder).mkdir()
        pack_space(tmp_path / folder, one_cell(**own_file("model", path)))
    pack_code(Path("there"))
    assert Path("there/sweep/mine.py").read_text() == MODEL
    assert Path("there/sweep/cli.py").is_file()
    with pytest.raises(ConfigError, match=r"'sweep/cli\.py' among the files of the space"):
        pack_code(Path("elsewhere"))


def test_files_that_are_too_large_are_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    space = one_cell(**own_file("dataset", "mine.npz"))
    monkeypatch.setattr("cluster.shipping.MAX_BYTES", 10)
    with pytest.raises(ConfigError, match=r"dataset\.path: found 'mine\.npz'.*by their absolute path"):
        pack_space(tmp_path, space)


class Opened(Jobs):
    """A cluster that keeps what a job's working folder had in it."""

    def __init__(self) -> None:
        self.address = "http://opened"
        self.folder: dict[str, str] = {}

    def submit(
        self,
        sweep: str,
        *,
        space_sha256: str,
        stored_sha256: Callable[[], str],
        entrypoint: str,
        runtime_env: Mapping[str, Any],
    ) -> Job:
        """Look into the folder and start nothing."""
        files = [path for path in Path(runtime_env["working_dir"]).rglob("*") if path.is_file()]
        self.folder = {path.name: path.read_text() for path in files}
        return RUNNING


@pytest.mark.parametrize("reached", [True, False])
def test_a_model_s_file_travels_again_when_a_sweep_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MODEL)
    base = "{model: {name: file, path: mine.py}, dataset: mnist-5k, phases: [{lr: 1, until: 2}]}"
    space = load_space_text(f"name: own\nbase: {base}\naxes: {{seed: [0]}}")

    def stored(uri: str, name: str) -> Space:
        assert (uri, name) == ("http://mlflow", "own")
        if not reached:
            raise LedgerUnavailableError("it does not answer")
        return space

    monkeypatch.setattr("cluster.submission.stored_space", stored)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    jobs = Opened()
    submit(jobs, Submission(name="own", space=None, with_code=False))
    assert jobs.folder.get("mine.py") == (MODEL if reached else None)


class Running(Jobs):
    """A cluster on which one job of the sweep runs."""

    def __init__(self, job: Job) -> None:
        self.address = "http://running"
        self._job = job

    def newest(self, sweep: str) -> Job | None:
        return self._job


ADDRESSES = {"ours": SPACE.sha256, "another": "f" * 64, "unknown": ""}


@pytest.mark.parametrize(
    ("wanted", "running", "stored", "refusal"),
    [
        (SPACE, "ours", "unknown", None),
        (SPACE, "another", "ours", "with another space"),
        # A job that resumes the sweep has no address of its own.
        (SPACE, "unknown", "ours", None),
        (SPACE, "unknown", "another", "with another space"),
        (SPACE, "unknown", "unknown", "MLFLOW_TRACKING_URI"),
        (None, "ours", "another", None),
        (None, "another", "unknown", None),
        (None, "unknown", "unknown", None),
    ],
)
def test_a_running_job_is_joined_for_its_own_space_only(
    wanted: Space | None, running: str, stored: str, refusal: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if stored != "unknown":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    monkeypatch.setattr("cluster.submission.stored_sha256", lambda uri, name: ADDRESSES[stored])
    monkeypatch.setattr("cluster.submission.stored_space", lambda uri, name: SPACE)
    job = replace(RUNNING, space_sha256=ADDRESSES[running])
    submission = Submission(name="mine", space=wanted, with_code=False)
    if refusal is None:
        assert submit(Running(job), submission) == job
    else:
        with pytest.raises(ClusterError, match=refusal):
            submit(Running(job), submission)


def test_options_that_a_running_job_has_not_are_said() -> None:
    jobs, limited = Running(RUNNING), replace(SUBMISSION, options=["--cost-limit", "10"])
    same = replace(RUNNING, entrypoint=SUBMISSION.entrypoint)
    assert standing(jobs, same, SUBMISSION) == f"job sweep-mine on {jobs.address}"
    said = standing(jobs, same, limited)
    assert "was running already, as sweep run" in said and "--commit-every 1; options that differ" in said


def test_the_driver_s_command_is_quoted() -> None:
    odd = Submission(name="it's mine", space=SPACE, options=["--storage", "s3://a b"])
    assert odd.entrypoint.endswith("--name 'it'\"'\"'s mine' --address auto --storage 's3://a b'")


@pytest.mark.parametrize("space", [SPACE, None])
def test_a_driver_s_command_reads_any_name(space: Space | None) -> None:
    words = shlex.split(Submission(name="--yes", space=space, options=["--lanes", "2"]).entrypoint)[3:]
    command = "resume" if space is None else "run"
    found = get_command(app).commands[command].make_context("sweep", words[1:]).params
    assert words[0] == command and found["name"] == "--yes" and found["lanes"] == 2


def test_what_is_said_to_type_next_names_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sys, "argv", ["sweep"])
    job = replace(RUNNING, space_sha256="f" * 64)
    with pytest.raises(ClusterError, match=re.escape("(sweep stop 'my sweep')")):
        submit(Running(job), replace(SUBMISSION, name="my sweep", with_code=False))


def test_ids_of_jobs_are_told_apart_and_fit_into_an_address() -> None:
    names = ["demo", "it's mine", "its mine", "a/b", "a-b", "ä", "demo.2"]
    ids = [submission_id(name, number) for name in names for number in (1, 2)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[\w.~-]+", one, re.ASCII) for one in ids)
    assert ids[:2] == ["sweep-demo", "sweep-demo~2"]


def test_a_sweep_is_resumed_from_its_stored_space() -> None:
    stored = Submission(name="mine", space=None, options=["--lanes", "2"])
    assert stored.entrypoint == "python -m cluster.keeper resume mine --address auto --lanes 2"


@pytest.mark.parametrize(
    ("said", "is_refusal"),
    [
        ("Failed to connect to Ray at address: http://127.0.0.1:14010.", False),
        ("Request failed with status code 403: Unauthorized.", True),
        ("Authentication required", True),
    ],
)
def test_a_port_with_401_in_it_is_no_refusal(
    said: str, is_refusal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def client(address: str) -> None:
        raise ConnectionError(said)

    monkeypatch.setattr("cluster.jobs._Client", client)
    with pytest.raises(ClusterError, match="token" if is_refusal else "no Ray cluster at") as found:
        Jobs("http://127.0.0.1:14010")
    assert found.value.transient is not is_refusal
