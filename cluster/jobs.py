"""Sweeps as jobs of Ray's Jobs API: which there are, starting one, following its log.

A sweep's name is the key: its jobs are `sweep-NAME`, `sweep-NAME~2`, …, each begun after the one before it
had ended. Ray gives a submission id to one caller only, so of two that submit at once one joins the other.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from cluster.secrets import ADDRESS
from sweep.errors import ClusterError
from sweep.invocation import hint

KEY_SWEEP, KEY_SPACE, KEY_NUMBER = "sweep", "space_sha256", "number"
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_COME_BACK = 600.0
"""How long a cluster that does not answer any more is waited for: as long as a head takes to be replaced."""
SECONDS_OF_SILENCE = 60.0
"""How long a log may say nothing before it is asked for anew, and a request may be without an answer.

A connection may be dead without either end knowing. A driver that has nothing to say costs one more reading.
"""

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]")
_NOISY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
_REFUSAL = re.compile(r"status code 40[13]\b|uthentication")
"""In what Ray says; an address, too, may have these numbers in it."""

_LOST = (ConnectionError, requests.RequestException, aiohttp.ClientError, RuntimeError, OSError)
"""What Ray's client raises when the dashboard is away, in one way or another."""


class _Client(JobSubmissionClient):
    """Ray's client, which would wait for an answer without end."""

    def _do_request(self, *words: Any, **options: Any) -> requests.Response:
        return super()._do_request(*words, **{"timeout": SECONDS_OF_SILENCE, **options})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of a sweep.

    Args:
        id: Ray's submission id.
        number: 1 for the sweep's first job on this cluster.
        space_sha256: Address of the space that it runs.
        status: `JobStatus` as text.
        exit_code: Of the driver, where it came to an end and Ray saw it.
        message: What Ray says about the end.
        entrypoint: The driver's command.
    """

    id: str
    number: int
    space_sha256: str
    status: str
    exit_code: int | None
    message: str
    entrypoint: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing of it runs any more."""
        return JobStatus(self.status).is_terminal()

    @property
    def stopped(self) -> bool:
        """Whether somebody has stopped it through Ray."""
        return self.status == JobStatus.STOPPED


