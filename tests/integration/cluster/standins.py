"""What stands in for each image's entry point, and docker-compose.yml run that way on hosts of a network.

| image | stands in |
| --- | --- |
| sharpflat | the same command, from this interpreter's environment |
| postgres | Debian's PostgreSQL, set up as the image's entry point does it |
| dxflrs/garage | moto's S3 server on Garage's port, with Garage's bucket |
"""

import shutil
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cluster.secrets import fresh_environment, write_environment
from cluster.shipping import pack_code
from tests.integration.cluster.compose import Service, services
from tests.integration.cluster.hosts import Host, Network
from tests.integration.cluster.listening import listeners
from tests.integration.servers import UNPRIVILEGED, programs_of_postgres

START_SECONDS = 120.0
CLIENT = "laptop"
WORKERS = ("worker-1", "worker-2")
SMALL_NODE = ("--object-store-memory=200000000",)
"""What a container's memory limit would make of Ray's default."""

PACE_SECONDS = 0.25
"""Of a step of the model of `paced.py` on the nodes, while they are broken: no cell ends meanwhile."""

DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
DRAIN_SECONDS = 6
"""Shorter than docker-compose.yml's: it is to be over before the cell that is trained meanwhile."""


@dataclass(frozen=True)
class Planted:
    """What is wrong with a host.

    Args:
        options: More words of its service's command.
        packages: Folders of packages that it finds before its own.
    """

    options: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


AS_IT_IS = Planted()
NOTHING: Mapping[str, Planted] = {}

_POSTGRES = """
set -e
data={home}/data
if [ ! -d "$data" ]; then
    install -d -o {user} -m 700 "$data"
    printf %s "$POSTGRES_PASSWORD" > {home}/password
    chown {user} {home}/password
    runuser -u {user} -- {programs}/initdb -D "$data" -U "$POSTGRES_USER" --pwfile={home}/password \
        --auth-local=trust $POSTGRES_INITDB_ARGS >/dev/null
    echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
    runuser -u {user} -- {programs}/pg_ctl -D "$data" -w start -o "-c listen_addresses='' -k /tmp" >/dev/null
    runuser -u {user} -- {programs}/createdb -h /tmp -U "$POSTGRES_USER" "$POSTGRES_DB"
    runuser -u {user} -- {programs}/pg_ctl -D "$data" -w stop >/dev/null
fi
exec runuser -u {user} -- {programs}/postgres -D "$data" -c listen_addresses='*' -k /tmp -c fsync=off
"""

_STORAGE = """
{python} -W ignore -m moto.server -H 0.0.0.0 -p 3900 &
until {python} -c '
import os, boto3
boto3.client(
    "s3",
    endpoint_url="http://127.0.0.1:3900",
    region_name="us-east-1",
    aws_access_key_id=os.environ["GARAGE_DEFAULT_ACCESS_KEY"],
    aws_secret_access_key=os.environ["GARAGE_DEFAULT_SECRET_KEY"],
).create_bucket(Bucket=os.environ["GARAGE_DEFAULT_BUCKET"])
'; do sleep 0.2; done
touch /tmp/ready
wait
"""


