"""Secrets: `.env`, which has every one of docker-compose.yml, and what must not have any.

Compose reads the file by itself, and `sweep submit` does. For other commands: `set -a; . ./.env; set +a`.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from sweep.invocation import without_password
from trainers.errors import ConfigError

ENVIRONMENT_FILE = ".env"
DASHBOARD = "http://127.0.0.1:8265"
TRACKING_URI = "http://127.0.0.1:5000"

ADDRESS = "RAY_API_SERVER_ADDRESS"
LOGIN = (ADDRESS, "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
"""What a command that talks to Ray's Jobs API takes from the file."""

RECORD = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
"""And what `sweep resume` looks the stored space up with, whose files travel again."""

S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def fresh_environment(*, profile: str = "cpu") -> Mapping[str, str]:
    """Return new secrets and the addresses that go with them.

    Args:
        profile: Compose's profile: whether the workers have GPUs.
    """
    return {
        "COMPOSE_PROFILES": profile,
        ADDRESS: DASHBOARD,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "MLFLOW_TRACKING_URI": TRACKING_URI,
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": secrets.token_hex(16),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        "POSTGRES_PASSWORD": secrets.token_hex(16),
        # Garage's own form, and the only one that it takes before 2.3: GK and 12 bytes.
        "S3_ACCESS_KEY": f"GK{secrets.token_hex(12)}",
        "S3_SECRET_KEY": secrets.token_hex(32),
        "GARAGE_RPC_SECRET": secrets.token_hex(32),
    }


def write_environment(folder: Path, values: Mapping[str, str]) -> Path:
    """Write the file, readable by its owner only.

    Raises:
        ConfigError: There is one already (its secrets may be those of a running cluster), or it cannot be
            written.
    """
    path = folder / ENVIRONMENT_FILE
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(
            f"{path} exists and stays as it is: a cluster may be using its secrets. Move it away first."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return path


def read_environment(path: Path) -> dict[str, str]:
    """Return the names and values of such a file; empty where there is none."""
    if not path.is_file():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def log_in(address: str | None, folder: Path | None = None) -> str:
    """Find out which cluster is meant, and make its token known to Ray's client in this process.

    What stands in `.env` is used for the address beside it and for no other; so is its MLflow.

    Args:
        address: As given by the user, if at all.
        folder: Of `.env`; the working folder when left out.

    Returns:
        The address of the dashboard.

    Raises:
        ConfigError: No address is given anywhere.
    """
    written = read_environment((folder or Path.cwd()) / ENVIRONMENT_FILE)
    found = address or os.environ.get(ADDRESS) or written.get(ADDRESS)
    if not found:
        raise ConfigError(
            f"--address: found none; expected the dashboard of a Ray cluster, such as {DASHBOARD} "
            f"(or ${ADDRESS}, or a {ENVIRONMENT_FILE} from `sweep cluster init`)."
        )
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if found == written.get(ADDRESS):
        if not given:
            os.environ.update({name: written[name] for name in LOGIN if name in written})
        if not os.environ.get(RECORD[0]):
            os.environ.update({name: written[name] for name in RECORD if name in written})
    return found


def require_no_keys(tracking_uri: str | None, storage: str | None) -> None:
    """See that options that become a command on a cluster, which Ray writes into its logs, hold no secret.

    What `sweep cluster render` writes gives nodes the places of the spec, before those of a Secret.

    Raises:
        ConfigError: One has a password or a key in it.
    """
    for option, value, whole, field, scheme, alone in (
        ("--tracking-uri", tracking_uri, RECORD[0], "tracking_uri", "http", RECORD[1:]),
        ("--storage", storage, "SWEEP_STORAGE", "storage", "s3:", S3_KEYS),
    ):
        if value is not None and (shown := without_password(value)) != value:
            ways = f"{whole} as a whole (`{field}` of the spec, in what `sweep cluster render` writes)"
            if value.startswith(scheme):
                ways += f"; or it without the secret, and {' and '.join(alone)}"
            raise ConfigError(
                f"{option}: found {shown!r}, with a secret that would stand in a command, for logs and lists "
                f"of processes to show. Nodes take it from their environment: {ways}."
            )
