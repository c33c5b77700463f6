"""Waiting for an MLflow or a store that is away, where nobody is there who would start the command again.

What a user starts says at once that one does not answer. A driver that was started again by what keeps it
going (SLURM's queue, KubeRay, `cluster.keeper`) would end its sweep for good by that.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from sweep.errors import LedgerError, StorageError

SECONDS_FOR_RECORD = 600.0
"""How long either is waited for."""

SECONDS_BETWEEN_TRIES = 5.0

Made = TypeVar("Made")


def patiently(make: Callable[[], Made], say: Callable[[str], None]) -> Made:
    """Do something for which MLflow and the store are needed, and again where one is away.

    Args:
        make: What is to be done; doing it again makes what is missing.
        say: Prints a line.

    Raises:
        LedgerError: MLflow has stayed away, or refuses what trying again does not help.
        StorageError: Likewise the store.
    """
    end = -float("inf")
    while True:
        begun = time.monotonic()
        try:
            return make()
        except (LedgerError, StorageError) as error:
            now = time.monotonic()
            if not error.transient:
                raise
            if now - begun > SECONDS_FOR_RECORD or end < 0:
                end = now + SECONDS_FOR_RECORD
                say(f"{error} Trying again for {SECONDS_FOR_RECORD / 60:g} minutes.")
            if now >= end:
                raise
        time.sleep(SECONDS_BETWEEN_TRIES)
