"""Findings on planted faults: each is found where it is, with what to do, and nothing else is."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests
import torch

from cluster.doctor.checkup import HEALTHY, ILL, report
from cluster.doctor.judgement import CLOCK_SKEW_SECONDS, MLFLOW_SLOW_SECONDS, judge
from cluster.doctor.node import Facts, clean_up, look, marks
from cluster.doctor.node import _gpus as usable_gpus
from cluster.doctor.survey import ask_this_machine

NODES = ("head", "worker-1", "worker-2")
WELL = [
    Facts(
        node=name,
        versions={"ray": "2.60.0", "torch": "2.15.0"},
        gpus=1,
        ray_gpus=1.0,
        mlflow_seconds=0.02,
        marks_seen=NODES,
    )
    for name in NODES
]


def test_a_healthy_cluster_has_nothing_to_be_seen_to() -> None:
    findings = judge(WELL)
    assert all(finding.good for finding in findings)
    assert {finding.check for finding in findings} == {
        "nodes",
        "versions",
        "storage",
        "mlflow",
        "gpus",
        "clocks",
        "ports",
    }
    assert report(findings, lambda line: None) == HEALTHY


FAULTS = {
    "nodes": ({"silence": "GetTimeoutError"}, "worker-1 does not answer: GetTimeoutError"),
    "versions": (
        {"versions": {"ray": "2.60.0", "torch": "2.14.0"}},
        "torch: 2.15.0 on head, worker-2; 2.14.0 on",
    ),
    "storage not writable": ({"storage_problem": "permission denied"}, "permission denied"),
    "storage not shared": ({"marks_seen": ("worker-1",)}, "does not see what head, worker-2 wrote"),
    "mlflow away": ({"mlflow_problem": "http://mlflow:5000: ConnectionError"}, "ConnectionError"),
    "mlflow slow": ({"mlflow_seconds": 2 * MLFLOW_SLOW_SECONDS}, "500 ms"),
    "mlflow open": ({"mlflow_open": True}, "without a login"),
    "gpus": ({"gpus": 0}, "Ray gives out 1 GPUs, torch can use 0"),
    "clocks": ({"clock_offset": -2 * CLOCK_SKEW_SECONDS}, "4.0 s behind"),
    "ports": ({"open_ports": ("http://head:8265",)}, "http://head:8265 runs code for whoever reaches it"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_where_it_is(fault: str) -> None:
    changes, told = FAULTS[fault]
    nodes = [WELL[0], replace(WELL[1], **changes), WELL[2]]
    bad = [finding for finding in judge(nodes) if not finding.good]
    assert len(bad) == 1
    assert bad[0].check == fault.split()[0]
    assert told in bad[0].what
    assert bad[0].what.startswith("anybody") or "worker-1" in bad[0].what
    lines: list[str] = []
    assert report(judge(nodes), lines.append) == ILL
    assert bad[0].advice and f"     -> {bad[0].advice}" in lines
    assert lines[-1] == "1 to be seen to"


def test_a_clock_that_is_not_known_exactly_is_not_blamed() -> None:
    unsure = replace(WELL[1], clock_offset=3 * CLOCK_SKEW_SECONDS, clock_uncertainty=3 * CLOCK_SKEW_SECONDS)
    assert all(finding.good for finding in judge([WELL[0], unsure]))


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        wants_login = self.path.startswith("/api/2.0") and self.server.closed  # type: ignore[attr-defined]
        time.sleep(self.server.seconds)  # type: ignore[attr-defined]
        self.send_response(401 if wants_login and "Authorization" not in self.headers else 200)
        self.end_headers()
        self.wfile.write(self.server.body)  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), _Handler)
    made.closed = True  # type: ignore[attr-defined]
    made.seconds = 0.0  # type: ignore[attr-defined]
    made.body = b"{}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def examined(tmp_path: Path, uri: str, **changes: object) -> Facts:
    arguments = {"tracking_uri": uri, "storage": str(tmp_path / "store"), "token": "t", "doors": ()}
    return look("here", **{**arguments, **changes})  # type: ignore[arg-type]


def test_a_node_looks_for_itself(tmp_path: Path, server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    url = f"http://127.0.0.1:{server.server_port}"
    closed = url + "/api/2.0/mlflow/experiments/search"
    facts = examined(tmp_path, url, doors=[f"{url}/api/version", closed])
    assert facts.storage_problem is None
    assert facts.mlflow_problem is None
    assert facts.mlflow_seconds is not None
    assert not facts.mlflow_open
    assert facts.open_ports == [url], "it serves /api/version to anybody"
    assert facts.versions["ray"] == "2.60.0" or facts.versions["ray"][0].isdigit()
    store = str(tmp_path / "store")
    assert marks(store, "t", ["here", "elsewhere"]) == ["here"]
    assert marks(store, "another examination", ["here"]) == []
    clean_up(store, "t")
    assert marks(store, "t", ["here"]) == []


def test_what_is_listed_and_cannot_be_read_is_not_shared(tmp_path: Path) -> None:
    folder = tmp_path / "doctor" / "t"
    (folder / "other").mkdir(parents=True)
    (folder / "here").write_text("here")
    assert marks(str(tmp_path), "t", ["other", "here"]) == ["here"]


def test_a_store_that_does_not_answer_holds_nothing_up(
    tmp_path: Path, server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr("cluster.doctor.node._leave_mark", lambda *_: over.wait(60) and None)
    monkeypatch.setattr("cluster.doctor.node.STORE_SECONDS", 0.05)
    facts = examined(tmp_path, f"http://127.0.0.1:{server.server_port}")
    over.set()
    assert facts.storage_problem == "no answer within 0.05 s"
    assert facts.mlflow_problem is not None, "what else there is was looked at"


def test_gpus_that_nothing_runs_on_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def ones(size: int, *, device: str) -> torch.Tensor:
        if device == "cuda:1":
            raise RuntimeError("the NVIDIA driver on your system is too old")
        return torch.zeros(size)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch, "ones", ones)
    assert usable_gpus() == 2


def test_devices_without_a_torch_that_can_use_them_are_a_fault(
    tmp_path: Path, server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr("cluster.doctor.node.DEVICES", tmp_path)
    monkeypatch.setattr("cluster.doctor.node._gpus", lambda: 0)
    facts = examined(tmp_path, f"http://127.0.0.1:{server.server_port}")
    (finding,) = [one for one in judge([facts]) if one.check == "gpus"]
    assert not finding.good and finding.what == "here: 2 GPUs are there, torch can use none"
    assert finding.advice


def test_a_cluster_without_gpus_says_where_they_would_come_from() -> None:
    without = [replace(one, gpus=0, ray_gpus=0.0) for one in WELL]
    (finding,) = [one for one in judge(without) if one.check == "gpus"]
    assert finding.good, "it is no fault"
    assert "docs/cluster.md" in finding.what


@pytest.mark.parametrize(
    ("uri", "is_open"),
    [
        ("http://localhost:5000", False),
        ("http://localhost", False),
        ("http://[::1]:5000/mlflow", False),
        ("http://user@127.0.0.1:5000", False),
        ("http://192.0.2.7:5000", True),
        ("http://[2001:db8::7]", True),
    ],
)
def test_an_mlflow_without_a_login_matters_where_others_reach_it(
    uri: str, is_open: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = requests.Response()
    answer.status_code = 200
    monkeypatch.setattr(requests.Session, "get", lambda *_, **__: answer)
    monkeypatch.setattr(requests, "get", lambda *_, **__: answer)
    assert examined(tmp_path, uri).mlflow_open is is_open


@pytest.mark.parametrize(("body", "is_ray"), [(b'{"authentication_mode": "disabled"}', True), (b"{}", False)])
def test_a_ray_that_somebody_started_on_this_machine_is_found(
    tmp_path: Path, server: HTTPServer, monkeypatch: pytest.MonkeyPatch, body: bytes, is_ray: bool
) -> None:
    server.body = body  # type: ignore[attr-defined]
    monkeypatch.setattr("cluster.doctor.survey.DASHBOARD_PORT", server.server_port)
    # The port `discard`, where nothing answers.
    monkeypatch.setattr("cluster.doctor.survey.AGENT_PORT", 9)
    place = {"tracking_uri": f"sqlite:///{tmp_path}/none.db", "storage": str(tmp_path / "store")}
    (facts,) = ask_this_machine(**place)
    found = [f"http://127.0.0.1:{server.server_port}"]
    assert facts.open_ports == (found if is_ray else []), "anything may listen there"
    assert facts.storage_problem is None and facts.marks_seen == [facts.node]


def test_a_login_that_is_refused_and_a_server_that_is_away_are_told_apart(
    tmp_path: Path, server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    refused = examined(tmp_path, f"http://127.0.0.1:{server.server_port}")
    assert refused.mlflow_problem is not None and "401" in refused.mlflow_problem
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = examined(tmp_path, f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert away.mlflow_problem is not None and "ConnectionError" in away.mlflow_problem


def test_a_server_that_takes_its_time_is_slow(
    tmp_path: Path, server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setattr("cluster.doctor.node.MLFLOW_REQUESTS", 1)
    server.seconds = 1.1 * MLFLOW_SLOW_SECONDS  # type: ignore[attr-defined]
    facts = examined(tmp_path, f"http://127.0.0.1:{server.server_port}")
    slow = [one.what for one in judge([facts]) if one.check == "mlflow" and not one.good]
    assert len(slow) == 1 and "here: a request takes" in slow[0]


def test_a_store_that_cannot_be_written_is_a_problem(tmp_path: Path, server: HTTPServer) -> None:
    (tmp_path / "store").write_text("a file in the way")
    assert examined(tmp_path, f"http://127.0.0.1:{server.server_port}").storage_problem is not None
    clean_up(str(tmp_path / "store"), "t")
    assert (tmp_path / "store").read_text() == "a file in the way"
