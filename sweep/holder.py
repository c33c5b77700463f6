"""Which process holds a lease, and whether it still lives, as far as this machine can know."""

import json
import os
import platform
import secrets
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_STOPPED = "Tt"
_DEAD = "ZX"
_given_up: set[str] = set()
"""Tokens of what this process has taken, or tried to, and holds no more; MLflow may not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Which process holds a lease.

    Args:
        host: Host name, for people.
        machine: Boot and process namespace, where they are known: within them a pid says which process.
        pid: Process id.
        process_started: When the kernel started it, in its own ticks; tells a reused pid apart.
        since_ms: When the lease was taken.
        token: Random; no two takings are equal.
    """

    host: str
    machine: str
    pid: int
    process_started: str
    since_ms: int
    token: str

    @classmethod
    def this_process(cls) -> "Holder":
        """Describe the caller."""
        pid = os.getpid()
        return cls(
            host=socket.gethostname(),
            machine=_machine(),
            pid=pid,
            process_started=(_process(pid) or ("", ""))[1],
            since_ms=time.time_ns() // 1_000_000,
            token=secrets.token_hex(8),
        )

    @classmethod
    def read(cls, text: str) -> "Holder":
        """Read what `to_text` wrote; what cannot be read is a holder on an unknown machine."""
        try:
            facts = json.loads(text)
            return cls(**{name: facts[name] for name in cls.__dataclass_fields__})
        except (ValueError, KeyError, TypeError):
            return cls(host="unknown", machine="", pid=0, process_started="", since_ms=0, token=text)

    def to_text(self) -> str:
        """Return the param's value."""
        return json.dumps(asdict(self), sort_keys=True)

    def give_up(self) -> None:
        """Say that this process, which the holder is, holds it no more; MLflow may never hear of it."""
        _given_up.add(self.token)

    @property
    def process_state(self) -> str | None:
        """Return "running", "stopped" or "gone"; `None` where this machine cannot know.

        This very process is "gone" once it has given up.
        """
        if self.token in _given_up:
            return "gone"
        if not self.machine or self.machine != _machine():
            return None
        found = _process(self.pid)
        if found is None:
            return None if _exists(self.pid) else "gone"
        if found[1] != self.process_started or found[0] in _DEAD:
            return "gone"
        return "stopped" if found[0] in _STOPPED else "running"

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since_ms / 1000))
        return f"process {self.pid} on {self.host}, since {since}"


def _machine() -> str:
    """Return what makes a pid meaningful: the boot and the process namespace; empty where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, str] | None:
    """Return a process's state letter and start time, or `None` where they cannot be read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in parentheses, may hold anything, so what follows the last parenthesis is split.
    fields = stat.rpartition(")")[2].split()
    return fields[0], fields[19]


def _exists(pid: int) -> bool:
    """Whether there is such a process: `/proc` shows no other user's where it is mounted with hidepid."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Another user's.
        pass
    return True
