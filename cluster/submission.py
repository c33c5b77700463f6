"""`sweep submit` and `sweep logs`: a sweep's driver as a job on the cluster, left and rejoined at will.

The driver is `sweep run` with the space that travels along, so a second submission makes what is missing.
One that is killed is started again on the spot (`cluster.keeper`), one whose node is lost by whoever follows
its log; one that comes to an end is not.
"""

import os
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cluster.jobs import SECONDS_TO_COME_BACK, Job, Jobs, Log
from cluster.shipping import SPACE_FILE, pack_code, pack_space
from search_spaces import Space
from sweep.errors import ClusterError, LedgerError
from sweep.invocation import DASHBOARD, hint, unmistakable
from sweep.plan import make_plan
from sweep.run_options import RESTARTED, UNATTENDED
from sweep.stored import stored_sha256, stored_space
from trainers.errors import ConfigError

ENDINGS = {0, 1, 2, 130}
"""Exit codes with which a driver ends by itself; with any other it was killed."""

JOB_ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    # A job that is stopped through Ray has so long for its last checkpoints; Ray's default is 3 s.
    "RAY_JOB_STOP_WAIT_TIME_S": "30",
}

KEEPER = ("python", "-m", "cluster.keeper")
"""What the driver's command begins with."""

INTERRUPTED = 130
FAILED = 1

SECONDS_BETWEEN_TRIES = 5.0
"""How often a cluster that has just come back is asked again for what it refuses."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A sweep for a cluster.

    Args:
        name: The sweep's name.
        space: As it will run; `None` goes on with the space that is stored with the sweep.
        search: Whether the space is searched, and not run.
        options: More options of `sweep run`, or `sweep search`, ready for its command line.
        with_code: Whether this machine's code goes along.
        restarts: How often a job that died is followed by another.
        unattended: Whether nobody follows it.
    """

    name: str
    space: Space | None
    search: bool = False
    options: Sequence[str] = ()
    with_code: bool = True
    restarts: int = 3
    unattended: bool = False

    @property
    def entrypoint(self) -> str:
        """The driver's command, under its keeper."""
        verb = "search" if self.search else "run"
        what = ["resume", self.name] if self.space is None else [verb, SPACE_FILE, "--name", self.name]
        words = unmistakable([*what, "--address", "auto", *self.options])
        return shlex.join([*KEEPER, *words])


def submit(jobs: Jobs, submission: Submission, *, restarted: bool = False) -> Job:
    """Start the sweep's job, or join the one that runs.

    Args:
        jobs: The cluster's.
        submission: The sweep.
        restarted: Whether it follows a job that was lost, without the user's asking.

    Raises:
        SharpflatError: The space cannot be planned or cannot travel, or the cluster refuses.
    """
    space = submission.space
    travelling = _stored(submission.name) if space is None else space
    told = {RESTARTED: restarted, UNATTENDED: submission.unattended}
    environment = JOB_ENVIRONMENT | {DASHBOARD: jobs.address}
    environment |= {name: "1" for name, is_so in told.items() if is_so}
    with tempfile.TemporaryDirectory(prefix="sweep-submit-") as folder:
        if travelling is not None:
            # A point that is no valid cell is said here, and not in the log of a driver.
            make_plan(travelling)
            pack_space(Path(folder), travelling)
        if submission.with_code:
            pack_code(Path(folder))
        return jobs.submit(
            submission.name,
            space_sha256="" if space is None else space.sha256,
            stored_sha256=lambda: _stored_sha256(submission.name),
            entrypoint=submission.entrypoint,
            runtime_env={"working_dir": folder, "env_vars": environment},
        )


def _stored(name: str) -> Space | None:
    """Return a sweep's stored space, whose model files travel again; `None` where only the nodes reach it."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        return stored_space(uri, name) if uri else None
    except LedgerError:
        return None


def _stored_sha256(name: str) -> str:
    """Return the address of a sweep's stored space; empty where none is, or only the nodes can read it."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        return stored_sha256(uri, name) if uri else ""
    except (LedgerError, ConfigError):
        return ""


