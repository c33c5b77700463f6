"""A fence before MLflow's embedded database: what a lost lease no longer covers is not committed.

A holder may be stopped after its last look at the lease and before it writes, and another takes over
meanwhile. SQLite lets one transaction write at a time, and taking a lease is a write. So a look inside the
transaction, right before its commit, cannot be out of date. A server is out of reach of this: it carries out
a request that was under way when its sender was stopped.
"""

import threading
from typing import Any

import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from sqlalchemy import event

Param = tuple[str, str]
# Threads commit while others take and leave leases, so what is watched is only ever replaced.
_WATCHED: dict[sqlalchemy.Engine, frozenset[Param]] = {}
_REPLACING = threading.Lock()


class Fence:
    """Refuses what this process would commit to an SQLite database once a param of a run has been written.

    Args:
        client: A client of the database; for a server, or another database, the fence does nothing.
        run_id: The run.
        key: The param.
    """

    def __init__(self, client: MlflowClient, run_id: str, key: str) -> None:
        self._param = (run_id, key)
        # MLflow has no public way to its engine. Where this one changes, the test of the fence fails.
        store: Any = client._tracking_client.store  # pyright: ignore[reportPrivateUsage]
        engine: Any = getattr(store, "engine", None)
        self._engine = engine if engine is not None and engine.dialect.name == "sqlite" else None

    def raise_(self) -> None:
        """Begin to refuse."""
        if self._engine is not None:
            with _REPLACING:
                _WATCHED[self._engine] = _WATCHED.get(self._engine, frozenset()) | {self._param}

    def lower(self) -> None:
        """Refuse no longer; may be repeated."""
        if self._engine is not None:
            with _REPLACING:
                left = _WATCHED.get(self._engine, frozenset()) - {self._param}
                if left:
                    _WATCHED[self._engine] = left
                else:
                    _WATCHED.pop(self._engine, None)


# For all engines and once: SQLAlchemy's list of an engine's listeners may not change while others use it.
@event.listens_for(sqlalchemy.Engine, "commit")
def _look(connection: sqlalchemy.Connection) -> None:
    watched = _WATCHED.get(connection.engine)
    if not watched:
        return
    database: Any = connection.connection.dbapi_connection
    # SQLite begins a transaction with the first statement that writes, so readers pass.
    if not database.in_transaction:
        return
    for run_id, key in watched:
        query = "select 1 from params where run_uuid = ? and key = ?"
        if database.execute(query, (run_id, key)).fetchone() is not None:
            raise MlflowException(
                f"{key} of run {run_id} is taken; nothing was written",
                error_code=TEMPORARILY_UNAVAILABLE,
            )
