"""The page for a new user, followed word for word: files are written, commands and code are run, in order."""

import json
import os
import re
import shlex
import traceback
from pathlib import Path

import pytest
import ray

from sweep.cli import main
from sweep.names import Status
from sweep.record import load_record
from tests.forked import FORKED
from tests.integration.forked_workers import ROOT, take_forks

PAGE = (ROOT / "docs" / "day.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"`([\w.]+\.(?:yaml|py))`")
DOCTORS_ORDERS = ("sweep doctor",)
"""Says what is missing on a machine, so its code depends on the machine."""

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "search_spaces").glob("*.yaml")),
]
CODE = re.compile(r"`([^`\n]+)`")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
READ_BY_SHELLS = set("[]{}*?")
REMARK = re.compile(r"(?:^|\s)#")

FOLLOWED = "FOLLOWED "


def follow(wanted: list[tuple[str, str]], folder: Path, environment: dict[str, str], forks: str) -> None:
    """Do one step after the other, all in this process, with one Ray of one worker at a time.

    Imports, and starts of Ray, take longer than most commands.
    """
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(("out", "err"), start=1):
        with open(folder / name, "wb") as file:
            os.dup2(file.fileno(), number)
    take_forks(forks)
    begin, end_of_ray = ray.init, ray.shutdown
    ray.init = lambda **options: begin(**options, num_cpus=1, ignore_reinit_error=True)
    ray.shutdown = lambda: None
    for kind, text in wanted:
        code: object = 0
        try:
            if kind == "command":
                main(shlex.split(text)[1:])
            elif kind == "python":
                exec(compile(text, "<page>", "exec"), {})
            else:
                Path(kind).write_text(text)
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
            code = "raised"
        print(FOLLOWED + json.dumps([kind, text, code]), flush=True)
    end_of_ray()


def steps() -> list[tuple[str, str]]:
    """Return (kind, text): a file with its name as kind, Python code, or one command."""
    found: list[tuple[str, str]] = []
    for match in BLOCK.finditer(PAGE):
        kind, text = match.groups()
        if kind == "":
            found += [("command", line) for line in text.splitlines() if line.strip()]
            continue
        # The sentence that introduces a block names its file.
        before = PAGE[: match.start()].rstrip().rpartition("\n\n")[2]
        names = FILE_NAME.findall(before)
        found.append((names[-1], text) if names else ("python", text))
    return found


def test_the_page_has_what_it_promises() -> None:
    kinds = [kind for kind, _ in steps()]
    assert kinds.count("command") >= 18
    assert {"mine.yaml", "my_model.py", "my_probe.py", "rings.yaml", "python"} <= set(kinds)
    commands = {text.split()[1] for kind, text in steps() if kind == "command"}
    promised = {
        "list",
        "plan",
        "search",
        "best",
        "run",
        "status",
        "report",
        "export",
        "compare",
        "resume",
        "doctor",
        "delete",
        "gc",
    }
    assert promised <= commands
    assert all(text.startswith("sweep ") for kind, text in steps() if kind == "command")


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_what_shells_would_read_is_quoted(page: Path) -> None:
    text = page.read_text()
    typed = [line for kind, block in BLOCK.findall(text) if not kind for line in block.splitlines()]
    typed += [code for code in CODE.findall(text) if code.startswith(("sweep ", "--"))]
    commands = [QUOTED.sub("", line) for line in typed]
    assert [line for line in commands if READ_BY_SHELLS & set(line)] == []
    # zsh has no comments where one types.
    assert [line for line in commands if REMARK.search(line)] == []


@pytest.mark.timeout(600)
def test_every_command_of_the_page_works(tmp_path: Path, forks: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for name in ("SWEEP_HOME", "MLFLOW_TRACKING_URI", "SWEEP_STORAGE"):
        environment.pop(name, None)
    wanted = steps()
    process = FORKED.Process(target=follow, args=(wanted, tmp_path, environment, forks))
    process.start()
    process.join()
    out, err = ((tmp_path / name).read_text(errors="replace") for name in ("out", "err"))
    said = [json.loads(line.removeprefix(FOLLOWED)) for line in out.splitlines() if line.startswith(FOLLOWED)]
    assert [(kind, text) for kind, text, _ in said] == wanted, err[-2000:]
    wrong = [(text, code) for _, text, code in said if code and not text.startswith(DOCTORS_ORDERS)]
    assert wrong == [], out[-2000:] + err[-2000:]
    assert (tmp_path / "results" / "reports" / "demo-smoke" / "report.html").is_file()
    assert (tmp_path / "mine.csv").is_file()
    for name in ("mine.pdf", "mine.parquet", "mine-histories.parquet"):
        assert (tmp_path / name).is_file(), name
    assert (tmp_path / "results" / "reports" / "rings" / "figures" / "weights.png").is_file()
    assert (tmp_path / "results" / "reports" / "mine-best" / "figures" / "best.png").is_file()
    best = load_record(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}", "mine-best")
    assert len(best.outcomes) == 6 and best.counts() == {"completed": 6}
    record = load_record(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}", "rings")
    for outcome in record.outcomes.values():
        assert outcome.status is Status.COMPLETED and outcome.metrics["test/accuracy"] > 0.85
        assert 0.1 < outcome.metrics["own/largest_weight"] < 100
