"""The watchdog over a worker, in a process of its own that it may end."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from sweep.watchdog import EXIT_HUNG

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120.0


def start(body: str, seconds: float = 0.5) -> "subprocess.Popen[str]":
    code = f"""
import time
from sweep.watchdog import Watchdog
watchdog = Watchdog({seconds}, lambda text: print(text, flush=True))
{textwrap.dedent(body)}
"""
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_work_that_stands_still_ends_the_process_and_says_where() -> None:
    process = start(
        """
        def stuck():
            time.sleep(60)
        with watchdog.watching():
            stuck()
        """
    )
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == EXIT_HUNG
    first, _, threads = out.partition("\n")
    assert first.startswith("hung: no progress for 0.5 s in ") and "in stuck" in first
    assert "stuck" in threads


def test_work_that_goes_on_or_is_not_watched_is_left_alone() -> None:
    process = start(
        """
        with watchdog.watching():
            for _ in range(15):
                time.sleep(0.1)
                watchdog.beat()
        time.sleep(1.5)
        print("done")
        """
    )
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (0, "done\n"), err


TRAINING = """
from pathlib import Path
from sweep.pack import Pack
from sweep.storage import Storage
from tests.trainers.small_cells import bulk, made_data, small_cell
from trainers.chain import ChainObjective
product, products = ChainObjective._product, []

def slow(*given):
    products.append(None)
    time.sleep(STUCK if len(products) == 10 else 0.2)
    return product(*given)

ChainObjective._product = slow
cells = [small_cell(bulk(10), holdout_seed=seed) for seed in range(6)]
with watchdog.watching():
    storage = Storage.open(Path(FOLDER))
    pack = Pack(cells, storage, data_folder=Path(), data=made_data(), beat=watchdog.beat)
    # Cold solves, one after another, before the first step.
    pack.trainer.advance(1)
print(len(products))
"""


@pytest.mark.parametrize("stuck", [False, True])
def test_solves_that_take_long_in_sum_are_no_hang_and_one_product_that_does_is(
    stuck: bool, tmp_path: Path
) -> None:
    limit = 2.0
    values = f"FOLDER, STUCK = {str(tmp_path)!r}, {60 if stuck else 0.2}\n"
    process = start(values + TRAINING, seconds=limit)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    if stuck:
        assert process.returncode == EXIT_HUNG and "in slow" in out.splitlines()[0], err
    else:
        assert process.returncode == 0, out + err
        assert 0.2 * int(out) > 2 * limit


def test_a_process_that_was_stopped_does_not_count_as_hung() -> None:
    process = start(
        """
        print("begun", flush=True)
        with watchdog.watching():
            for _ in range(10):
                time.sleep(0.05)
                watchdog.beat()
        print("done")
        """
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(2)
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (0, "done\n"), err


def test_a_hang_that_holds_the_interpreter_ends_the_process_too() -> None:
    process = start(
        """
        import ctypes, sweep.watchdog
        sweep.watchdog.SECONDS_FOR_NOTE = 0.2
        with watchdog.watching():
            # A call of Python's own C interface keeps the interpreter locked.
            ctypes.PyDLL(None).sleep(60)
        """,
        seconds=0.3,
    )
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert out == "" and "Timeout" in err
