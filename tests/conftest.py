"""What holds for every test: one thread for torch, as in a trial, whatever the machine has."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)
