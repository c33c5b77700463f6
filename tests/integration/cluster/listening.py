"""Which addresses processes listen on, read from /proc."""

import ipaddress
from pathlib import Path
from typing import NamedTuple

LISTEN = "0A"


class Listener(NamedTuple):
    """One listening TCP socket."""

    address: str
    port: int
    inode: str


def listeners(process: int | str = "self") -> list[Listener]:
    """Return the listening sockets in the network namespace of a process."""
    found: list[Listener] = []
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{process}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[3] != LISTEN:
                continue
            host, port = fields[1].split(":")
            found.append(Listener(_address(host), int(port, 16), fields[9]))
    return found


def listeners_of(processes: set[int]) -> list[Listener]:
    """Return the sockets that some processes of this namespace listen on."""
    held: set[str] = set()
    for process in processes:
        try:
            held |= {
                str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir() if link.is_symlink()
            }
        except OSError:
            # It has just ended.
            continue
    return [one for one in listeners() if f"socket:[{one.inode}]" in held]


def family(process: int) -> set[int]:
    """Return a process and all that descends from it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything, spaces included.
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, grown = {process}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found


def _address(text: str) -> str:
    """Turn the kernel's hexadecimal words, each in the machine's byte order, into an address."""
    words = bytes.fromhex(text)
    raw = b"".join(words[start : start + 4][::-1] for start in range(0, len(words), 4))
    address = ipaddress.ip_address(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
