"""The clusters whose files are kept under golden/, and how to write them again.

python -m tests.cluster.clusters
"""

from collections.abc import Mapping
from pathlib import Path

from cluster.kuberay import ray_cluster, ray_job
from cluster.ray_up import on_cloud, on_premise
from cluster.slurm import batch_script
from cluster.spec import ClusterSpec, OnPremise, Slurm, Workers

GOLDEN = Path(__file__).parent / "golden"

PLAIN = ClusterSpec()
GPUS = ClusterSpec(
    name="gpus",
    workers=(
        Workers(
            name="gpu-workers",
            min_nodes=0,
            max_nodes=8,
            cpus=16,
            memory_gib=64,
            gpus=4,
            node_selector={"accelerator": "h200"},
            instance_type="g6.12xlarge",
            spot=True,
        ),
        Workers(name="cpu-workers"),
    ),
    slurm=Slurm(
        partition="gpu",
        account="lab-7",
        grace_seconds=300,
        setup=("module load python", "source env/bin/activate"),
    ),
)
GIVEN = ClusterSpec(on_premise=OnPremise(head="10.0.0.10", workers=("10.0.0.11", "10.0.0.12")))
SPACE_TEXT = "name: mine\naxes:\n  lr: [0.1, 0.2]\n"


def files() -> Mapping[str, str]:
    """Return every golden file's name and what it should hold."""
    return {
        "ray-cluster.yaml": ray_cluster(PLAIN),
        "ray-cluster-gpus.yaml": ray_cluster(GPUS),
        "ray-job.yaml": ray_job(PLAIN, name="demo", space="demo"),
        "ray-job-space.yaml": ray_job(GPUS, name="mine", space="mine.yaml", space_text=SPACE_TEXT),
        "sweep.sbatch": batch_script(PLAIN, name="demo", space="demo"),
        "sweep-gpus.sbatch": batch_script(GPUS, name="it's mine", space="my spaces/mine.yaml"),
        "ray-up-cloud.yaml": on_cloud(PLAIN),
        "ray-up-cloud-gpus.yaml": on_cloud(GPUS),
        "ray-up-on-premise.yaml": on_premise(GIVEN),
    }


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, text in files().items():
        (GOLDEN / name).write_text(text)
