"""The hosts of docker-compose.yml, or the reason why there are none here."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.integration.cluster.hosts import why_not
from tests.integration.cluster.standins import Cluster
from tests.integration.servers import programs_of_postgres


@pytest.fixture
def chance() -> Random:
    """Which victims, and when; $CLUSTER_SEED repeats a run."""
    seed = int(os.environ.get("CLUSTER_SEED") or secrets.randbelow(2**32))
    print(f"CLUSTER_SEED={seed}")
    return Random(seed)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster whose services are not started yet."""
    if (reason := why_not()) is not None:
        pytest.skip(f"no cluster in network namespaces here: {reason}")
    if programs_of_postgres() is None:
        pytest.skip("no cluster in network namespaces here: PostgreSQL is not installed")
    # Not below /tmp: each host has a /tmp of its own.
    folder = Path(tempfile.mkdtemp(prefix="sharpflat-cluster-", dir="/var/tmp"))
    made = Cluster(folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)
