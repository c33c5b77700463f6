"""MLflow's newest schema, looked up once a process: it executes all migrations' files for every database."""

import functools

from mlflow.store.db import utils

utils._get_latest_schema_revision = functools.cache(utils._get_latest_schema_revision)
utils._get_latest_schema_revision()
