"""Requests to MLflow's server, sent once more where it does not answer.

MLflow's client could do that too. But a process may be stopped while it waits for an answer, and be overtaken
meanwhile; its client would send the request again when it wakes, and ask no fence (`sweep.ledger.fence`). So
the client is told to send once, and what is sent again is sent here, for readers and writers alike: one
connection that a server or a proxy drops ends no command.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import requests
from mlflow.exceptions import MlflowException

SECONDS_BEFORE_SENDING_AGAIN = 1.0

_AWAY = (408, 429, 500, 502, 503, 504)
"""Status of answers after which MLflow's client, too, would send again."""

_BUCKET_CLIENTS = (
    "boto3.",
    "botocore.",
    "s3transfer.",
    "azure.",
    "google.api_core.",
    "google.auth.",
    "google.cloud.",
    "urllib3.",
)
"""How the modules of their errors begin."""

Answer = TypeVar("Answer")


def is_of_bucket(error: Exception) -> bool:
    """Whether an error is of a client of S3, Azure or Google, whose errors MLflow passes on as they are."""
    return any(kind.__module__.startswith(_BUCKET_CLIENTS) for kind in type(error).__mro__)


def sent(send: Callable[[], Answer], *, ask: Callable[[], None] | None = None) -> Answer:
    """Send a request, at most twice.

    Args:
        send: Sends it and returns the answer.
        ask: Raises where it may not be sent, and is called each time before; `None` where nobody is asked.

    Raises:
        MlflowException: The server refuses, has not answered twice, or `ask` says no.
        RequestException: Likewise it has not answered.
    """
    if ask is not None:
        ask()
    try:
        return send()
    except MlflowException as error:
        if error.get_http_status_code() not in _AWAY:
            raise
    except requests.RequestException:
        pass
    except Exception as error:
        if not is_of_bucket(error):
            raise
    time.sleep(SECONDS_BEFORE_SENDING_AGAIN)
    if ask is not None:
        ask()
    return send()
