"""The programs for a GPU, interpreted on the host in a process of their own where there is no GPU."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent / "kernels"
SLOW = [HERE / "test_serving.py", HERE / "test_small.py"]
PARTS = {
    "most": [str(file) for file in sorted(HERE.glob("test_*.py")) if file not in SLOW],
    "slow": [str(file) for file in SLOW],
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU tests/trainers/kernels runs by itself")
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("part", PARTS)
def test_the_programs_in_the_interpreter(part: str) -> None:
    files = PARTS[part]
    command = [sys.executable, "-m", "pytest", *files, "-q", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, timeout=280)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
