"""Ray started by `sweep run` is for this machine only, and a SIGTERM is for the sweep, not for Ray."""

import ipaddress
import os
import signal
from pathlib import Path

from tests.integration.cluster.listening import family, listeners_of
from tests.integration.processes import PATIENCE_SECONDS, Home, wait_until

SPACE = """
name: listening
base:
  model: {name: mlp, widths: [8], activation: relu}
  dataset: mnist-5k
  phases: [{lr: 0.01, until: 200000}]
axes: {seed: [0]}
"""


def test_nothing_listens_beyond_this_machine_and_sigterm_stops_cleanly(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.lay_database()
    (tmp_path / "space.yaml").write_text(SPACE)
    try:
        process = home.start("run", "space.yaml", "--cpus", "1", "--commit-every", "0.2")
        assert wait_until(lambda: bool(home.cells_in_mid_training()), process)
        found = listeners_of(family(process.pid))
        assert len(found) >= 4, "Ray's control store, node manager, object manager and workers listen"
        open_ones = [one for one in found if not ipaddress.ip_address(one.address).is_loopback]
        assert not open_ones
        commands = [Path(f"/proc/{one}/cmdline").read_text() for one in family(process.pid)]
        unused = ("monitor.py", "dashboard.py")
        assert not [command for command in commands if any(name in command for name in unused)]
        os.kill(process.pid, signal.SIGTERM)
        said, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 130, said + errors
        assert "stopped by SIGTERM; go on with: sweep resume listening" in said
    finally:
        home.close()
