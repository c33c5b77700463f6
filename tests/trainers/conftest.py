"""The contract suites of the models on a model of your own: `--model my_model.py --input-shape 3,8,8`."""

import os

import pytest
import torch

from tests.trainers.models_small import TOKENS, YOURS, case_names

collect_ignore = [] if torch.cuda.is_available() or "TRITON_INTERPRET" in os.environ else ["kernels"]
"""Triton decides when it is imported whether it interprets: those tests want a process of their own."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("a model of your own")
    group.addoption("--model", metavar="FILE", help="a file whose build(input_shape, num_outputs) is tried")
    group.addoption("--input-shape", metavar="N,N,N", help="shape of one small example, such as 3,8,8")
    group.addoption("--tokens", metavar="N", type=int, help="its inputs are token numbers below N")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--model", None):
        if not (shape := config.getoption("--input-shape", None)):
            raise pytest.UsageError("--model needs --input-shape, such as 3,8,8.")
        YOURS["your own"] = ({"path": path}, tuple(int(size) for size in shape.split(",")))
        if tokens := config.getoption("--tokens", None):
            TOKENS["your own"] = tokens


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", case_names(), indirect=True)
