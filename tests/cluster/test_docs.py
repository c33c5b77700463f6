"""The page on clusters: what it says of a spec is rendered as it says, by the commands that it has."""

import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from pyarrow import fs

from cluster.spec import ClusterSpec, load_spec
from sweep.cli import main
from tests.pages import DOCS, examples

PAGE = DOCS / "cluster.md"
SPECS = {text.split()[1]: text for text in examples(PAGE) if text.startswith("# ")}
"""The specs of the page by the names in their first lines."""

RENDERED = re.findall(r"^sweep cluster render (\S+) --spec (\S+)(.*?)(?: [|>] .*)?$", PAGE.read_text(), re.M)
"""What the page renders with a spec: the kind of cluster, the spec, and what else is typed."""

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}


def spec_of(folder: Path, name: str) -> ClusterSpec:
    (folder / name).write_text(SPECS[name])
    return load_spec(folder / name)


def rendered(folder: Path, kind: str, name: str, more: str, capsys: pytest.CaptureFixture[str]) -> str:
    (folder / name).write_text(SPECS[name])
    with pytest.raises(SystemExit) as ended:
        main(["cluster", "render", kind, "--spec", str(folder / name), *shlex.split(more)])
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown.err
    return shown.out


def test_every_kind_has_a_spec_and_every_spec_a_kind() -> None:
    assert {kind for kind, _, _ in RENDERED} == {
        "rayjob",
        "raycluster",
        "slurm",
        "ray-up-cloud",
        "ray-up-on-premise",
    }
    assert {name for _, name, _ in RENDERED} == set(SPECS)


@pytest.mark.parametrize(("kind", "name", "more"), RENDERED)
def test_what_the_page_renders_is_rendered_from_its_specs(
    kind: str, name: str, more: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = spec_of(tmp_path, name)
    text = rendered(tmp_path, kind, name, more, capsys)
    assert spec.tracking_uri in text and spec.storage in text
    if kind.startswith("ray-up"):
        schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
        jsonschema.validate(yaml.safe_load(text), schema)


def test_the_cloud_of_the_page_has_gpus_where_ray_counts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((kind, name, more),) = [one for one in RENDERED if one[0] == "ray-up-cloud"]
    types = yaml.safe_load(rendered(tmp_path, kind, name, more, capsys))["available_node_types"]
    with_gpus = [one for one in types.values() if one["resources"].get("GPU")]
    assert with_gpus and all(one["node_config"]["InstanceType"].startswith("g") for one in with_gpus)


def test_the_machines_of_the_page_are_those_that_ray_goes_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((kind, name, more),) = [one for one in RENDERED if one[0] == "ray-up-on-premise"]
    place = spec_of(tmp_path, name).on_premise
    found = yaml.safe_load(rendered(tmp_path, kind, name, more, capsys))
    assert found["provider"] == {
        "type": "local",
        "head_ip": place.head,
        "worker_ips": list(place.workers),
    }


def test_the_job_of_the_page_asks_slurm_for_what_its_spec_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, name, more = next(one for one in RENDERED if one[0] == "slurm")
    slurm = spec_of(tmp_path, name).slurm
    text = rendered(tmp_path, kind, name, more, capsys)
    for line in (
        f"--partition={slurm.partition}",
        f"--account={slurm.account}",
        f"--time={slurm.time_limit}",
        f"--signal=B:TERM@{slurm.grace_seconds}",
    ):
        assert f"#SBATCH {line}\n" in text and "None" not in line


@pytest.mark.parametrize("kind", ["rayjob", "slurm"])
def test_trials_have_a_gpu_where_the_page_says_so(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, name, more = next(one for one in RENDERED if one[0] == kind)
    workers = spec_of(tmp_path, name).workers
    assert workers[0].gpus
    text = " ".join(rendered(tmp_path, kind, name, more, capsys).split())
    assert "--gpus-per-trial 1" in text


def test_stores_of_the_page_are_what_pyarrow_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    # Those of AWS are asked for their region, which takes a network.
    fragments = [yaml.safe_load(text) for text in examples(PAGE) if text.startswith("storage:")]
    stores = [store for name in SPECS if "?" in (store := spec_of(tmp_path, name).storage)]
    assert stores and fragments
    for store in [*stores, *(one["storage"] for one in fragments)]:
        opened, path = fs.FileSystem.from_uri(store)
        assert isinstance(opened, fs.S3FileSystem) and store.startswith(f"s3://{path}?")
