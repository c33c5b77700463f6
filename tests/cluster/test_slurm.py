"""The batch script for SLURM, run with fakes for what SLURM and Ray have."""

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from cluster.slurm import batch_script
from cluster.spec import ClusterSpec
from tests.cluster.clusters import GPUS, PLAIN, files


@pytest.mark.parametrize("name", [name for name in files() if name.endswith(".sbatch")])
def test_batch_scripts_are_bash(name: str) -> None:
    subprocess.run(["bash", "-n"], input=files()[name], text=True, check=True)


FAKES = {
    "hostname": "echo 10.0.0.1 192.168.0.1",
    "scontrol": 'echo "scontrol $*" >> "$LOG"',
    "ray": 'echo "ray $*" >> "$LOG"',
    "srun": 'echo "srun $*" >> "$LOG"',
    "mktemp": 'mkdir "$FOLDER/scratch" && echo "$FOLDER/scratch"',
    "squeue": 'echo "$STATE"',
}


NO_SETUP = PLAIN.model_copy(update={"slurm": PLAIN.slurm.model_copy(update={"setup": ()})})


def run_script(
    folder: Path,
    driver: str,
    *,
    signals: int = 0,
    state: str = "RUNNING",
    spec: ClusterSpec = NO_SETUP,
    **fakes: str,
) -> tuple[int, str]:
    """Run a batch script with fakes for what SLURM and Ray have; returns its code and what was called.

    Args:
        folder: For all of it.
        driver: What the driver does, under its keeper's name.
        signals: How often SIGTERM comes, once something has said "started".
        state: What SLURM says of the job.
        spec: What it is written for.
        fakes: Other programs in the place of `FAKES`.
    """
    programs = folder / "bin"
    programs.mkdir()
    for name, body in {**FAKES, "python": driver, **fakes}.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    log = folder / "log"
    log.touch()
    text = batch_script(spec, name="demo", space="demo")
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LOG": str(log),
        "FOLDER": str(folder),
        "STATE": state,
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NUM_NODES": "4",
        "SLURMD_NODENAME": "node1",
        "SLURM_CPUS_PER_TASK": "8",
    }
    process = subprocess.Popen([shutil.which("bash") or "bash", "-c", text], env=environment)
    for _ in range(signals):
        while "started" not in log.read_text():
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        time.sleep(0.1)
    code = process.wait(timeout=30)
    assert not (folder / "scratch").exists(), "Ray's files are not left on the machine"
    return code, log.read_text()


DRIVER = """
trap 'echo "SIGTERM came" >> "$LOG"; sleep 0.5; echo committed >> "$LOG"; exit 130' TERM
echo "started $*" >> "$LOG"
while :; do sleep 0.05; done"""


def test_a_job_that_is_told_to_end_lets_the_driver_finish_and_goes_back_into_the_queue(
    tmp_path: Path,
) -> None:
    code, log = run_script(tmp_path, DRIVER, signals=1)
    assert code == 130
    assert log.index("committed") < log.index("scontrol requeue 17")
    assert "started -m cluster.keeper run demo --name demo --address 10.0.0.1:20068" in log
    assert (
        "srun --nodes=3 --ntasks=3 --ntasks-per-node=1 --cpus-per-task=8 --exclude=node1 --no-kill "
        "--kill-on-bad-exit=0 bash -c " in log
    )
    assert f"on_a_node {tmp_path}/scratch ray start --address=10.0.0.1:20068" in log


def test_every_machine_has_ray_s_files_for_itself_and_leaves_none(tmp_path: Path) -> None:
    # Each has its own /tmp: the other's folder is out of the way here.
    srun = """mv "$FOLDER/scratch" "$FOLDER/first"
while [[ $1 == --* ]]; do shift; done
echo "step $$" >> "$LOG"
exec "$@\""""
    ray = """[[ $* != *--block* ]] && exit
stat --format="mode %a" "$FOLDER/scratch" >> "$LOG"
mkdir -m 777 "$FOLDER/scratch/r"
trap 'echo "the node ends" >> "$LOG"; exit 3' TERM
echo "joined $$" >> "$LOG"
while :; do sleep 0.05; done"""
    # As SLURM does at the end of a job: everything of a step is told.
    driver = """until grep -q joined "$LOG"; do sleep 0.05; done
step=$(awk '/^step/ {print $2}' "$LOG")
kill -TERM $step $(awk '/^joined/ {print $2}' "$LOG")
while kill -0 $step 2>/dev/null; do sleep 0.05; done
ls "$FOLDER" >> "$LOG"
mv "$FOLDER/first" "$FOLDER/scratch\""""
    code, log = run_script(tmp_path, driver, srun=srun, ray=ray)
    assert code == 0
    assert "mode 700" in log and "the node ends" in log
    assert "scratch" not in log.partition("the node ends")[2].split()


def test_files_that_several_accounts_share_have_the_account_s_own_mode(tmp_path: Path) -> None:
    ray = '[[ $* != *get-auth-token* ]] || umask >> "$LOG"'
    code, log = run_script(tmp_path, 'echo "driver $(umask)" >> "$LOG"', ray=ray)
    told = log.split()
    assert code == 0 and told[0] == "0077"
    assert told[told.index("driver") + 1] != "0077"


