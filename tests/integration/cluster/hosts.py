"""Hosts of a network of their own, each with its network, processes, mounts and name, like containers.

Debian's iproute2 and util-linux make them; root is needed. A host's processes see neither each other's
processes nor this machine's /tmp, and die together.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAMS = ("ip", "unshare", "nsenter", "mount", "curl")
SHARED = (Path(__file__).parents[3], Path(sys.prefix), Path(sys.base_prefix))
"""The checkout and the interpreter: every host has them where this machine has them."""

# Everything that a container has for itself.
_PREPARE = """
set -e
hostname {name}
{share}
mount --rbind {temporary} /tmp
mount -t tmpfs -o size=512m tmpfs /dev/shm
mount -t tmpfs tmpfs /run
cd {home}
exec "$@"
"""


# Takes everything down when the process that made it is gone without having done so.
_GUARD = """
while kill -0 {process} 2>/dev/null; do sleep 1; done
for host in $(ip netns list | cut -d ' ' -f 1 | grep '^{network}-'); do
    ip netns pids "$host" | xargs -r kill -9 2>/dev/null
    ip netns del "$host"
    rm -rf "/etc/netns/$host"
done
for link in /sys/class/net/{network}v* /sys/class/net/{network}; do ip link del "${{link##*/}}"; done
rm -rf {folder}
"""


def why_not() -> str | None:
    """Return why there can be no hosts on this machine, `None` where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (iproute2, util-linux, curl)"
    name = f"shflt{os.getpid()}"
    own = ["unshare", "--uts", "--mount", "--pid", "--fork", "--mount-proc"]
    tries = (
        ["ip", "netns", "add", name],
        ["ip", "netns", "exec", name, *own, "mount", "-t", "tmpfs", "none", "/run"],
        ["ip", "link", "add", name, "type", "bridge"],
        ["ip", "link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name],
    )
    try:
        for command in tries:
            tried = subprocess.run(command, capture_output=True, text=True)
            if tried.returncode:
                return f"`{shlex.join(command)}` says: {tried.stderr.strip()}"
    finally:
        for thing in (["link", "del", f"{name}v"], ["link", "del", name], ["netns", "del", name]):
            subprocess.run(["ip", *thing], check=False, capture_output=True)
    return None


class Host:
    """One host of the network, with at most one main process.

    Args:
        name: Its name in the network.
        namespace: Its name on this machine.
        address: Its IP address.
        folder: For its /tmp, home and log.
    """

    def __init__(self, name: str, namespace: str, address: str, folder: Path) -> None:
        self.name, self.namespace, self.address, self.folder = name, namespace, address, folder
        self.log = folder / "log.txt"
        self.home = folder / "home"
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the host's main process on an empty /tmp."""
        temporary = self.folder / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in (temporary, self.home):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)
        hidden = [shlex.quote(str(one.relative_to("/tmp"))) for one in SHARED if one.is_relative_to("/tmp")]
        share = "\n".join(
            f"mkdir -p {temporary}/{one} && mount --rbind /tmp/{one} {temporary}/{one}" for one in hidden
        )
        script = _PREPARE.format(name=self.name, share=share, temporary=temporary, home=self.home)
        unshare = ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *unshare, "sh", "-c", script, "sh", *command],
                env=self._environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._main = environment

    def _environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        programs = Path(sys.executable).parent
        path = f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        # gRPC's own resolver asks a DNS server, and there is none: names are in /etc/hosts.
        fixed = {"PATH": path, "HOME": str(self.home), "LANG": "C.UTF-8", "GRPC_DNS_RESOLVER": "native"}
        return {**fixed, **environment}

    @property
    def init(self) -> int:
        """The main process, as this machine numbers it."""
        assert self._process is not None, f"{self.name} has not been started"
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    @property
    def running(self) -> bool:
        """Whether the main process is there."""
        return self._process is not None and self._process.poll() is None

    def popen(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, *, out: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start another process on the host.

        Args:
            command: Words.
            environment: Its own; the main process's when left out.
            out: File for what it prints; a pipe when left out.
        """
        enter = ["nsenter", f"--target={self.init}", "--all", f"--wd={self.home}", "--"]
        with open(out or os.devnull, "ab") as file:
            return subprocess.Popen(
                [*enter, *command],
                env=self._environment(self._main if environment is None else environment),
                stdin=subprocess.DEVNULL,
                stdout=file if out else subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def run(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, *, seconds: float = 60
    ) -> tuple[int, str]:
        """Run a process on the host to its end; returns its code and what it printed."""
        process = self.popen(command, environment)
        try:
            out, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, _ = process.communicate()
            return 124, out
        return process.returncode, out

    def kill(self) -> None:
        """End everything on the host at once, as a power cut does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, IndexError):
                if init := self.init:
                    os.kill(init, signal.SIGKILL)
            self._process.kill()
            self._process.wait()

    def cut_from(self, other: "Host") -> None:
        """Let nothing through to another host."""
        _ip("-n", self.namespace, "route", "add", "blackhole", f"{other.address}/32")

    def mend(self, other: "Host") -> None:
        """Undo `cut_from`."""
        _ip("-n", self.namespace, "route", "del", "blackhole", f"{other.address}/32")