class Cluster:
    """docker-compose.yml with two workers and one host more, from which it is used.

    Args:
        folder: For everything; readable by other accounts.
    """

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.folder = folder
        self.environment = dict(fresh_environment())
        write_environment(folder, self.environment)
        found = services(self.environment)
        self.services = {name: found[name] for name in found if name not in ("worker", "worker-gpu")}
        self.services |= {name: found["worker"] for name in WORKERS}
        # What is tested does not change while it is tested.
        self.code = folder / "code"
        self.code.mkdir()
        pack_code(self.code)
        self._pace = folder / "pace"
        self.set_pace(PACE_SECONDS)
        self.network = Network([*self.services, CLIENT], folder)
        self.hosts = self.network.hosts
        self.client = self.hosts[CLIENT]

    def set_pace(self, seconds: float) -> None:
        """Let a step of the model of `paced.py` take so long from now on."""
        new = self._pace.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self._pace)

    def up(self, planted: Mapping[str, Planted] = NOTHING) -> None:
        """Start every service once those that it needs are healthy.

        Args:
            planted: What is different on some hosts.
        """
        self.client.start(["sleep", "infinity"], self.client_environment)
        with ThreadPoolExecutor(len(self.services)) as pool:
            healthy: dict[str, Future[None]] = {}

            def bring_up(name: str) -> None:
                for needed in self.services[name].needs:
                    healthy[needed].result()
                self.start(name, planted.get(name, AS_IT_IS))
                self.wait_until_healthy(name)

            # A service comes after those that it needs, so that their futures are there.
            for name in self.services:
                healthy[name] = pool.submit(bring_up, name)
            for started in healthy.values():
                started.result()

    @property
    def client_environment(self) -> dict[str, str]:
        """Of the seventh host: the logins, and the services' names in the place of published ports."""
        taken = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        return {
            **{name: self.environment[name] for name in taken},
            "RAY_API_SERVER_ADDRESS": "http://head:8265",
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            "PYTHONPATH": str(self.code),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, name: str, planted: Planted = AS_IT_IS) -> None:
        """Start a service, as `restart: unless-stopped` does."""
        service, host = self.services[name], self.hosts[name]
        environment = {**service.environment, "PYTHONWARNINGS": "ignore", "PACE": str(self._pace)}
        environment["PYTHONPATH"] = ":".join([*planted.packages, str(self.code)])
        if DRAIN in environment:
            environment[DRAIN] = str(DRAIN_SECONDS)
        command = [*service.command, *planted.options]
        for target, text in service.files.items():
            # Nothing is put into this machine's own folders: what names the place is changed.
            file = host.folder / target.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            environment = {key: value.replace(target, str(file)) for key, value in environment.items()}
            command = [word.replace(target, str(file)) for word in command]
        environment |= (
            {"SHARPFLAT_DATA": str(host.folder / "data")} if "SHARPFLAT_DATA" in environment else {}
        )
        host.start(_stand_in(service, command, host), environment)

    def wait_until_healthy(self, name: str) -> None:
        """Repeat a service's own health check until it passes."""
        service, host = self.services[name], self.hosts[name]
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert host.running, f"{name} has ended:\n{_end(host.log)}"
            # Asking takes longer than looking whether there is anybody to ask.
            there = bool(host.init and listeners(host.init))
            code, out = host.run(_health(service), seconds=30) if there else (1, "nothing listens")
            if code == 0:
                return
            assert time.monotonic() < deadline, f"{name} is not healthy: {out[-500:]}\n{_end(host.log)}"
            time.sleep(0.5)

    def close(self) -> None:
        """End all of it."""
        self.network.close()


def _stand_in(service: Service, command: list[str], host: Host) -> list[str]:
    kind = service.image.partition(":")[0]
    if kind == "postgres":
        programs = programs_of_postgres()
        assert programs is not None, "looked at before"
        script = _POSTGRES.format(home=host.home, user=UNPRIVILEGED, programs=programs)
        return ["sh", "-c", script]
    if kind == "dxflrs/garage":
        return ["sh", "-c", _STORAGE.format(python=sys.executable)]
    assert kind == "sharpflat", f"nothing stands in for {service.image}"
    return [*command, *SMALL_NODE, *_one_cpu(command)] if command[:2] == ["ray", "start"] else command


def _one_cpu(command: list[str]) -> list[str]:
    return [] if any(word.startswith("--num-cpus") for word in command) else ["--num-cpus=1"]


def _health(service: Service) -> list[str]:
    kind = service.image.partition(":")[0]
    if kind == "dxflrs/garage":
        return ["test", "-e", "/tmp/ready"]
    if kind == "postgres":
        program = shutil.which("pg_isready") or str((programs_of_postgres() or Path()) / "pg_isready")
        return [program, *service.health[1:]]
    return list(service.health)


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:] if log.exists() else ""