class Jobs:
    """The jobs of one cluster.

    Args:
        address: Of its dashboard.

    Raises:
        ClusterError: It does not answer, or wants another token.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        for noisy in _NOISY:
            logging.getLogger(noisy).setLevel(logging.ERROR)
        try:
            with _own_address(address):
                self._client = _Client(address)
        except AuthenticationError as error:
            raise ClusterError(_refused(address), transient=False) from error
        except _LOST as error:
            if _REFUSAL.search(str(error)):
                raise ClusterError(_refused(address), transient=False) from error
            raise ClusterError(
                f"no Ray cluster at {address}: {_short(error)} Expected its dashboard, such as "
                "http://127.0.0.1:8265. Is it started, and the tunnel open?"
            ) from error

    def newest(self, sweep: str) -> Job | None:
        """Return the sweep's last job, if it has any.

        Raises:
            ClusterError: The cluster does not answer.
        """
        try:
            listed = self._client.list_jobs()
        except _LOST as error:
            raise ClusterError(f"the cluster at {self.address} does not answer: {_short(error)}") from error
        jobs = [_job(one) for one in listed if (one.metadata or {}).get(KEY_SWEEP) == sweep]
        return max(jobs, key=lambda job: job.number, default=None)

    def submit(
        self,
        sweep: str,
        *,
        space_sha256: str,
        stored_sha256: Callable[[], str],
        entrypoint: str,
        runtime_env: Mapping[str, Any],
    ) -> Job:
        """Start a job for the sweep, or join the one that runs.

        Args:
            sweep: Its name.
            space_sha256: Address of its space; empty is the one that is stored with it.
            stored_sha256: Says which that is, empty where it cannot be known; a job that resumes has it.
            entrypoint: The driver's command.
            runtime_env: As Ray takes it.

        Raises:
            ClusterError: The cluster refuses, or the sweep's running job runs another space.
        """
        before = self.newest(sweep)
        if before is None or before.over:
            number = 1 if before is None else before.number + 1
            try:
                self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=submission_id(sweep, number),
                    runtime_env=dict(runtime_env),
                    metadata={KEY_SWEEP: sweep, KEY_SPACE: space_sha256, KEY_NUMBER: str(number)},
                )
            except _LOST as error:
                # Somebody else was faster: then there is a running job now.
                again = self.newest(sweep)
                if again is None or again.number < number:
                    raise ClusterError(
                        f"the cluster at {self.address} refuses the job: {_short(error)}"
                    ) from error
        job = self.newest(sweep)
        assert job is not None, "it has just been submitted"
        if not space_sha256 or job.space_sha256 == space_sha256:
            return job
        running = job.space_sha256 or stored_sha256()
        if not running:
            raise ClusterError(
                f"sweep {sweep!r} is being resumed (job {job.id}) with the space that is stored with it, and "
                "whether that is this one cannot be seen from here, without the nodes' MLflow as "
                "MLFLOW_TRACKING_URI. Submit it again once the job has ended, or choose another --name.",
                transient=False,
            )
        if running != space_sha256:
            raise ClusterError(
                f"sweep {sweep!r} is running with another space (job {job.id}); stop it first "
                f"({hint('stop', sweep)}), or choose another --name.",
                transient=False,
            )
        return job

    def start(self, submission_id: str, *, entrypoint: str, runtime_env: Mapping[str, Any]) -> Job:
        """Start a job that is no sweep's.

        Raises:
            ClusterError: The cluster refuses.
        """
        try:
            self._client.submit_job(
                entrypoint=entrypoint, submission_id=submission_id, runtime_env=dict(runtime_env)
            )
            return _job(self._client.get_job_info(submission_id))
        except _LOST as error:
            raise ClusterError(f"the cluster at {self.address} refuses the job: {_short(error)}") from error

    def follow(self, job: Job, log: "Log") -> Job | None:
        """Pass on a job's log until it is over or the cluster is lost.

        Returns:
            The job as it ended, or `None` when the cluster does not answer or does not know it any more.
        """
        while True:
            with contextlib.suppress(*_LOST):
                asyncio.run(self._tail(job.id, log))
            state = self._look(job)
            if state is None or state.over:
                return state
            time.sleep(SECONDS_BETWEEN_LOOKS)

    async def _tail(self, job_id: str, log: "Log") -> None:
        log.begin()
        pieces = self._client.tail_job_logs(job_id)
        while (piece := await asyncio.wait_for(anext(pieces, None), SECONDS_OF_SILENCE)) is not None:
            log.take(piece)

    def _look(self, job: Job) -> Job | None:
        """Return the job as it is now; `None` when the cluster does not answer, or does not know it."""
        try:
            return _job(self._client.get_job_info(job.id))
        except _LOST:
            return None

    def wait_until_back(self) -> bool:
        """Wait for a lost cluster; returns whether it is back."""
        deadline = time.monotonic() + SECONDS_TO_COME_BACK
        while time.monotonic() < deadline:
            try:
                self._client.list_jobs()
                return True
            except _LOST:
                time.sleep(SECONDS_BETWEEN_LOOKS)
        return False


class Log:
    """Passes one job's log on, each character once, however often its reading begins again.

    Args:
        write: Takes the pieces.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._read = self._written = 0

    def begin(self) -> None:
        """The log comes again from its start."""
        self._read = 0

    def take(self, piece: str) -> None:
        """The next piece."""
        fresh = piece[max(0, self._written - self._read) :]
        self._read += len(piece)
        self._written = max(self._written, self._read)
        if fresh:
            self._write(fresh)


def submission_id(sweep: str, number: int) -> str:
    """Return Ray's id for a sweep's job; it becomes part of addresses."""
    plain = _NOT_PLAIN.sub("-", sweep)
    if plain != sweep:
        plain += f"-{hashlib.sha256(sweep.encode()).hexdigest()[:8]}"
    return f"sweep-{plain}" + (f"~{number}" if number > 1 else "")


def _job(details: JobDetails) -> Job:
    metadata = details.metadata or {}
    return Job(
        id=str(details.submission_id),
        number=int(metadata.get(KEY_NUMBER, 1)),
        space_sha256=metadata.get(KEY_SPACE, ""),
        status=str(details.status),
        exit_code=details.driver_exit_code,
        message=details.message or "",
        entrypoint=details.entrypoint or "",
    )


@contextlib.contextmanager
def _own_address(address: str) -> Generator[None]:
    """Let the given address count: Ray's client prefers its own environment variables."""
    before = {name: os.environ.pop(name) for name in (ADDRESS, "RAY_ADDRESS") if name in os.environ}
    try:
        os.environ[ADDRESS] = address
        yield
    finally:
        del os.environ[ADDRESS]
        os.environ.update(before)


def _refused(address: str) -> str:
    return (
        f"the cluster at {address} refuses this token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or "
        "RAY_AUTH_TOKEN_PATH) to the cluster's."
    )


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(".") + "."
