"""A SLURM batch script that runs one sweep on the machines of one job.

The driver runs in the batch shell, under its keeper, and Ray is started around it. `ray symmetric-run` would
do the same in fewer lines, but it dies of a SIGTERM without telling the driver; here the driver gets it,
stops after the next checkpoints, and the job is put back into the queue, where it makes what is missing. A
machine that is lost takes its own trials away and not the job, unless it is the first.
"""

import shlex
from collections.abc import Sequence

from cluster.spec import ClusterSpec
from sweep.run_options import UNATTENDED

_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={job}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --mem={memory}G
{options}#SBATCH --time={time}
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# The batch shell is told so many seconds before the time limit; at a preemption too, where the site has
# PreemptParameters=send_user_signal (older SLURM: SlurmctldParameters=preempt_send_user_signal).
#SBATCH --signal=B:TERM@{grace}
set -eo pipefail
# It may come while Ray is still being started. A second time would end the driver at once: once is enough.
told=0 woken=0 driver= passed_on=0 deadline=0
pass_on() {{
    ((told)) || deadline=$((SECONDS + {grace}))
    told=1 woken=1
    if [[ -n $driver ]] && ((!passed_on)); then
        passed_on=1
        kill -TERM -- "-$driver" 2>/dev/null || true
    fi
}}
trap pass_on TERM
{setup}
# Not before: what sites have in modules and environments reads variables that are not set.
set -u

export MLFLOW_TRACKING_URI={tracking_uri}
export SWEEP_STORAGE={storage}
export RAY_USAGE_STATS_ENABLED=0
# The other machines are told at the end of the job alone, when nothing is left that they could finish.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
# Nobody is there who would start it again, so what is away for a moment when it begins is waited for.
export {unattended}=1
# Others use these machines too: without the token nobody runs code here. It lies in the shared home.
export RAY_AUTH_MODE=token
(umask 077 && ray get-auth-token --generate >/dev/null)

# The batch shell runs on the first machine. Its name in SLURM leads to the network of all machines; the first
# of its addresses may be of another one. Jobs that share it have ports of their own.
head=$(getent ahostsv4 "$SLURMD_NODENAME" | awk '$1 !~ /^127[.]/ {{print $1; exit}}' || true)
[[ -n $head ]] || head=$(hostname --all-ip-addresses | awk '{{print $1}}')
port=$((20000 + SLURM_JOB_ID % 3000 * 4))
ports=(--dashboard-agent-listen-port=$((port + 1)) --min-worker-port=0 --max-worker-port=0)
# Ray lets everybody into its own folder, so it is in one of this account's. A long path would not fit into a
# socket's name.
scratch=
# The job ends with its own code, also where something of the folder cannot be removed; `rm` says what.
trap '[[ -z $scratch ]] || rm -rf "$scratch" || true' EXIT
scratch=$(mktemp -d "/tmp/ray-$SLURM_JOB_ID-XXXX")

ray start --head --node-ip-address="$head" --port="$port" --include-dashboard=false \\
    --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus={gpus} --temp-dir="$scratch/r" --disable-usage-stats \\
    "${{ports[@]}}" --ray-client-server-port=$((port + 2))
# Ray has the same folder on every machine; each makes it, and removes it once it is told to end.
on_a_node='mkdir -m 700 "$1" || exit; trap : TERM; code=0; "${{@:2}}" || code=$?; rm -rf "$1"; exit $code'
if ((SLURM_JOB_NUM_NODES > 1)); then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) \\
        --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --exclude="$SLURMD_NODENAME" \\
        --no-kill --kill-on-bad-exit=0 \\
        bash -c "$on_a_node" on_a_node "$scratch" ray start --address="$head:$port" --block \\
        --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus={gpus} --disable-usage-stats \\
        "${{ports[@]}}" &
fi

code=143
if ((!told)); then
    # A process group of their own, so that keeper and driver are told together.
    set -m
    {command} --address "$head:$port" &
    driver=$!
    set +m
    ((!told)) || pass_on
    # A signal ends the waiting; the driver is still writing checkpoints.
    woken=1
    while ((woken)); do
        woken=0 code=0
        wait "$driver" || code=$?
    done
fi
trap '' TERM

# SLURM's controller may be away for a moment, so it is asked again for as long as there is time.
insist() {{
    until "$@"; do
        ((SECONDS < deadline)) || return
        sleep 2
    done
}}
# A driver that was told and ended by itself all the same (0, 1, 2) has nothing left to make; and a job that
# somebody has cancelled stays cancelled, which only an answer says.
if ((told && code > 2)); then
    state=$(insist squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T) || state=RUNNING
    [[ $state != RUNNING ]] || insist scontrol requeue "$SLURM_JOB_ID" || true
fi
exit "$code"
"""


def batch_script(
    spec: ClusterSpec, *, name: str, space: str, search: bool = False, options: Sequence[str] = ()
) -> str:
    """Return the text for `sbatch`.

    Args:
        spec: The cluster; its first group of workers, `max_nodes` of them.
        name: The sweep's name.
        space: A space's name, or a YAML file that the machines share.
        search: Whether it is searched, and not run.
        options: More options of `sweep run`, or `sweep search`.
    """
    workers, slurm = spec.workers[0], spec.slurm
    asked = {"--partition": slurm.partition, "--account": slurm.account}
    if workers.gpus:
        asked["--gpus-per-node"] = str(workers.gpus)
    command = ["python", "-m", "cluster.keeper", "search" if search else "run", space, "--name", name]
    command += ["--gpus-per-trial", "1"] if workers.gpus else []
    command += options
    return _SCRIPT.format(
        job=spec.name,
        nodes=workers.max_nodes,
        cpus=workers.cpus,
        memory=workers.memory_gib,
        options="".join(f"#SBATCH {key}={value}\n" for key, value in asked.items() if value),
        time=slurm.time_limit,
        grace=slurm.grace_seconds,
        unattended=UNATTENDED,
        setup="\n".join(slurm.setup),
        tracking_uri=shlex.quote(spec.tracking_uri),
        storage=shlex.quote(spec.storage),
        gpus=workers.gpus,
        command=shlex.join(command),
    )
