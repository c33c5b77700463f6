"""How busy a node is: processors, memory, and a trial's GPU; read from /proc, without further packages.

Every worker reads it with each of its commits, and the driver records it once a node; names are MLflow's own
for system metrics, which its pages show by themselves.
"""

import os
import socket
from pathlib import Path

import torch

PROC = Path("/proc")
MEBIBYTE = 2.0**20


class NodeMeter:
    """Measures this node from one look to the next.

    Args:
        proc: Where the kernel's counters are; elsewhere than on Linux there are none.
    """

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._before = self._ticks()

    def look(self) -> tuple[str, dict[str, float]]:
        """Return the node's name and its use since the last look; nothing of what cannot be read."""
        found: dict[str, float] = {}
        now, before = self._ticks(), self._before
        if now is not None and before is not None and now[1] > before[1]:
            busy, total = now[0] - before[0], now[1] - before[1]
            found["cpu_utilization_percentage"] = 100.0 * busy / total
        self._before = now
        found |= self._memory()
        # Only where this process uses one: to ask would begin to, and take memory of it.
        if torch.cuda.is_initialized():
            free, total = torch.cuda.mem_get_info()
            name = f"gpu_{os.environ.get('CUDA_VISIBLE_DEVICES', '0').partition(',')[0] or '0'}"
            found[f"{name}_memory_usage_megabytes"] = (total - free) / MEBIBYTE
            found[f"{name}_memory_usage_percentage"] = 100.0 * (total - free) / total
        return socket.gethostname(), {name: round(value, 1) for name, value in found.items()}

    def _ticks(self) -> tuple[int, int] | None:
        """Return busy and all ticks of all processors since the machine was started."""
        try:
            first = (self._proc / "stat").read_text().split("\n", 1)[0].split()
        except OSError:
            return None
        # user, nice, system, idle, iowait, irq, softirq, steal; guests are counted among users already.
        ticks = [int(text) for text in first[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)

    def _memory(self) -> dict[str, float]:
        try:
            lines = (self._proc / "meminfo").read_text().splitlines()
        except OSError:
            return {}
        kibibytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        total, free = kibibytes["MemTotal"], kibibytes["MemAvailable"]
        return {
            "system_memory_usage_megabytes": (total - free) / 1024,
            "system_memory_usage_percentage": 100.0 * (total - free) / total,
        }
