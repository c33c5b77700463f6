"""Changes a process under test, and the Ray workers that it starts, as `SHARPFLAT_TAMPERING` (JSON) asks.

Python imports this at its start when this folder is first on the path. What belongs to a module is changed
right after that module's import, or at once where that has been.

    lease   [renew, stale]: seconds, instead of the usual ones
    clock   seed: the wall clock jumps to and fro by up to a day, every second
"""

import importlib.abc
import importlib.util
import json
import os
import random
import sys
import time


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function with a module once that has been imported."""

    def __init__(self, changes):
        self._changes = changes

    def find_spec(self, name, path=None, target=None):
        change = self._changes.pop(name, None)
        if change is None:
            return None
        spec = importlib.util.find_spec(name)
        real = spec.loader.exec_module

        def exec_module(module):
            real(module)
            change(module)

        spec.loader.exec_module = exec_module
        return spec


def shorten_lease(module, renew_seconds, stale_seconds):
    defaults = {"renew_seconds": renew_seconds, "stale_seconds": stale_seconds}
    module.Lease.acquire.__func__.__kwdefaults__.update(defaults)


def upset_clock(seed):
    """The wall clock leaps by up to a day, into the past too; the monotonic one goes on."""
    steady, steady_ns = time.time, time.time_ns
    draw = random.Random(seed)
    leaps = [draw.uniform(-86400, 86400) for _ in range(1000)]

    def leap():
        return leaps[int(time.monotonic()) % len(leaps)]

    time.time = lambda: steady() + leap()
    time.time_ns = lambda: steady_ns() + int(leap() * 1e9)


asked = json.loads(os.environ.get("SHARPFLAT_TAMPERING", "{}"))
changes = {}
if "lease" in asked:
    changes["sweep.lease"] = lambda module: shorten_lease(module, *asked["lease"])
if "clock" in asked:
    upset_clock(asked["clock"])
for name in changes.keys() & sys.modules.keys():
    changes.pop(name)(sys.modules[name])
if changes:
    sys.meta_path.insert(0, AfterImport(changes))
