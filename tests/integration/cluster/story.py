"""A sweep on the cluster and what happens to it: each method is one fault, and what must hold after it."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.integration.cluster import paced
from tests.integration.cluster.hosts import Host
from tests.integration.cluster.listening import family
from tests.integration.cluster.standins import WORKERS, Cluster
from tests.integration.cluster.watch import PATIENCE_SECONDS, Watch

HEAD = ("--address", "http://head:8265")
MLFLOW = ("--tracking-uri", "http://mlflow:5000")

NAME = "little"
FILES = (Path(__file__).with_name("little.yaml"), Path(paced.__file__))
"""The space, and the model that it names."""

NUM_CELLS = 4
COMMIT_SECONDS = 1.0
CUT_SECONDS = 30.0
GRACE_SECONDS = 60.0
COMMIT_TAKES_SECONDS = 2.0
"""At most, on a machine that is busy; so that a commit may be so much later than it is due."""


class Story:
    """A sweep on the cluster, and what happens to it.

    Args:
        cluster: The cluster.
        chance: Draws moments.
        folder: For logs.
    """

    def __init__(self, cluster: Cluster, chance: Random, folder: Path) -> None:
        self.cluster, self.hosts, self.chance = cluster, cluster.hosts, chance
        self.log = folder / "submit.txt"
        self.watch = Watch(cluster, self.log)
        for file in FILES:
            shutil.copy(file, cluster.client.home)
        self.submit = ["sweep", "submit", FILES[0].name, "--commit-every", str(COMMIT_SECONDS)]
        self.submit += ["--max-failures", "10"]
        self.submitted = cluster.client.popen(self.submit, out=self.log)

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until something is so, while the sweep is followed."""

        def so() -> object:
            assert self.submitted.poll() is None, self.log.read_text()[-3000:]
            return condition()

        self.watch.wait(so)

    def in_mid_training(self) -> set[str]:
        """Return the cells that a fault is to hit; the grid must not be too small for this machine."""
        cells = self.watch.open_cells()
        assert cells, "no cell is in mid-training"
        return cells

    def is_left_and_rejoined(self) -> None:
        """Ctrl-C leaves the sweep running; a second submission joins it."""
        self.wait(lambda: {one.host for one in self.watch.look()} >= set(WORKERS))
        children = Path(f"/proc/{self.submitted.pid}/task/{self.submitted.pid}/children").read_text()
        os.kill(int(children), signal.SIGINT)
        assert self.submitted.wait(timeout=30) == 0, self.log.read_text()
        assert "left it running; rejoin with" in self.log.read_text()
        self.submitted = self.cluster.client.popen(self.submit, out=self.log)

    def loses_a_worker_and_mlflow_and_is_preempted(self, killed: str, preempted: str) -> None:
        """A host loses power. The driver's host and another lose MLflow, and that one is told to end."""
        cut = [self.hosts["head"], self.hosts[preempted]]
        self.watch.until(time.monotonic() + self.chance.uniform(0, 2))
        self.in_mid_training()
        for host in cut:
            host.cut_from(self.hosts["mlflow"])
        since = time.monotonic()
        self.hosts[killed].kill()
        self.cluster.start(killed)
        self.watch.until(since + self.chance.uniform(1, 4))
        self.in_mid_training()
        self._preempt(preempted)
        self.cluster.start(preempted)
        replaced = time.monotonic()
        self.watch.until(since + CUT_SECONDS)
        assert self.watch.since(since + 2 * COMMIT_SECONDS), "training goes on without MLflow"
        for host in cut:
            host.mend(self.hosts["mlflow"])
        self.wait(lambda: {one.host for one in self.watch.since(replaced)} >= set(WORKERS))

    def _preempt(self, name: str) -> None:
        """Tell a node to end: its trial goes on committing, so that less than a period's work is lost."""
        host, told, training = self.hosts[name], time.monotonic(), time.monotonic()
        os.kill(host.init, signal.SIGTERM)
        while host.running:
            # Between its tasks Ray calls a worker by the class, during one by Tune's class around it.
            if any(processes_of(host, name) for name in (b"ray::PackTrial", b"ray::ResourceTrainable")):
                training = time.monotonic()
            self.watch.look()
            assert time.monotonic() - told < GRACE_SECONDS, "it does not end within the grace period"
            time.sleep(0.1)
        committed = max((one.seen for one in self.watch.since(told, host=name)), default=0.0)
        assert committed > told, "a checkpoint after it was told"
        assert training - committed < COMMIT_SECONDS + COMMIT_TAKES_SECONDS

    def loses_its_head(self) -> None:
        """The head's host loses power, and the driver with it; workers find out by themselves."""
        self.watch.until(time.monotonic() + self.chance.uniform(0, 2))
        self.in_mid_training()
        self.hosts["head"].kill()
        self.cluster.start("head")
        for name in WORKERS:
            self.watch.wait(lambda name=name: not self.hosts[name].running, seconds=45)
        for name in WORKERS:
            self.cluster.start(name)
        back = time.monotonic()
        self.wait(lambda: self.watch.since(back))
        assert f"it goes on as job sweep-{NAME}" in self.log.read_text()

    def loses_its_driver(self) -> None:
        """The driver is killed, and nobody needs to do anything."""
        self.watch.until(time.monotonic() + self.chance.uniform(0, 2))
        self.in_mid_training()
        (driver,) = processes_of(self.hosts["head"], b"\0-m\0sweep\0")
        before = self.log.read_text().count("it goes on as job")
        os.kill(driver, signal.SIGKILL)
        killed = time.monotonic()
        self.wait(lambda: "ended by SIGKILL; it goes on" in self.log.read_text())
        self.wait(lambda: self.watch.since(killed + COMMIT_SECONDS + COMMIT_TAKES_SECONDS))
        assert self.log.read_text().count("it goes on as job") == before, "the same job"

    def is_stopped_and_resumed(self) -> None:
        """By its name, from the seventh host, with work left."""
        client = self.cluster.client
        self.in_mid_training()
        code, out = client.run(["sweep", "stop", NAME, *MLFLOW])
        assert code == 0, out
        assert self.submitted.wait(timeout=PATIENCE_SECONDS) == 130, self.log.read_text()[-3000:]
        assert " interrupted" in self.log.read_text(), "there is work left"
        self.cluster.set_pace(0)
        code, out = client.run(["sweep", "resume", NAME, *HEAD, "--commit-every", "1"], seconds=150)
        assert code == 0, out
        assert f"{NAME}: {NUM_CELLS} completed" in out

    def is_looked_at(self) -> None:
        """Its status and its log, by its name, from the seventh host."""
        client = self.cluster.client
        assert self.counts() == {"completed": NUM_CELLS, "pending": 0}
        code, out = client.run(["sweep", "logs", NAME, *HEAD])
        assert code == 0, out
        assert f"{NAME}: {NUM_CELLS} completed" in out

    def counts(self) -> dict[str, int]:
        """Return what `sweep status` counts."""
        code, out = self.cluster.client.run(["sweep", "status", NAME, *MLFLOW, "--json"])
        assert code == 0, out
        return json.loads(out)["counts"]

    def went_on_from_checkpoints(self) -> None:
        """Every attempt began where the one before it had committed; nothing before was trained again."""
        reached: dict[str, int] = {}
        commits = self.watch.look()
        for one in sorted(commits, key=lambda one: (one.cell, one.attempt, one.step)):
            assert one.step >= reached.get(one.cell, 0), (one, "trained again what was committed")
            reached[one.cell] = one.step
        assert len(reached) == NUM_CELLS
        assert max(one.attempt for one in commits) > 1

    def report(self) -> Path:
        """Return the folder of the sweep's report."""
        code, out = self.cluster.client.run(["sweep", "report", NAME, *MLFLOW, "--out", "report"])
        assert code == 0, out
        return self.cluster.client.home / "report"


def processes_of(host: Host, words: bytes) -> list[int]:
    """Return a host's processes whose command has some words in it."""
    found: list[int] = []
    for process in family(host.init) if host.init else ():
        try:
            if words in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found
