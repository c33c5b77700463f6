"""What holds for every test: one thread for torch, so that bits and times do not depend on the machine's load."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)
