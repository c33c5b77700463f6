"""docker-compose.yml: whole, pinned, closed; and the secrets that it wants are those that are written."""

import json
import lzma
import os
import re
import stat
from pathlib import Path

import jsonschema
import pytest
import yaml

from cluster.secrets import (
    ADDRESS,
    LOGIN,
    RECORD,
    fresh_environment,
    log_in,
    read_environment,
    write_environment,
)
from sweep.run_options import RunOptions
from tests.integration.cluster.compose import FILE, ROOT, document, services
from trainers.errors import ConfigError

ENVIRONMENT = dict(fresh_environment())
LONG_RUNNING = sorted(services(ENVIRONMENT))


def compose_schema() -> jsonschema.Draft7Validator:
    text = lzma.decompress((Path(__file__).parent / "schemas" / "compose-spec.json.xz").read_bytes())
    return jsonschema.Draft7Validator(json.loads(text))


def test_the_file_passes_the_schema_of_compose() -> None:
    schema = compose_schema()
    schema.validate(document())
    wrong = document()
    wrong["services"]["head"]["restarts"] = "always"
    assert not schema.is_valid(wrong), "what it does not know is refused"


def test_every_variable_is_written_by_init_and_every_secret_is_used() -> None:
    text = FILE.read_text()
    # Those with a value of their own are wishes of the user's.
    wanted = set(re.findall(r"\$\{(\w+)(?!\w|:-)", text))
    wanted |= {one["environment"] for one in document()["secrets"].values()}
    assert wanted <= set(ENVIRONMENT)
    for_users_and_compose = {"COMPOSE_PROFILES", ADDRESS, "RAY_AUTH_MODE", "MLFLOW_TRACKING_URI"}
    assert set(ENVIRONMENT) - wanted == for_users_and_compose


def test_no_secret_stands_in_the_file() -> None:
    for line in FILE.read_text().splitlines():
        if re.search(r"(PASSWORD|SECRET|ACCESS_KEY)\w*: ", line):
            assert re.search(r": \$\{\w+:\?.*\}$", line), line


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_services_are_pinned_watched_and_restarted(name: str) -> None:
    service = services(ENVIRONMENT)[name]
    tag = service.image.partition(":")[2]
    assert re.search(r"\d+\.\d+", tag), f"{service.image} is not pinned"
    assert service.values["restart"] == "unless-stopped"
    assert service.values["networks"] == ["cluster"]
    assert {"test", "interval", "timeout", "retries", "start_period"} == set(service.values["healthcheck"])
    assert service.values.get("privileged", False) is False


def test_one_service_builds_the_image_for_all_and_no_registry_is_asked_for_it() -> None:
    ours = [one.values for one in services(ENVIRONMENT).values() if one.image.startswith("sharpflat:")]
    builders = [one for one in ours if "build" in one]
    assert [one["pull_policy"] for one in builders] == ["build"]
    assert {one["pull_policy"] for one in ours if one not in builders} == {"never"}
    assert "profiles" not in builders[0], "it is always among what `docker compose up` starts"


def test_the_image_is_built_from_the_index_that_env_names_also_by_up() -> None:
    for wish, index in (({}, ""), ({"PIP_INDEX_URL": "https://here/simple"}, "https://here/simple")):
        (builder,) = [one for one in services(ENVIRONMENT | wish).values() if "build" in one.values]
        assert builder.values["build"]["args"] == {"PIP_INDEX_URL": index}
    assert "ARG PIP_INDEX_URL\n" in (ROOT / "cluster" / "Dockerfile").read_text()


def test_workers_share_the_cpus_as_they_are_told() -> None:
    for wish, cpus in (({}, "0"), ({"WORKER_CPUS": "4"}, "4")):
        found = services(ENVIRONMENT | wish)
        assert {found[name].values["cpus"] for name in ("worker", "worker-gpu")} == {cpus}
        assert "cpus" not in found["head"].values


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_nothing_is_published_beyond_this_machine(name: str) -> None:
    service = services(ENVIRONMENT)[name]
    assert all(port.startswith("127.0.0.1:") for port in service.published)
    if name in ("database", "storage"):
        assert not service.published
    assert service.values.get("network_mode") is None


def test_the_tls_of_the_documentation_fits_the_file() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    text = page.partition("### TLS")[2].partition("```yaml\n")[2].partition("```")[0]
    override, found = yaml.safe_load(text), services(ENVIRONMENT)
    compose_schema().validate(override)
    assert set(override["services"]) - set(found) == {"tls"}
    assert not any("ports" in override["services"].get(name, ()) for name in found)
    proxied = re.findall(r"reverse_proxy (\w+):(\d+)", override["configs"]["caddy"]["content"])
    assert set(proxied) == {("mlflow", "5000"), ("head", "8265")}
    (known,) = re.findall(r"header_up Host (\S+)", text)
    (allowed,) = [word for word in found["mlflow"].command if word.startswith("--allowed-hosts=")]
    assert known in allowed.partition("=")[2].split(",")
    origin = override["services"]["mlflow"]["environment"]["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"]
    assert f"{origin.removeprefix('https://')} {{" in text


