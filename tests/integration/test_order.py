"""What waits for a worker of a real Ray begins in the order that is wished by then."""

import subprocess
import sys

from tests.integration.reordered import NUM_PACKS


def test_packs_that_wait_for_a_worker_follow_another_order() -> None:
    command = [sys.executable, "-m", "tests.integration.reordered"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    began = [int(pack) for pack in done.stdout.split()]
    assert sorted(began) == list(range(NUM_PACKS)), "each once"
    # The first is whichever Ray has placed, and the worker of a second one may be on its way.
    assert began[2:] == sorted(began[2:], reverse=True), began
