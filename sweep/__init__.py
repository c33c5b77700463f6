"""Plan, schedule (Ray Tune), record (MLflow), resume, report, and the command line."""

import os

# MLflow reads these when it is imported or called, so they are set before any module here can import it. Its
# own defaults would retry for minutes and print links and bars; whoever can wait here retries by itself. A
# user's setting wins.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}.items():
    os.environ.setdefault(_name, _value)
