"""Keeps a sweep's driver going: one that is killed is started again, whether or not anybody follows its log.

It is what a job on a cluster runs in the driver's place, beside Ray's own supervisor, which starts a command
once. The driver makes what is missing, so that starting it again is all there is to do.

python -m cluster.keeper run space.yaml --name mine …    the arguments of `sweep`
python -m cluster.keeper --stopped-is-done run …         for KubeRay, which begins again what fails
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from sweep.run_options import FAILED_IS_DONE, RESTARTED

RESTARTS = 5
"""How often in a row; one that is killed more often will be killed again (its node has no memory left)."""

HEALTHY_SECONDS = 600.0
"""A driver that has run for so long begins a new row."""

SECONDS_BEFORE_RESTART = 1.0
STOPPED = 130
STOPPED_IS_DONE = "--stopped-is-done"
SLURM_RESTARTS = "SLURM_RESTART_COUNT"

KILLED_BASE = 128
"""A shell says 128 + n of a process that signal n has ended, and so does the keeper."""


def keep(
    command: Sequence[str],
    *,
    pause: float = SECONDS_BEFORE_RESTART,
    stopped_is_done: bool = False,
    restarted: bool = False,
) -> int:
    """Run a command until it ends by itself; one that a signal has ended is started again.

    A SIGTERM or SIGINT to this process means that nothing is to be started again. It is not passed on: who
    stops a job (Ray, a shell's Ctrl-C) tells the driver too, and a second signal would make it end at once.

    Args:
        command: The driver's.
        pause: Seconds before it is started again.
        stopped_is_done: Whoever starts failed jobs again is not to start a driver again that has come to its
            end. So 0 is returned of one that stopped as a user wants it (`sweep stop`, a limit of time or
            cost) and not because of a signal; and the driver is told to end with 0 once what is left are
            cells that failed, or on bad input (`sweep.run_options.FAILED_IS_DONE`).
        restarted: Tell the first driver, too, that it may follow one that was lost: what was asked of that
            one (`sweep stop`) counts.

    Returns:
        The command's exit code, 128 + n where signal n ended it for good.
    """
    told = False

    def note(number: int, frame: object) -> None:
        nonlocal told
        told = True

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        in_a_row, code = 0, -int(signal.SIGTERM)
        while not told:
            begun = time.monotonic()
            code = subprocess.Popen(command, env=_environment(restarted, stopped_is_done)).wait()
            if code >= 0:
                return 0 if code == STOPPED and stopped_is_done and not told else code
            in_a_row = 1 if time.monotonic() - begun > HEALTHY_SECONDS else in_a_row + 1
            if told or in_a_row > RESTARTS:
                break
            name = signal.Signals(-code).name
            restarted = True
            print(f"the driver was ended by {name}; it goes on from the last checkpoints", flush=True)
            time.sleep(pause)
        return KILLED_BASE - code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment(restarted: bool, stopped_is_done: bool) -> dict[str, str]:
    told = [*([RESTARTED] if restarted else []), *([FAILED_IS_DONE] if stopped_is_done else [])]
    return {**os.environ, **dict.fromkeys(told, "1")}


def main(arguments: Sequence[str]) -> int:
    """Keep a driver going that has these arguments; returns the exit code."""
    stopped_is_done = arguments[:1] == [STOPPED_IS_DONE]
    words = arguments[1:] if stopped_is_done else arguments
    # KubeRay does not say which try it is; SLURM does, of a job that was put back into the queue.
    restarted = stopped_is_done or os.environ.get(SLURM_RESTARTS, "0") != "0"
    command = [sys.executable, "-m", "sweep", *words]
    return keep(command, stopped_is_done=stopped_is_done, restarted=restarted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
