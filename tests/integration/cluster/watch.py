"""What a sweep on the cluster has committed and when, read from its store by the machine underneath."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from pyarrow import fs

from tests.integration.cluster.standins import Cluster

PATIENCE_SECONDS = 150.0


class Commit(NamedTuple):
    """One checkpoint of one cell.

    Args:
        cell: Its address.
        step: How far it has come.
        attempt: By which attempt.
        host: Where it was trained.
        over: Whether the cell has ended with it.
        seen: When it was first seen, on this process's clock.
    """

    cell: str
    step: int
    attempt: int
    host: str
    over: bool
    seen: float


class Watch:
    """Remembers every commit that it has seen, though the sweep removes old ones.

    Args:
        cluster: Whose store is looked at.
        log: Of whoever follows the sweep, shown when something is waited for in vain.
    """

    def __init__(self, cluster: Cluster, log: Path) -> None:
        place = quote(f"http://{cluster.hosts['storage'].address}:3900", safe="")
        keys = f"{cluster.environment['S3_ACCESS_KEY']}:{cluster.environment['S3_SECRET_KEY']}"
        store = f"s3://{keys}@sharpflat?region=garage&endpoint_override={place}"
        self._files, _ = fs.FileSystem.from_uri(store)
        self._log = log
        self._seen: dict[str, Commit | None] = {}

    def look(self) -> list[Commit]:
        """Return all commits seen so far, old ones first."""
        selector = fs.FileSelector("sharpflat/storage/cells", recursive=True, allow_not_found=True)
        now = time.monotonic()
        for info in self._files.get_file_info(selector):
            if "/manifests/" in info.path and info.path.endswith(".json") and info.path not in self._seen:
                try:
                    facts = json.loads(self._files.open_input_stream(info.path).read())
                except FileNotFoundError:
                    # A newer one has just taken its place.
                    continue
                # A state that was left for other cells says nothing of where it was trained.
                host = facts["summary"].get("environment", {}).get("hostname")
                cell, over = info.path.split("/")[3], facts["outcome"] is not None
                commit = Commit(cell, facts["step"], facts["attempt"], host, over, now)
                self._seen[info.path] = commit if host is not None else None
        return [one for one in self._seen.values() if one is not None]

    def since(self, moment: float, *, host: str | None = None) -> list[Commit]:
        """Return the commits seen after a moment, of one host or of all."""
        return [one for one in self.look() if one.seen > moment and host in (None, one.host)]

    def open_cells(self) -> set[str]:
        """Return the cells that have begun and not ended."""
        commits = self.look()
        return {one.cell for one in commits} - {one.cell for one in commits if one.over}

    def wait(self, condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until something is so, looking at the commits meanwhile."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain:\n{self._log.read_text()[-3000:]}"
            self.look()
            time.sleep(0.2)

    def until(self, moment: float) -> None:
        """Look on until a moment has come."""
        self.wait(lambda: time.monotonic() >= moment)
