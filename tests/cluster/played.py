"""A cluster that is played: what its jobs come to is written down beforehand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cluster.jobs import Job, Jobs, Log
from cluster.submission import Submission
from search_spaces import load_space
from sweep.errors import ClusterError

SPACE = load_space("demo", smoke=True)
SUBMISSION = Submission(name="mine", space=SPACE, options=["--commit-every", "1"])
RUNNING = Job(
    id="sweep-mine", number=1, space_sha256=SPACE.sha256, status="RUNNING", exit_code=None, message=""
)
DONE = replace(RUNNING, status="SUCCEEDED", exit_code=0)
DIED = replace(RUNNING, status="FAILED", exit_code=None, message="Job supervisor actor died.\nand more")


class Played(Jobs):
    """A cluster that follows a script.

    Args:
        ends: What following ends with.
        newest: What its newest job is then, or the error with which it refuses to say.
        refusals: With what it refuses to take another job, one after the other.
    """

    def __init__(
        self,
        ends: Sequence[Job | None],
        newest: Sequence[Job | ClusterError | None] = (),
        refusals: Sequence[ClusterError] = (),
    ) -> None:
        self.address = "http://played"
        self.submitted = 0
        self.restarted: list[str | None] = []
        self.unattended: list[str | None] = []
        self.dashboards: set[str] = set()
        self._ends = list(ends)
        self._newest = list(newest)
        self._refusals = list(refusals)

    def submit(
        self,
        sweep: str,
        *,
        space_sha256: str,
        stored_sha256: Callable[[], str],
        entrypoint: str,
        runtime_env: Mapping[str, Any],
    ) -> Job:
        if self.submitted and self._refusals:
            raise self._refusals.pop(0)
        self.submitted += 1
        self.restarted.append(runtime_env["env_vars"].get("SWEEP_RESTARTED"))
        self.unattended.append(runtime_env["env_vars"].get("SWEEP_UNATTENDED"))
        self.dashboards.add(runtime_env["env_vars"]["SWEEP_DASHBOARD"])
        return RUNNING

    def follow(self, job: Job, log: Log) -> Job | None:
        return self._ends.pop(0)

    def wait_until_back(self) -> bool:
        return True

    def newest(self, sweep: str) -> Job | None:
        newest = self._newest.pop(0)
        if isinstance(newest, ClusterError):
            raise newest
        return newest
