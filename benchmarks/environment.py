"""Where a measurement was made, and where its numbers are kept."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("torch", "triton", "numpy", "scipy", "ray", "mlflow", "optuna", "pyarrow", "sqlalchemy"),
    *("curvlinops-for-pytorch", "hessian-eigenthings"),
)


def describe() -> dict[str, Any]:
    """Return commit, versions, processor, cores, load and date."""
    root = Path(__file__).parents[1]
    # Where files were copied to, the repository may be at another commit: then it is told.
    commit, changed = os.environ.get("BENCHMARK_COMMIT", ""), ""
    if not commit:
        commit, changed = _git(root, "rev-parse", "HEAD").strip(), _git(root, "status", "--porcelain")
    return {
        "commit": commit,
        "changed_files": [line[3:] for line in changed.splitlines() if not line.startswith("??")],
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "processor": _processor(),
        "cores": os.cpu_count(),
        "openblas_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
        "load": os.getloadavg(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _git(root: Path, *command: str) -> str:
    try:
        return subprocess.run(["git", *command], cwd=root, capture_output=True, text=True).stdout
    except FileNotFoundError:
        return ""


def write_results(name: str, values: Mapping[str, Any]) -> Path:
    """Write a benchmark's numbers as JSON."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(values, indent=1) + "\n")
    print(path)
    return path


def read_results(name: str) -> dict[str, Any]:
    """Return a benchmark's numbers so far; empty where there are none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
