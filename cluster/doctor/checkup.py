"""`sweep doctor`: survey and judgement, on this machine or as a job on the cluster that is examined.

python -m cluster.doctor.checkup [--tracking-uri URI] [--storage PLACE]    on a node of the cluster
"""

import argparse
import secrets
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster.doctor.judgement import Finding, judge
from cluster.jobs import Jobs, Log
from cluster.shipping import pack_code
from cluster.submission import ending

HEALTHY, ILL = 0, 1


def examine_cluster(
    jobs: Jobs,
    *,
    tracking_uri: str | None,
    storage: str | None,
    write: Callable[[str], None],
    with_code: bool,
) -> int:
    """Examine a cluster from one of its own nodes, which reach what a sweep will.

    Returns:
        0 when all is well, 1 otherwise.
    """
    command = ["python", "-m", "cluster.doctor.checkup"]
    for option, value in (("--tracking-uri", tracking_uri), ("--storage", storage)):
        command += [option, value] if value else []
    with tempfile.TemporaryDirectory(prefix="sweep-doctor-") as folder:
        if with_code:
            pack_code(Path(folder))
        job = jobs.start(
            f"doctor-{secrets.token_hex(4)}",
            entrypoint=shlex.join(command),
            runtime_env={"working_dir": folder, "env_vars": {"PYTHONUNBUFFERED": "1"}},
        )
        state = jobs.follow(job, Log(write))
    return HEALTHY if state is not None and ending(state) == HEALTHY else ILL


def report(findings: Sequence[Finding], say: Callable[[str], None]) -> int:
    """Say every finding, and what to do; returns the exit code."""
    for finding in findings:
        say(f"{'ok  ' if finding.good else 'BAD '} {finding.check}: {finding.what}")
        if finding.advice:
            say(f"     -> {finding.advice}")
    bad = sum(not finding.good for finding in findings)
    say("all is well" if not bad else f"{bad} to be seen to")
    return ILL if bad else HEALTHY


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine the cluster that this node belongs to."""
    from cluster.doctor.survey import ask_cluster

    parser = argparse.ArgumentParser(prog="python -m cluster.doctor.checkup")
    parser.add_argument("--tracking-uri")
    parser.add_argument("--storage")
    parser.add_argument("--address", default="auto")
    given = parser.parse_args(arguments)
    nodes = ask_cluster(given.address, tracking_uri=given.tracking_uri, storage=given.storage)
    return report(judge(nodes), print)


if __name__ == "__main__":
    sys.exit(main())
