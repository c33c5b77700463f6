"""Ctrl-C that ends a command at once: before its driver listens to signals, or a second one after that."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from search_spaces import Space, load_space
from sweep.cli import main
from sweep.places import Places
from sweep.run_options import UNATTENDED, RunOptions

RUN = ["run", "demo", "--smoke"]
RESUME = ["resume", "mine", "--cpus-per-trial", "2"]
AGAIN = "interrupted before anything was recorded; to begin, give the same command again"


@pytest.mark.parametrize("unattended", [False, True])
@pytest.mark.parametrize(
    ("command", "is_begun", "said"),
    [
        (RUN, True, "interrupted; go on with: sweep resume demo-smoke --tracking-uri URI"),
        (RUN, False, AGAIN),
        ([*RUN, "--name", "mine"], True, "interrupted; go on with: sweep resume mine --tracking-uri URI"),
        (RESUME, True, "interrupted; go on with: sweep resume mine --cpus-per-trial 2 --tracking-uri URI"),
        (RESUME, False, "interrupted; go on with: sweep resume mine --cpus-per-trial 2 --tracking-uri URI"),
    ],
)
def test_says_how_to_go_on(
    command: list[str],
    is_begun: bool,
    said: str,
    unattended: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(
        space: Space, places: Places, options: RunOptions, console: Console, *, begun: Callable[[], None]
    ) -> int:
        if is_begun:
            begun()
        raise KeyboardInterrupt

    monkeypatch.setattr("sweep.driver.run_sweep", interrupted)
    monkeypatch.setattr("sweep.stored.stored_space", lambda uri, name: load_space("demo", smoke=True))
    monkeypatch.setattr(sys, "argv", ["sweep"])
    monkeypatch.setattr("shutil.which", lambda name: "sweep")
    if unattended:
        monkeypatch.setenv(UNATTENDED, "1")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.raises(SystemExit) as end:
        main([*command, "--tracking-uri", uri])
    assert end.value.code == 130
    assert capsys.readouterr().err == f"error: {said.replace('URI', uri)}\n"