@pytest.mark.parametrize("name", ["head", "worker", "worker-gpu"])
def test_ray_wants_a_token_on_every_node(name: str) -> None:
    service = services(ENVIRONMENT)[name]
    assert service.environment["RAY_AUTH_MODE"] == "token"
    path = service.environment["RAY_AUTH_TOKEN_PATH"]
    assert service.files[path] == ENVIRONMENT["RAY_AUTH_TOKEN"]


@pytest.mark.parametrize("name", ["head", "worker", "worker-gpu"])
def test_a_node_s_health_is_its_own(name: str) -> None:
    asked = " ".join(services(ENVIRONMENT)[name].health)
    assert "http://127.0.0.1:52365/api/healthz" in asked, "its agent's, which knows of its node"
    assert ("http://127.0.0.1:8265/api/gcs_healthz" in asked) == (name == "head"), "and what takes the jobs"


def test_health_checks_use_what_the_images_have() -> None:
    found = {name: service.health[0] for name, service in services(ENVIRONMENT).items()}
    assert found.pop("database") == "pg_isready"
    assert found.pop("storage") == "/garage", "there is nothing else in the image"
    assert set(found.values()) == {"python"}
    # A server that the image's entry point ends again listens on a socket only.
    assert "--host=127.0.0.1" in services(ENVIRONMENT)["database"].health


def test_keys_have_the_form_that_every_garage_takes() -> None:
    assert re.fullmatch(r"GK[0-9a-f]{24}", ENVIRONMENT["S3_ACCESS_KEY"])
    assert re.fullmatch(r"[0-9a-f]{64}", ENVIRONMENT["S3_SECRET_KEY"])


@pytest.mark.parametrize("name", ["head", "worker", "worker-gpu"])
def test_a_node_that_is_told_to_end_has_time_for_a_checkpoint(name: str) -> None:
    service = services(ENVIRONMENT)[name]
    drain = float(service.environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    grace = float(service.values["stop_grace_period"].removesuffix("s"))
    assert RunOptions(name="any").commit_seconds < drain < grace


def test_the_two_kinds_of_worker_differ_in_their_gpus_only() -> None:
    found = services(ENVIRONMENT)
    cpu, gpu = dict(found["worker"].values), dict(found["worker-gpu"].values)
    assert cpu.pop("profiles") == ["cpu"]
    assert gpu.pop("profiles") == ["gpu"]
    assert gpu.pop("deploy")["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert cpu == gpu


def test_named_volumes_are_declared_and_used() -> None:
    used = {
        volume.partition(":")[0]
        for one in document()["services"].values()
        for volume in one.get("volumes", ())
    }
    assert used == set(document()["volumes"])


def test_the_image_is_built_from_what_is_there_and_runs_as_nobody_special() -> None:
    dockerfile = (ROOT / "cluster" / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            allowed = (ROOT / ".dockerignore").read_text().splitlines()
            assert f"!{source.rstrip('/')}" in allowed, f"{source} is kept out by .dockerignore"
    assert dockerfile.count("FROM ") == 2
    assert "--constraint constraints.txt" in dockerfile
    assert re.search(r"^USER (?!root)\w+$", dockerfile, re.MULTILINE)


def test_secrets_are_for_their_owner_and_never_overwritten(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = write_environment(tmp_path, ENVIRONMENT)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_environment(path) == ENVIRONMENT
    with pytest.raises(ConfigError, match="stays as it is"):
        write_environment(tmp_path, dict(fresh_environment()))
    assert read_environment(path) == ENVIRONMENT


def test_secrets_are_new_every_time() -> None:
    again = fresh_environment()
    secret = {key for key in ENVIRONMENT if ENVIRONMENT[key] != again[key]}
    assert secret == {
        "GARAGE_RPC_SECRET",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
        "MLFLOW_TRACKING_PASSWORD",
        "POSTGRES_PASSWORD",
        "RAY_AUTH_TOKEN",
        "S3_ACCESS_KEY",
        "S3_SECRET_KEY",
    }


@pytest.fixture
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*LOGIN, "RAY_AUTH_TOKEN_PATH", *RECORD):
        # Set first, so that what the code under test sets is taken back too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_login")
def test_the_token_goes_to_the_cluster_that_it_is_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--address: found none"):
        log_in(None, tmp_path)
    write_environment(tmp_path, ENVIRONMENT)
    assert log_in("http://elsewhere:8265", tmp_path) == "http://elsewhere:8265"
    assert not {"RAY_AUTH_TOKEN", *RECORD} & set(os.environ), "not for a cluster elsewhere"
    assert log_in(None, tmp_path) == ENVIRONMENT[ADDRESS]
    assert os.environ["RAY_AUTH_TOKEN"] == ENVIRONMENT["RAY_AUTH_TOKEN"]
    assert {name: os.environ[name] for name in RECORD} == {name: ENVIRONMENT[name] for name in RECORD}


@pytest.mark.usefixtures("no_login")
def test_what_a_user_has_set_counts_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_environment(tmp_path, ENVIRONMENT)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mine")
    log_in(None, tmp_path)
    assert os.environ["RAY_AUTH_TOKEN"] == "mine"
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://mine"
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ, "it is another MLflow's"
