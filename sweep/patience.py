"""Waiting for what is away for a moment, where nobody is there who would start the command again.

What a user starts says at once that MLflow, the store, the cluster or the network does not answer, or that
another process runs the sweep. A driver that SLURM begins, that was submitted and left, or that was started
again by what keeps it going (`cluster.keeper`, KubeRay) would end its sweep for good by that.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from sweep.errors import NoRoomError
from sweep.run_options import RESTARTED, UNATTENDED
from trainers.errors import SharpflatError

SECONDS_TO_COME_BACK = 600.0
"""How long it is waited for."""

SECONDS_OF_A_TRY = 180.0
"""What is away is known within that; a try that takes longer has begun, and its end is waited for anew."""

SECONDS_BETWEEN_TRIES = 5.0

Made = TypeVar("Made")


def is_unattended() -> bool:
    """Return whether nobody is there who would start this command again."""
    return bool(os.environ.get(RESTARTED) or os.environ.get(UNATTENDED))


def patiently(make: Callable[[], Made], say: Callable[[str], None]) -> Made:
    """Do something, and again where what it needs is away.

    Args:
        make: What is to be done; doing it again makes what is missing.
        say: Prints a line.

    Raises:
        SharpflatError: It has stayed away, or trying again does not help.
    """
    end = -float("inf")
    while True:
        begun = time.monotonic()
        try:
            return make()
        except SharpflatError as error:
            now = time.monotonic()
            if not error.transient or isinstance(error, NoRoomError):
                raise
            if now - begun > SECONDS_OF_A_TRY or end < 0:
                end = now + SECONDS_TO_COME_BACK
                say(f"{error} Trying again for {SECONDS_TO_COME_BACK / 60:g} minutes.")
            if now >= end:
                raise
        time.sleep(SECONDS_BETWEEN_TRIES)
