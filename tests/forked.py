"""Processes forked from one that has imported everything, which takes seconds; nothing is open in it."""

import multiprocessing

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        "sweep.cli",
        "sweep.driver",
        "sweep.report",
        "sweep.schedule",
        "cluster.commands",
        "mlflow.store.tracking.sqlalchemy_store",
        "psycopg2",
        "pygments.lexers.python",
        "tests.known_schema",
        "tests.forked_last",
    ]
)
