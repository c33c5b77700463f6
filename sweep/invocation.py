"""What to type next, as it works here: how this command was called, and the places that it was told.

`make demo` calls `.venv/bin/sweep`, which is not on the path, and a sweep with `--tracking-uri` is not found
without it, so a hint that said `sweep resume demo` could not be typed as it stands.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sweep.run_options import FAILED_IS_DONE, RunOptions

READS = ("--tracking-uri",)
"""Of the options about places, those of commands that only look."""

TRAINS = ("--tracking-uri", "--storage", "--data")
REMOVES = ("--tracking-uri", "--storage")

SLURM_JOB = "SLURM_JOB_ID"
"""Set by SLURM in a job."""

DASHBOARD = "SWEEP_DASHBOARD"
"""Set by `sweep submit` in its job: the cluster's dashboard, as whoever submitted it reaches it."""

_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in a job: whoever reads the hint sits at another machine."""

_PASSWORD = re.compile(r"(?<=://)([^/?#:]*):[^@]*@(?:[^?]*@)?")
_SERVER_PASSWORD = re.compile(r"(?<=://)([^/?#:]*):(?!\d*(?:[/?#]|$))[^@]*@(?:[^?#]*@)?")
"""Up to the last @ that may belong to it: SQLAlchemy takes slashes too, and an @ that should have been quoted
is a part of the password to whoever wrote it. A number after the colon of a server's address is its port."""

_SECRET_OPTION = re.compile(
    r"((?:[?&]|^)(?:sig|[\w-]*(?:secret|password|passwd|token|access_key|account_key)[\w-]*)=)[^&#]+", re.I
)
"""An option of a URI whose value is a key: Azure's signatures (sig) and client secrets, tokens, passwords."""


def hint(*words: str, given: Mapping[str, str] | None = None, options: tuple[str, ...] = READS) -> str:
    """Return a command line of `sweep` that does what is said, from the same folder.

    Args:
        words: The command, its argument (a name or a file, whatever it begins with) and options.
        given: The options about places of this command; see `Places.given`.
        options: Which of them the other command takes; "--address" is of one that trains.
    """
    in_a_job = _RAY_JOB in os.environ
    if in_a_job:
        # Of places the reader can only name those of another job there.
        there = os.environ.get(DASHBOARD) if "--address" in options else None
        given = {**(given or {}), "--address": there} if there else {}
    told = [
        word
        for name, value in (given or {}).items()
        if name in options
        for word in (name, without_password(value))
    ]
    return f"{'sweep' if in_a_job else _program(sys.argv[0])} {shlex.join(unmistakable(words, told))}"


def going_on(*words: str, given: Mapping[str, str] | None = None, options: tuple[str, ...] = TRAINS) -> str:
    """Return what to do to go on with training: `hint`, where a command trains where it is typed.

    On a login node of SLURM nothing is trained, and a RayJob's cluster is gone once it is over.
    """
    if FAILED_IS_DONE in os.environ:
        return "kubectl, deleting the RayJob and applying it again"
    command = hint(*words, given=given, options=options)
    if SLURM_JOB not in os.environ or _RAY_JOB in os.environ:
        return command
    return f"sbatch, with the batch script again (in an interactive job: {command})"


def resuming(options: RunOptions, *more: str, given: Mapping[str, str]) -> str:
    """Return what to do to go on with a sweep as it is run here, on the same cluster.

    Args:
        options: Those of the command that runs it.
        more: Further words of `sweep resume`.
        given: The options about places of the command that runs it; see `Places.given`.
    """
    if options.address is not None:
        given = {**given, "--address": options.address}
    # A batch script runs a sweep, and has no further words.
    command = hint if more else going_on
    return command("resume", options.name, *more, *options.typed, given=given, options=(*TRAINS, "--address"))


def unmistakable(words: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """Return a command line whose argument is not taken for an option, whatever it begins with.

    Args:
        words: The command, its argument where it has one, and options.
        more: Further options.
    """
    command, *rest = words
    if rest and rest[0].startswith("-"):
        return [command, *rest[1:], *more, "--", rest[0]]
    return [*words, *more]


def without_password(value: str) -> str:
    """Return an option's value as it may be shown: an address without its password."""
    password = _SERVER_PASSWORD if value.startswith("http") else _PASSWORD
    shown = password.sub(r"\1:***@", value)
    return _SECRET_OPTION.sub(r"\1***", shown) if "://" in value else shown


def _program(called: str) -> str:
    """Return what calls this program from the folder in which it was called."""
    path = Path(called)
    if path.name == "__main__.py":
        return f"{shlex.quote(_from_here(Path(sys.executable)))} -m {path.parent.name}"
    found = shutil.which("sweep")
    if path.name != "sweep" or (found is not None and Path(found).resolve() == path.resolve()):
        return "sweep"
    return shlex.quote(_from_here(path))


def _from_here(path: Path) -> str:
    whole, here = path.absolute(), Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)
