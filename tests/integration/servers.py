"""Real servers for tests: S3 (moto), MLflow and PostgreSQL, each on a free port of this machine only."""

import contextlib
import glob
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import requests
from pyarrow import fs

from tests.forked import FORKED

START_SECONDS = 200.0
DATABASE_USER = "sharpflat"
UNPRIVILEGED = "postgres"
S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def free_port() -> int:
    """Return a port that nobody listens on, and that nobody is given before a server listens there.

    A port that the kernel chooses may be given to a connection of another test in the seconds that a server
    takes to start, or in those that it is away for; so may those of Ray's workers, 10002 to 19999.
    """
    lowest_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(20_000, lowest_given if lowest_given > 21_000 else 60_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


class Server:
    """A process that listens on one port, and can be killed and started again there."""

    def __init__(self, command: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> None:
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._log = log
        self._process: subprocess.Popen[bytes] | Serving | None = None
        self.port = port
        self.address = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        """Start it, and return once it answers."""
        self._process = self._begin()
        wait_for(self._answers, lambda: f"{self._command} does not answer:\n{self._log.read_text()[-2000:]}")

    def _begin(self) -> "subprocess.Popen[bytes] | Serving":
        with open(self._log, "ab") as log:
            return subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self._log.read_text()[-2000:]
        try:
            return requests.get(self.address, timeout=5).status_code < 500
        except requests.RequestException:
            return False

    def kill(self) -> None:
        """End it and its children at once."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None


class S3Server(Server):
    """An object store in memory that speaks S3."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        super().__init__(command, port, folder / "s3.log", S3_ENVIRONMENT)

    def make_bucket(self, name: str) -> str:
        """Make a bucket and return its URI; the rest of a path is to be put before the question mark."""
        fs.S3FileSystem(
            access_key="testing",
            secret_key="testing",
            endpoint_override=self.address,
            region="us-east-1",
            allow_bucket_creation=True,
        ).create_dir(name)
        return f"s3://{name}?region=us-east-1&endpoint_override={quote(self.address, safe='')}"


class MlflowServer(Server):
    """MLflow over HTTP, which keeps artifacts itself, in a forked process."""

    def __init__(self, folder: Path, backend_uri: str | None = None) -> None:
        port = free_port()
        arguments = {
            "--backend-store-uri": backend_uri or f"sqlite:///{folder / 'server.db'}",
            "--artifacts-destination": str(folder / "server artifacts"),
            "--host": "127.0.0.1",
            "--port": str(port),
            "--workers": "1",
        }
        command = ["mlflow", "server"]
        for option, value in arguments.items():
            command += [option, value]
        environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        super().__init__(command, port, folder / "mlflow.log", environment)

    def _begin(self) -> "Serving":
        return Serving(self._command, self._environment, self._log)


class Serving:
    """`mlflow server` in a forked process, in the words of `subprocess.Popen`.

    Two Pythons that import MLflow one after the other, as that command starts them, take ten seconds.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._process = FORKED.Process(
            target=_serve, args=(list(command), dict(environment), log), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Look whether it has ended, and how."""
        return self._process.exitcode

    def wait(self) -> None:
        """Wait for its end."""
        self._process.join()


def _serve(command: list[str], environment: dict[str, str], log: Path) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    with open(log, "ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    warnings.simplefilter("ignore")
    assert "mlflow.server" not in sys.modules, "it looks at the environment when it is imported"
    # By which MLflow's application knows that it is served.
    import uvicorn
    from mlflow import cli, server

    def execute(command: list[str], *, extra_env: Mapping[str, str], **_: Any) -> None:
        """Do here what MLflow starts another Python for."""
        assert command[1:3] == ["-m", "uvicorn"], command
        os.environ.update(extra_env)
        uvicorn.main(command[3:])

    server._exec_cmd = execute  # type: ignore[assignment]
    cli.cli(command[1:])


class PostgresCluster:
    """A private PostgreSQL; as root it runs under Debian's unprivileged account, which it insists on."""

    def __init__(self) -> None:
        programs = programs_of_postgres()
        assert programs is not None, "look at `programs_of_postgres` first"
        self._programs = programs
        self.port = free_port()
        # Not below a test's own folder: that is closed to other accounts.
        self._folder = Path(tempfile.mkdtemp(prefix="sharpflat-postgres-"))
        self._data = self._folder / "data"
        if os.geteuid() == 0:
            shutil.chown(self._folder, UNPRIVILEGED)
        self._call("initdb", "-D", str(self._data), "-U", DATABASE_USER, "--auth=trust", "--no-sync")

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", UNPRIVILEGED, "--", *command]
        with open(self._folder.with_suffix(".log"), "ab") as log:
            subprocess.run(command, check=True, cwd="/", stdout=log, stderr=log)

    def start(self) -> None:
        """Start it, and return once it takes connections."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        log = str(self._folder / "server.log")
        self._call("pg_ctl", "-D", str(self._data), "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Break off every connection and stop at once."""
        self._call("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")

    def make_database(self, name: str) -> str:
        """Make an empty database and return its URI."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=DATABASE_USER, dbname="postgres", connect_timeout=10
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name}")
        finally:
            connection.close()
        return f"postgresql+psycopg2://{DATABASE_USER}@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        """Stop it where it runs and remove its files."""
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)
        self._folder.with_suffix(".log").unlink(missing_ok=True)


def programs_of_postgres() -> Path | None:
    """Return the folder of `initdb` and `pg_ctl`, or `None` where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    # Debian keeps them off the path, a folder a version.
    candidates = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    return Path(candidates[-1]).parent if candidates else None


def wait_for(condition: Callable[[], bool], complaint: Callable[[], str]) -> None:
    """Return once a condition holds."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.1)