class Network:
    """A bridge and the hosts on it. This machine is on it too, as a Docker host is.

    Args:
        names: Of the hosts.
        folder: For their files; its path must be readable by others.
    """

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        # Others may test on this machine too: names have the process in them, addresses are free ones.
        self._bridge = f"shfl{os.getpid()}"
        prefix = _free_prefix(os.getpid())
        gateway = f"{prefix}.1"
        self.hosts: dict[str, Host] = {}
        guard = _GUARD.format(process=os.getpid(), network=self._bridge, folder=shlex.quote(str(folder)))
        self._guard = subprocess.Popen(["sh", "-c", guard], start_new_session=True)
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{gateway}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for number, name in enumerate(names, start=10):
            own = folder / name
            own.mkdir(parents=True)
            self.hosts[name] = Host(name, f"{self._bridge}-{name}", f"{prefix}.{number}", own)
        table = "127.0.0.1 localhost\n" + "".join(
            f"{one.address} {one.name}\n" for one in self.hosts.values()
        )
        for number, host in enumerate(self.hosts.values(), start=10):
            # `ip netns exec` puts the files of this folder in the place of /etc's.
            etc = Path("/etc/netns", host.namespace)
            etc.mkdir(parents=True)
            (etc / "hosts").write_text(table)
            (etc / "resolv.conf").write_text("")
            _ip("netns", "add", host.namespace)
            outer = f"{self._bridge}v{number}"
            _ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("link", "set", outer, "master", self._bridge, "up")
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
            _ip("-n", host.namespace, "route", "add", "default", "via", gateway)

    def close(self) -> None:
        """End all hosts and take the network down."""
        for host in self.hosts.values():
            host.kill()
            subprocess.run(["ip", "netns", "del", host.namespace], check=False, capture_output=True)
            shutil.rmtree(Path("/etc/netns", host.namespace), ignore_errors=True)
        # Connections that nobody closed keep a namespace, and its cable, for minutes.
        cables = [path.name for path in Path("/sys/class/net").glob(f"{self._bridge}v*")]
        for link in (*cables, self._bridge):
            subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)
        self._guard.kill()
        self._guard.wait()


def _free_prefix(first: int) -> str:
    """Return the first three numbers of addresses that nobody on this machine has."""
    for number in range(first, first + 250):
        prefix = f"10.213.{number % 250}"
        if not _ip("-o", "-4", "addr", "show", "to", f"{prefix}.0/24"):
            return prefix
    raise RuntimeError("every network 10.213.x.0/24 is taken; end what has left its bridges behind")


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
