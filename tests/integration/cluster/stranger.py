"""What somebody without any key meets at ports of a cluster; a script of its own, run on one of its hosts.

python stranger.py '{"head": [6379, 8265]}'    prints what each port is, as JSON: {"head:6379": "key"}

| kind | what it does |
| --- | --- |
| key | refuses every call that runs code, gRPC or HTTP: Ray without its token, MLflow without a login |
| metrics | gives out Prometheus's numbers and does nothing else |
| password | PostgreSQL's: refuses who has none, and who has a wrong one |
| open | serves what it should not, with what it was |
| unknown | none of these |
"""

import json
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import psycopg2

SECONDS = 10
METHODS = (
    "NodeInfoGcsService/GetAllNodeInfo",
    "JobInfoGcsService/GetAllJobInfo",
    "NodeManagerService/GetNodeStats",
    "CoreWorkerService/GetCoreWorkerStats",
    "ObjectManagerService/Pull",
    "LogService/ListLogs",
    "RayletDriver/ClusterInfo",
)
"""One or more of every gRPC server of Ray."""

POSTS = ("/api/jobs/", "/api/job_agent/jobs/", "/get_or_create_runtime_env")
"""Of Ray's HTTP servers: what runs code."""


def kind_of(address: tuple[str, int]) -> str:
    """Return what a port is to a stranger."""
    asked = {path: ask(address, path, b'{"entrypoint": "id"}') for path in POSTS}
    answers = {path: answer for path, answer in asked.items() if answer is not None}
    if not answers:
        return kind_of_grpc(address)
    codes = {path: code for path, (code, _) in answers.items()}
    if set(codes.values()) == {401} and len(codes) == len(POSTS):
        return "key"
    if set(codes.values()) <= {404, 405}:
        numbers = ask(address, "/metrics")
        return "metrics" if numbers is not None and numbers[1].startswith(b"# HELP") else "unknown"
    return f"open: {codes}"


def ask(address: tuple[str, int], path: str, data: bytes | None = None) -> tuple[int, bytes] | None:
    """Return status and first bytes of an answer, `None` where nobody speaks HTTP."""
    host, port = address
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{host}:{port}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.read(64)
    except urllib.error.HTTPError as error:
        return error.code, error.read(64)
    except (OSError, ValueError, urllib.error.URLError, urllib.request.http.client.HTTPException):
        return None


def kind_of_grpc(address: tuple[str, int]) -> str:
    """Return what a port is that does not speak HTTP/1."""
    host, port = address
    codes: dict[str, str] = {}
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for method in METHODS:
            call = channel.unary_unary(f"/ray.rpc.{method}", _same, _same)
            try:
                call(b"", timeout=SECONDS)
                return f"open: {method}"
            except grpc.RpcError as error:
                codes[method] = error.code().name
                if codes[method] == "UNAVAILABLE":
                    break
    if "UNAUTHENTICATED" in codes.values():
        return "key" if set(codes.values()) <= {"UNAUTHENTICATED", "UNIMPLEMENTED"} else f"open: {codes}"
    return kind_of_database(address)


def kind_of_database(address: tuple[str, int]) -> str:
    """Return whether a port is PostgreSQL's, and asks for a password."""
    told: list[str] = []
    for password in ({}, {"password": "wrong"}):
        try:
            psycopg2.connect(
                host=address[0], port=address[1], user="mlflow", connect_timeout=SECONDS, **password
            )
            return "open: PostgreSQL"
        except psycopg2.OperationalError as error:
            told.append(str(error))
    wanted = ("no password supplied", "password authentication failed")
    return "password" if all(word in one for word, one in zip(wanted, told, strict=True)) else "unknown"


def _same(data: bytes) -> bytes:
    return data


if __name__ == "__main__":
    ports = [(host, port) for host, found in json.loads(sys.argv[1]).items() for port in found]
    with ThreadPoolExecutor(8) as pool:
        kinds = dict(zip((f"{host}:{port}" for host, port in ports), pool.map(kind_of, ports), strict=True))
    print(json.dumps(kinds))