@pytest.mark.parametrize(
    ("known", "address"),
    [
        ("127.0.1.1 STREAM node1\n10.1.0.7 STREAM\n10.1.0.7 DGRAM", "10.1.0.7"),
        ("127.0.1.1 STREAM node1", "10.0.0.1"),
        ("", "10.0.0.1"),
    ],
    ids=["by name", "to itself only", "unknown"],
)
def test_the_first_machine_has_the_address_that_its_name_leads_to(
    known: str, address: str, tmp_path: Path
) -> None:
    lines = "; ".join(f"echo {line}" for line in known.splitlines())
    getent = f'[[ $* == "ahostsv4 node1" ]] && {{ {lines}; }}' if known else "exit 2"
    code, log = run_script(tmp_path, 'echo "started $*" >> "$LOG"', getent=getent)
    assert code == 0
    assert (
        f"--node-ip-address={address} " in log
        and f"started -m cluster.keeper run demo --name demo --address {address}:" in log
    )


def test_a_job_that_is_told_twice_tells_its_driver_once(tmp_path: Path) -> None:
    code, log = run_script(tmp_path, DRIVER, signals=3)
    assert code == 130
    assert log.count("SIGTERM came") == 1
    assert "scontrol requeue 17" in log


def test_keeper_and_driver_are_told_together(tmp_path: Path) -> None:
    """As they are processes of one group: a keeper passes nothing on."""
    keeper = f"""
trap : TERM
bash -c {shlex.quote(DRIVER)} & driver=$!
wait $driver; while kill -0 $driver 2>/dev/null; do wait $driver; done
wait $driver; echo "keeper after $?" >> "$LOG"; exit 130"""
    code, log = run_script(tmp_path, keeper, signals=1)
    assert code == 130
    assert log.index("committed") < log.index("keeper after 130") < log.index("requeue")


def test_a_job_that_is_told_while_ray_is_being_started_begins_nothing_and_is_requeued(tmp_path: Path) -> None:
    ray = 'echo "started ray $*" >> "$LOG"; [[ $* != *--head* ]] || sleep 0.5'
    code, log = run_script(tmp_path, 'echo "driver" >> "$LOG"', signals=1, ray=ray)
    assert code == 143
    assert "driver" not in log
    assert "scontrol requeue 17" in log


NOT_THE_FIRST_TIME = """[[ -e "$FOLDER/${0##*/}" ]] || { touch "$FOLDER/${0##*/}"; exit 1; }"""


def test_a_controller_that_is_away_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    away = {name: f"{NOT_THE_FIRST_TIME}\n{FAKES[name]}" for name in ("squeue", "scontrol")}
    code, log = run_script(tmp_path, DRIVER, signals=1, sleep=f"{shutil.which('sleep')} 0.05", **away)
    assert code == 130
    assert log.count("scontrol requeue 17") == 1
    assert (tmp_path / "squeue").exists() and (tmp_path / "scontrol").exists()


def test_a_job_that_was_cancelled_stays_cancelled_when_the_controller_says_so_later(tmp_path: Path) -> None:
    squeue = f"{NOT_THE_FIRST_TIME}\n{FAKES['squeue']}"
    sleep = f"{shutil.which('sleep')} 0.05"
    code, log = run_script(tmp_path, DRIVER, signals=1, state="COMPLETING", sleep=sleep, squeue=squeue)
    assert code == 130
    assert "requeue" not in log


def test_what_runs_in_a_job_knows_that_it_is_alone(tmp_path: Path) -> None:
    told = 'echo "$SWEEP_UNATTENDED $RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S" >> "$LOG"'
    code, log = run_script(tmp_path, told, ray="exit 0", srun=told)
    assert code == 0
    assert log.splitlines() == ["1 0", "1 0"], "the machines and the driver"


def test_a_job_that_was_cancelled_stays_cancelled(tmp_path: Path) -> None:
    code, log = run_script(tmp_path, DRIVER, signals=1, state="COMPLETING")
    assert code == 130
    assert "committed" in log
    assert "requeue" not in log


def test_a_job_whose_driver_came_to_its_end_when_told_is_not_requeued(tmp_path: Path) -> None:
    driver = """trap 'exit 0' TERM\necho started >> "$LOG"\nwhile :; do sleep 0.05; done"""
    code, log = run_script(tmp_path, driver, signals=1)
    assert code == 0
    assert "requeue" not in log


@pytest.mark.parametrize("code", [0, 1, 130])
def test_a_job_that_ends_by_itself_has_the_driver_s_code_and_is_not_requeued(
    tmp_path: Path, code: int
) -> None:
    found, log = run_script(tmp_path, f'echo "started $*" >> "$LOG"; exit {code}')
    assert found == code
    assert "requeue" not in log


def test_a_site_s_modules_may_read_variables_that_are_not_set(tmp_path: Path) -> None:
    setup = ("[[ -z $NEVER_SET ]]", "export SITE=$NEVER_SET_EITHER")
    spec = PLAIN.model_copy(update={"slurm": PLAIN.slurm.model_copy(update={"setup": setup})})
    assert run_script(tmp_path, "exit 0", spec=spec)[0] == 0


def test_quotes_survive(tmp_path: Path) -> None:
    script = batch_script(GPUS, name="it's mine", space="my spaces/mine.yaml")
    assert (
        "python -m cluster.keeper run 'my spaces/mine.yaml' --name 'it'\"'\"'s mine' --gpus-per-trial 1"
        in script
    )
