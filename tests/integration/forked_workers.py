"""Ray's workers as forks of a process that has imported what takes longest of what they import.

Ray starts a worker for every trial that finds none: a Python that imports Ray, Tune and torch, which takes
longer than a small sweep. Here that command is `fork_request.py`, which hands its arguments, environment,
folder and streams to a process that forks. The fork runs Ray's own scripts, and Ray knows a worker by what
that registers as. Ray itself is imported there and not before, since it reads its environment when it is.
"""

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FORKS_VARIABLE = "SHARPFLAT_FORKS"
"""Where a process finds the one that forks the workers of the Ray that it starts."""
REQUEST = Path(__file__).with_name("fork_request.py")
WORKER_COMMAND = "--python_worker_command="
IMPORTED = (
    "fsspec",
    "jsonschema",
    "pandas",
    "pydantic",
    "pyarrow.parquet",
    "requests",
    "sweep.pack",
    "sweep.environment",
    "sweep.watchdog",
    "yaml",
    "tests.forked_last",
)


class WorkerForks:
    """The process that forks, until it is closed.

    Args:
        environment: More of the environment in which its forks are seen by others, in `/proc`. What they see
            themselves is that of the request.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        # Short, as the address of a socket has to be.
        self._folder = tempfile.TemporaryDirectory(prefix="forks.")
        self.address = str(Path(self._folder.name) / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(listener.fileno())],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
                stdin=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process that forks."""
        return self._process.pid

    def close(self) -> None:
        """End it and its forks."""
        # Forks first: there are no more of them while it is stopped, and afterwards they were nobody's.
        os.kill(self.pid, signal.SIGSTOP)
        for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def take_forks(address: str) -> None:
    """Let every Ray that this process starts have forks as its workers."""
    from ray._private import services

    start = services.start_ray_process

    def start_with_forks(command: list[str], *arguments: Any, **options: Any) -> Any:
        return start([_with_forks(one, address) for one in command], *arguments, **options)

    services.start_ray_process = start_with_forks


def _with_forks(argument: str, address: str) -> str:
    if not argument.startswith(WORKER_COMMAND):
        return argument
    usual = WORKER_COMMAND + subprocess.list2cmdline([sys.executable])
    assert argument.startswith(usual), f"Ray starts workers otherwise: {argument}"
    # Without `site` and what it looks for, a Python starts in a few milliseconds.
    request = subprocess.list2cmdline([sys.executable, "-S", "-E", str(REQUEST), address])
    return WORKER_COMMAND + request + argument.removeprefix(usual)


def fork_on_request(listener: socket.socket) -> None:
    """Fork whenever somebody asks; does not return."""
    for module in IMPORTED:
        import_module(module)
    assert "ray" not in sys.modules, "the environment of its workers would come too late"
    # Nobody asks how a worker has ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        first, streams, _, _ = socket.recv_fds(connection, 1, 3)
        with connection, connection.makefile("rb") as rest:
            arguments, environment, folder = json.loads(first + rest.read())
        if os.fork() == 0:
            listener.close()
            os._exit(_become(streams, arguments, environment, folder))
        for stream in streams:
            os.close(stream)


def _become(streams: list[int], arguments: list[str], environment: dict[str, str], folder: str) -> int:
    code: object = 0
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # When a worker ends Ray kills what is in its process group.
        os.setpgid(0, 0)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        context = import_module("ray._private.runtime_env.context").RuntimeEnvContext
        context.exec_worker = _run_here
        _run(arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    with contextlib.suppress(ValueError, OSError):
        sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


def _run_here(context: Any, arguments: list[str], language: object) -> None:
    """In the place of `exec`, after which all would be imported again."""
    os.environ.update(context.env_vars)
    _run(arguments)


def _run(arguments: list[str]) -> None:
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as given:
        fork_on_request(given)
