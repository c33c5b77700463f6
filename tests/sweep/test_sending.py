"""Requests to a server that does not answer: sent once more, by us and not below the fence by MLflow."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INVALID_PARAMETER_VALUE

from sweep.errors import LedgerError
from sweep.ledger import Ledger, sending
from sweep.ledger.connection import translated
from sweep.ledger.fence import Fence
from sweep.ledger.sending import sent

ANSWERS = {"search": {"experiments": []}, "set-tag": {}}


class Flaky(ThreadingHTTPServer):
    """Answers like MLflow's server, but drops as many connections before."""

    def __init__(self) -> None:
        self.to_drop = 0
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Answers)


class _Answers(BaseHTTPRequestHandler):
    server: Flaky  # pyright: ignore[reportIncompatibleVariableOverride]

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        what = self.path.partition("?")[0].rpartition("/")[2]
        self.server.asked.append(what)
        if self.server.to_drop:
            self.server.to_drop -= 1
            self.close_connection = True
            return
        body = json.dumps(ANSWERS[what]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    monkeypatch.setattr(sending, "SECONDS_BEFORE_SENDING_AGAIN", 0.01)
    with Flaky() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def client(server: Flaky) -> MlflowClient:
    client = Ledger.open(f"http://127.0.0.1:{server.server_address[1]}").client
    server.asked.clear()
    return client


Throttled = type("ClientError", (Exception,), {"__module__": "botocore.exceptions"})
"""Boto's errors have no class of Python's but this one above them."""


def test_a_bucket_that_refuses_once_is_asked_again_and_its_errors_are_known() -> None:
    """Artifacts may be in one: an error that nobody knows would end the sweep."""
    answers = [Throttled("SlowDown"), "done"]

    def send() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert sent(send) == "done"
    with pytest.raises(LedgerError, match="a file failed: SlowDown") as away, translated("putting a file"):
        raise Throttled("SlowDown")
    assert away.value.transient
    with pytest.raises(LedgerError) as refused, translated("putting a file"):
        raise Throttled("An error occurred (AccessDenied) when calling the PutObject operation")
    assert not refused.value.transient
    with pytest.raises(LedgerError) as missing, translated("putting a file"):
        raise ModuleNotFoundError("No module named 'boto3'")
    assert not missing.value.transient
    with pytest.raises(ZeroDivisionError), translated("putting a file"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("said", "transient"),
    [
        (
            "(psycopg2.errors.StringDataRightTruncation) value too long for character varying(8000)",
            False,
        ),
        ("(sqlalchemy.exc.TimeoutError) QueuePool limit reached", True),
    ],
)
def test_a_server_that_refuses_a_value_is_told_from_one_that_is_busy(said: str, transient: bool) -> None:
    """Both are BAD_REQUEST."""
    with pytest.raises(LedgerError) as found, translated("making a run"):
        raise MlflowException(said, error_code=BAD_REQUEST)
    assert found.value.transient is transient


def test_an_address_within_a_message_loses_its_password() -> None:
    with pytest.raises(LedgerError) as away, translated("asking"):
        raise MlflowException(
            "API request to https://admin:sec@ret@host:5000/api/2.0 failed with exception x"
        )
    assert "https://***@host:5000/api/2.0 failed" in str(away.value) and "ret@" not in str(away.value)


def test_mlflow_itself_sends_once() -> None:
    assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 0


def test_one_dropped_connection_ends_no_command(server: Flaky, client: MlflowClient) -> None:
    server.to_drop = 1
    assert client.search_experiments() == []
    server.to_drop = 1
    client.set_tag("r", "name", "value")
    assert server.asked == ["search", "search", "set-tag", "set-tag"]
    server.to_drop = 100
    with pytest.raises(MlflowException):
        client.search_experiments()
    assert server.asked[4:] == ["search", "search"]


def test_who_was_overtaken_meanwhile_does_not_send_again(server: Flaky, client: MlflowClient) -> None:
    # It is overtaken while the first request is on its way.
    fence = Fence(client, "r", "lease.2", stale_seconds=20.0, may_write=lambda: "set-tag" not in server.asked)
    fence.raise_()
    try:
        server.to_drop = 1
        with pytest.raises(MlflowException, match="is taken"):
            client.set_tag("r", "name", "value")
        server.to_drop = 1
        assert client.search_experiments() == [], "who only reads may"
    finally:
        fence.lower()
    assert server.asked == ["set-tag", "search", "search"]


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (MlflowException("no", error_code=INVALID_PARAMETER_VALUE), 1),
        (MlflowException("away"), 2),
        (requests.ConnectionError("away"), 2),
        (ValueError("ours"), 1),
    ],
)
def test_what_is_refused_is_not_sent_again(
    error: Exception, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SECONDS_BEFORE_SENDING_AGAIN", 0.0)
    asked: list[str] = []

    def refuse() -> None:
        asked.append("sent")
        raise error

    with pytest.raises(type(error)):
        sent(refuse, ask=lambda: asked.append("asked"))
    assert asked == ["asked", "sent"] * times
