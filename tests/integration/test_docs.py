"""The page for a new user, followed word for word: files are written, commands and code are run, in order."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.names import Status
from sweep.record import load_record

PAGE = (Path(__file__).parents[2] / "docs" / "day.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"`([\w.]+\.(?:yaml|py))`")
DOCTORS_ORDERS = ("sweep doctor",)
"""Says what is missing on a machine, so its code depends on the machine."""

FOLLOWED = """
import json, shlex, sys, traceback
from pathlib import Path
import ray
from sweep.cli import main
begin = ray.init
ray.init = lambda **options: begin(**options, num_cpus=1, ignore_reinit_error=True)
ray.shutdown = lambda: None
for kind, text in json.loads(Path("steps.json").read_text()):
    code = 0
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
    print(f"FOLLOWED {json.dumps([kind, text, code])}", flush=True)
"""
"""All in one process, with one Ray of one worker: imports and starts take longer than most commands."""


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


@pytest.mark.timeout(600)
def test_every_command_of_the_page_works(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    for name in ("SWEEP_HOME", "MLFLOW_TRACKING_URI", "SWEEP_STORAGE"):
        environment.pop(name, None)
    wanted = [[kind, text] for kind, text in steps()]
    (tmp_path / "steps.json").write_text(json.dumps(wanted))
    done = subprocess.run(
        [sys.executable, "-c", FOLLOWED],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = [json.loads(line[9:]) for line in done.stdout.splitlines() if line.startswith("FOLLOWED ")]
    assert [[kind, text] for kind, text, _ in said] == wanted, done.stderr[-2000:]
    wrong = [(text, code) for _, text, code in said if code and not text.startswith(DOCTORS_ORDERS)]
    assert wrong == [], done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "results" / "reports" / "demo-smoke" / "report.html").is_file()
    assert (tmp_path / "mine.csv").is_file()
    assert (tmp_path / "results" / "reports" / "rings" / "figures" / "weights.png").is_file()
    best = load_record(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}", "mine-best")
    assert len(best.outcomes) == 6 and best.counts() == {"completed": 6}
    record = load_record(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}", "rings")
    for outcome in record.outcomes.values():
        assert outcome.status is Status.COMPLETED and outcome.metrics["test/accuracy"] > 0.85
        assert 0.1 < outcome.metrics["own/largest_weight"] < 100
