"""Following a job's log: joining, starting again and leaving, with a cluster that is played."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import requests

from cluster import jobs as jobs_module
from cluster import submission
from cluster.jobs import Job, Jobs, Log
from cluster.submission import ending, follow, submit_and_follow
from sweep.errors import ClusterError
from tests.cluster.played import DIED, DONE, RUNNING, SUBMISSION, Played

LONG_SECONDS = 5.0


def followed(jobs: Played) -> tuple[int, str]:
    lines: list[str] = []
    silent: Callable[[str], None] = lambda text: None  # noqa: E731
    return submit_and_follow(jobs, SUBMISSION, write=silent, say=lines.append), "\n".join(lines)


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_a_driver_that_ends_by_itself_is_not_started_again(code: int) -> None:
    jobs = Played([replace(DONE, status="FAILED" if code else "SUCCEEDED", exit_code=code)])
    assert followed(jobs)[0] == code
    assert jobs.submitted == 1


def test_a_driver_that_died_is_started_again_three_times_at_most() -> None:
    jobs = Played([DIED, DIED, DONE])
    code, told = followed(jobs)
    assert code == 0
    assert jobs.submitted == 3
    assert jobs.restarted == [None, "1", "1"]
    assert jobs.dashboards == {"http://played"}, "for what its log says to type next"
    assert "its driver died (Job supervisor actor died.); it goes on as job sweep-mine" in told
    jobs = Played([DIED] * 4)
    code, told = followed(jobs)
    assert code == 1 and told.endswith("logs mine --address http://played")
    assert jobs.submitted == 4


def test_a_lost_connection_is_not_a_lost_driver() -> None:
    jobs = Played([None, DONE], newest=[RUNNING])
    assert followed(jobs)[0] == 0
    assert jobs.submitted == 1


def test_a_lost_head_is() -> None:
    jobs = Played([None, DONE], newest=[None])
    assert followed(jobs)[0] == 0
    assert jobs.submitted == 2


def test_a_head_that_is_back_is_asked_again_for_what_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "SECONDS_BETWEEN_TRIES", 0.0)
    refusal = ClusterError("it refuses the job: No available agent.")
    jobs = Played([None, DONE], newest=[refusal, refusal, None], refusals=[refusal])
    code, told = followed(jobs)
    assert (code, jobs.submitted) == (0, 2)
    assert told.count("No available agent. Trying again for 10 minutes.") == 2, "once for each question"
    assert follow(Played([None, DONE], [RUNNING, refusal, RUNNING]), "mine", write=print, say=print) == 0


def test_a_head_that_is_back_is_not_asked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for_good = ClusterError("with another space", transient=False)
    with pytest.raises(ClusterError, match="another space"):
        followed(Played([None], newest=[None], refusals=[for_good]))
    monkeypatch.setattr(submission, "SECONDS_TO_COME_BACK", 0.0)
    with pytest.raises(ClusterError, match="for now"):
        followed(Played([None], newest=[None], refusals=[ClusterError("for now")]))


class Talking(Jobs):
    """A cluster whose connection to the log breaks once, in one way or another."""

    def __init__(self, breaks: Exception | None) -> None:
        self.address = "http://talking"
        self._client: Any = self
        self._breaks = breaks
        self._readings = 0

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        """Yield the log from its start; the first time the end does not come."""
        self._readings += 1
        yield "one\n"
        if self._readings == 1:
            if self._breaks is not None:
                raise self._breaks
            await asyncio.sleep(LONG_SECONDS)
            pytest.fail("a dead connection is followed on")
        yield "two\n"

    def _look(self, job: Job) -> Job | None:
        return RUNNING if self._readings == 1 else DONE


@pytest.mark.parametrize("breaks", [None, aiohttp.ClientPayloadError(), RuntimeError("closed")])
def test_a_log_is_asked_for_anew_where_its_connection_breaks_or_is_silent(
    breaks: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "SECONDS_OF_SILENCE", 0.05)
    monkeypatch.setattr(jobs_module, "SECONDS_BETWEEN_LOOKS", 0.0)
    shown: list[str] = []
    assert Talking(breaks).follow(RUNNING, Log(shown.append)) == DONE
    assert "".join(shown) == "one\ntwo\n"


def test_no_answer_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []

    def silent(*_: object, timeout: float | None = None, **__: object) -> None:
        asked.append(timeout)
        raise requests.Timeout("no answer")

    monkeypatch.setattr(requests, "request", silent)
    with pytest.raises(ClusterError, match="no answer"):
        Jobs("http://127.0.0.1:9")
    assert asked == [jobs_module.SECONDS_OF_SILENCE]


def test_a_driver_that_ended_while_nobody_could_look_has_its_own_code() -> None:
    jobs = Played([None], newest=[replace(DIED, exit_code=1)])
    assert followed(jobs)[0] == 1
    assert jobs.submitted == 1


@pytest.mark.parametrize(
    ("ends", "newest", "code", "said"),
    [
        ([None, None, DONE], [RUNNING, RUNNING, RUNNING], 0, "waiting for it to come back"),
        ([None, DONE], [RUNNING, replace(RUNNING, id="sweep-mine~2", number=2)], 0, "waiting"),
        ([None], [RUNNING, None], 1, "its driver died (the cluster was lost)"),
        ([DIED], [RUNNING], 1, "its driver died (Job supervisor actor died.)"),
    ],
)
def test_a_log_is_followed_through_lost_connections(
    ends: Sequence[Job | None], newest: Sequence[Job | None], code: int, said: str
) -> None:
    lines: list[str] = []
    jobs = Played(ends, newest)
    assert follow(jobs, "mine", write=lambda text: None, say=lines.append) == code
    assert said in "\n".join(lines) and not jobs.submitted


def test_a_cluster_that_stays_away_is_no_dead_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Played, "wait_until_back", lambda jobs: False)
    lines: list[str] = []
    assert follow(Played([None], [RUNNING]), "mine", write=lambda text: None, say=lines.append) == 1
    assert lines[-1].startswith("it stayed away") and not any("died" in line for line in lines)


def test_a_job_that_was_stopped_reads_as_interrupted() -> None:
    assert ending(replace(RUNNING, status="STOPPED")) == 130
    assert ending(replace(DIED, exit_code=137)) is None


def test_a_log_that_is_read_again_is_shown_once() -> None:
    shown: list[str] = []
    log = Log(shown.append)
    for pieces in (["one\n", "two\n"], ["one\ntw", "o\nthree\n"], ["one\n"], ["one\ntwo\nthree\nfour\n"]):
        log.begin()
        for piece in pieces:
            log.take(piece)
    assert "".join(shown) == "one\ntwo\nthree\nfour\n"
