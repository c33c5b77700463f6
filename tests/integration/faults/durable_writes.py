"""Counts what a process makes durable, and kills it with SIGKILL before a given one.

Counted are the sync and the rename of every file and the commit of every SQL transaction that changed
something, those inside MLflow included. Killed before the n-th, a process has done exactly n - 1 of them.
"""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

_CHANGES = re.compile(r"(INSERT INTO|UPDATE|DELETE FROM) (\w+)")
_RANDOM = re.compile(r"\.[0-9a-f]{8}(\.tmp)?$|(?<=/)[0-9a-f]{32}(?=/)|(?<=a\d-)[0-9a-f]{16}")
_CHANGED = "changed tables"


class DurableWrites:
    """Traps in this process, which is to be used for nothing else.

    Args:
        root: File names are noted relative to it.
        trace: File to which every write is appended before it is done, a line each.
        kill_before: The number, from 1, of the write that is not done any more; `None` never kills.
    """

    def __init__(self, root: Path, trace: Path, kill_before: int | None) -> None:
        self._root = os.path.realpath(root)
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._kill_before = kill_before
        self._count = 0

    def trap(self) -> None:
        """Set the traps."""
        os.fsync = self._before(os.fsync, lambda file, *_: f"sync {self._name(f'/proc/self/fd/{int(file)}')}")
        os.replace = self._before(os.replace, lambda _, target: f"rename {self._name(target)}")
        event.listen(Engine, "before_cursor_execute", self._note_change)
        event.listen(Engine, "commit", self._commit)
        event.listen(Engine, "rollback", lambda connection: connection.info.pop(_CHANGED, None))

    def note(self, line: str) -> None:
        """Append a line to the trace that is no write."""
        os.write(self._trace, f"{line}\n".encode())

    def _about_to(self, what: str) -> None:
        self._count += 1
        if self._count == self._kill_before:
            self.note(f"killed before: {what}")
            os.kill(os.getpid(), signal.SIGKILL)
        self.note(f"{self._count}: {what}")

    def _before(self, real: Callable[..., Any], describe: Callable[..., str]) -> Callable[..., Any]:
        def trapped(*arguments: Any) -> Any:
            self._about_to(describe(*arguments))
            return real(*arguments)

        return trapped

    def _name(self, path: str) -> str:
        # Random parts are left out, so that two runs can be compared line by line.
        real = os.path.relpath(os.path.realpath(path), self._root)
        return _RANDOM.sub(lambda match: "" if match[0].startswith(".") else "*", real)

    def _note_change(self, connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if match := _CHANGES.match(statement.lstrip()):
            connection.info.setdefault(_CHANGED, []).append(match[2])

    def _commit(self, connection: Connection) -> None:
        if changed := connection.info.pop(_CHANGED, None):
            self._about_to(f"commit {', '.join(sorted(set(changed)))}")