def standing(jobs: Jobs, job: Job, submission: Submission) -> str:
    """Say which job it is, and where it was running already with other options."""
    said = f"job {job.id} on {jobs.address}"
    if job.entrypoint in ("", submission.entrypoint):
        return said
    begun = shlex.join(["sweep", *shlex.split(job.entrypoint)[len(KEEPER) :]])
    return f"{said} was running already, as {begun}; options that differ from those do not hold"


def submit_and_follow(
    jobs: Jobs, submission: Submission, *, write: Callable[[str], None], say: Callable[[str], None]
) -> int:
    """Run a sweep on the cluster to its end.

    Returns:
        The driver's exit code; 1 when it died too often or the cluster stayed away.
    """
    job, log = submit(jobs, submission), Log(write)
    say(f"{standing(jobs, job, submission)}; Ctrl-C leaves it running")
    restarts = 0
    while True:
        state = jobs.follow(job, log)
        if state is None:
            if not _is_back(jobs, say):
                return FAILED
            state = _insist(lambda: jobs.newest(submission.name), say)
            if state is not None and state.id == job.id and not state.over:
                # Only the connection was lost.
                continue
        if state is not None and (code := ending(state)) is not None:
            return code
        restarts += 1
        if restarts > submission.restarts:
            logs = hint("logs", submission.name, "--address", jobs.address)
            say(f"its driver died {restarts} times ({_why(state)}); look at: {logs}")
            return FAILED
        # A new head knows nothing of the old one's jobs, so that this one may have the same id.
        job, log = _insist(lambda: submit(jobs, submission, restarted=True), say), Log(write)
        say(f"its driver died ({_why(state)}); it goes on as job {job.id} from the last checkpoints")


def follow(jobs: Jobs, name: str, *, write: Callable[[str], None], say: Callable[[str], None]) -> int:
    """Show the log of a sweep's newest job, and go on while it runs.

    Returns:
        The driver's exit code; 1 where it died or the cluster stayed away.

    Raises:
        ClusterError: The cluster has no job of this sweep.
    """
    job, log = jobs.newest(name), Log(write)
    if job is None:
        raise ClusterError(f"the cluster at {jobs.address} has no job of a sweep {name!r}.")
    while (state := jobs.follow(job, log)) is None:
        if not _is_back(jobs, say):
            return FAILED
        newest = _insist(lambda: jobs.newest(name), say)
        if newest is None:
            break
        # Only the connection was lost; or somebody has submitted it again meanwhile.
        job, log = newest, log if newest.id == job.id else Log(write)
    if state is not None and (code := ending(state)) is not None:
        return code
    say(f"its driver died ({_why(state)}); submit it again to go on from the last checkpoints")
    return FAILED


def _is_back(jobs: Jobs, say: Callable[[str], None]) -> bool:
    """Wait for a cluster that does not answer, and say so; returns whether it is back."""
    say("the cluster does not answer; waiting for it to come back")
    is_back = jobs.wait_until_back()
    if not is_back:
        say("it stayed away; once it is back, submit the sweep again")
    return is_back


def _insist(ask: Callable[[], Answer], say: Callable[[str], None]) -> Answer:
    """Ask a cluster that has just come back again and again: not all of it is there at once.

    Raises:
        ClusterError: It has refused for as long as a cluster is waited for, or refuses for good.
    """
    deadline, told = time.monotonic() + SECONDS_TO_COME_BACK, False
    while True:
        try:
            return ask()
        except ClusterError as error:
            if not error.transient or time.monotonic() >= deadline:
                raise
            if not told:
                say(f"{error} Trying again for {SECONDS_TO_COME_BACK / 60:g} minutes.")
            told = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def ending(job: Job) -> int | None:
    """Return the exit code of a driver that ended by itself or was stopped, `None` of one that died."""
    if job.stopped:
        return INTERRUPTED
    if job.status == "SUCCEEDED":
        return 0
    return job.exit_code if job.exit_code in ENDINGS else None


def _why(job: Job | None) -> str:
    if job is None:
        return "the cluster was lost"
    first = (job.message.strip().splitlines() or ["no reason given"])[0]
    return first[:200]
