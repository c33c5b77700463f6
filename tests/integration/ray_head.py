"""A Ray of one node that drivers connect to, with no more processes than they need."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from ray._private.node import Node
from ray.scripts.scripts import main

from tests.forked import FORKED
from tests.integration.forked_workers import take_forks
from tests.integration.servers import free_port, wait_for

UNUSED_PARTS = ("start_monitor", "start_log_monitor", "start_api_server", "start_ray_client_server")
"""Each of them is an interpreter of its own, which takes as long to start as many a test."""


class RayHead:
    """That Ray, in a forked process.

    Args:
        folder: For its log.
        cpus: How many it gives out.
        environment: More of its environment.
        forks: Address of what forks its workers.
    """

    def __init__(self, folder: Path, *, cpus: int, environment: Mapping[str, str], forks: str) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._log = folder / "ray.log"
        options = [f"--port={port}", f"--num-cpus={cpus}"]
        options += ["--include-dashboard=false", "--disable-usage-stats"]
        self._process = FORKED.Process(
            target=_head, args=(options, {**os.environ, **environment}, self._log, forks)
        )

    def start(self) -> None:
        """Start it, and return once it answers."""
        self._log.touch()
        self._process.start()
        wait_for(self._answers, lambda: f"Ray does not answer:\n{self._log.read_text()[-2000:]}")

    def _answers(self) -> bool:
        assert self._process.is_alive(), self._log.read_text()[-2000:]
        return "Ray runtime started" in self._log.read_text()

    def kill(self) -> None:
        """End it and its children at once."""
        if self._process.pid is not None and self._process.is_alive():
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.join()


def _head(options: list[str], environment: Mapping[str, str], log: Path, forks: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    take_forks(forks)
    for part in UNUSED_PARTS:
        assert callable(getattr(Node, part))
        setattr(Node, part, lambda *_, **__: None)
    sys.argv = ["ray", "start", "--head", "--block", *options]
    main()
