"""An empty record in MLflow, made once a process: MLflow's migrations take longer than most tests."""

import functools
import tempfile
from pathlib import Path

from sweep.ledger import Ledger


@functools.cache
def fresh_database() -> bytes:
    """Return the file of an SQLite database that MLflow has just made."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        Ledger.open(f"sqlite:///{path}")
        return path.read_bytes()
