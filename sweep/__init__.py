"""Plan, schedule (Ray Tune), record (MLflow), resume, report, and the command line."""

import os
from typing import TYPE_CHECKING, Any

# MLflow reads these when it is imported or called, so they are set before any module here can import it. Its
# own defaults would retry for minutes, below the fence (`sweep.ledger.sending`), and print links and bars. A
# user's setting wins.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}.items():
    os.environ.setdefault(_name, _value)

if TYPE_CHECKING:
    from sweep.notebook import LoadedSweep, load_sweep

__all__ = ["LoadedSweep", "load_sweep"]


def __getattr__(name: str) -> Any:
    # Only on demand: reading a sweep takes MLflow, which takes seconds to import.
    if name in __all__:
        from sweep import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module 'sweep' has no attribute {name!r}")
