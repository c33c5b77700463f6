"""A fence before MLflow: what a lost lease no longer covers is not written.

A holder may be stopped after its last look at the lease and before it writes, and another takes over
meanwhile. How well it can be held back once it wakes depends on where MLflow is:

    SQLite      One transaction writes at a time, and taking a lease is a write. So a look inside the
                transaction, right before its commit, cannot be out of date.
    PostgreSQL  The same look; and a transaction that stands still between look and commit for a quarter of
                the stale time is ended by the database, long before somebody else could take over.
    a server    Before a request that writes is sent, each time that it is, the holder looks again if its last
                look is old. What was sent before it was stopped is carried out.

Before files of runs are put or removed, the holder looks as before a request to a server.
"""

import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from sqlalchemy import event

from sweep.ledger.sending import sent

READING = ("Get", "List", "Search")
"""What the names of MLflow's requests begin with that write nothing."""

_IS_TAKEN = "select 1 from params where run_uuid = {0} and key = {0}"
# Threads commit while others take and leave leases, so what is raised is only ever replaced.
_RAISED: "dict[object, frozenset[Fence]]" = {}
_REPLACING = threading.Lock()


class Fence:
    """Refuses what this process would write to MLflow once a param of a run has been written.

    Args:
        client: A client of MLflow.
        run_id: The run.
        key: The param.
        stale_seconds: Nobody writes the param before this process has been silent for so long.
        may_write: Tells whether the param was not yet written a moment ago; looks again if need be.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        key: str,
        *,
        stale_seconds: float,
        may_write: Callable[[], bool],
    ) -> None:
        self._param = (run_id, key)
        self._idle_ms = max(1, round(stale_seconds / 4 * 1000))
        self._may_write = may_write
        self._place = _place(client)

    def raise_(self) -> None:
        """Begin to refuse."""
        with _REPLACING:
            _RAISED[self._place] = _RAISED.get(self._place, frozenset()) | {self}

    def lower(self) -> None:
        """Refuse no longer; may be repeated."""
        with _REPLACING:
            left = _RAISED.get(self._place, frozenset()) - {self}
            if left:
                _RAISED[self._place] = left
            else:
                _RAISED.pop(self._place, None)

    def ask(self) -> None:
        """Raise where the param has been written, as far as this process may know."""
        if not self._may_write():
            self._refuse()

    def look_in_sqlite(self, database: Any) -> None:
        """Raise where the param is written; called right before a commit."""
        if database.execute(_IS_TAKEN.format("?"), self._param).fetchone() is not None:
            self._refuse()

    def look_in_postgresql(self, database: Any) -> None:
        """As above; and let the database end the transaction where the commit does not follow soon."""
        with database.cursor() as cursor:
            cursor.execute(f"set local idle_in_transaction_session_timeout = {self._idle_ms}")
            # A transaction that has written nothing has no number.
            query = f"{_IS_TAKEN.format('%s')} and txid_current_if_assigned() is not null"
            cursor.execute(query, self._param)
            if cursor.fetchone() is not None:
                self._refuse()

    def _refuse(self) -> None:
        run_id, key = self._param
        raise MlflowException(
            f"{key} of run {run_id} is taken; nothing was written", error_code=TEMPORARILY_UNAVAILABLE
        )


def ask_fences(client: MlflowClient) -> None:
    """Call before writing what no database sees; raises `MlflowException` where a lease is lost."""
    for fence in _RAISED.get(_place(client), ()):
        fence.ask()


def _place(client: MlflowClient) -> Any:
    """Return MLflow's engine, or the connection to a server."""
    # MLflow has no public way to either. Where this one changes, the tests of the fence fail.
    store: Any = client._tracking_client.store  # pyright: ignore[reportPrivateUsage]
    return getattr(store, "engine", store)


def guard_requests(client: MlflowClient) -> None:
    """Let every request to a server that writes ask the fences first, and all be `sent` here."""
    store = _place(client)
    with _REPLACING:
        if "_call_endpoint" in vars(store):
            return
        send = store._call_endpoint

        def ask() -> None:
            for fence in _RAISED.get(store, ()):
                fence.ask()

        def guarded(api: Any, *arguments: Any, **named: Any) -> Any:
            reads = api.__name__.startswith(READING)
            return sent(lambda: send(api, *arguments, **named), ask=None if reads else ask)

        store._call_endpoint = guarded


# For all engines and once: SQLAlchemy's list of an engine's listeners may not change while others use it.
@event.listens_for(sqlalchemy.Engine, "commit")
def _look(connection: sqlalchemy.Connection) -> None:
    raised = _RAISED.get(connection.engine)
    if not raised:
        return
    database: Any = connection.connection.dbapi_connection
    for fence in raised:
        match connection.dialect.name:
            # SQLite begins a transaction with the first statement that writes, so readers pass.
            case "sqlite" if database.in_transaction:
                fence.look_in_sqlite(database)
            case "postgresql":
                fence.look_in_postgresql(database)
            case _:
                pass
