"""Random numbers as a function of (seed, purpose, counter): nothing about a generator has to be saved."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

from trainers.errors import ConfigError


def derived_seed(seed: int, purpose: str, counter: int = 0) -> int:
    """Return a 63-bit seed that depends on all three arguments."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{counter}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, counter: int = 0) -> torch.Generator:
    """Return a CPU generator for one draw; results are moved to the device, so devices agree."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, counter))


@contextmanager
def global_draws(seed: int, purpose: str) -> Generator[None]:
    """Let what draws from torch's global generator, as layers do when they are made, draw from such a seed.

    The generator is then left as it was.

    Raises:
        ConfigError: It was seeded anew meanwhile, as by a file of the user's own, which makes all seeds one.
    """
    chosen = derived_seed(seed, purpose)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chosen)
        yield
        if torch.initial_seed() != chosen:
            raise ConfigError(
                "model: its file, or what that calls, seeds torch's global generator (torch.manual_seed), so "
                "cells of all seeds would start from the same weights; leave that out: initial weights "
                "follow a cell's seed."
            )


def epoch_order(seed: int, epoch: int, num_examples: int) -> Tensor:
    """Return the order of the examples in an epoch, (num_examples,) int64."""
    return torch.randperm(num_examples, generator=generator(seed, "batches", epoch))


def holdout_indices(seed: int, size: int, num_examples: int) -> Tensor:
    """Return the subset on which the Hessian is computed, (size,) int64, ascending (ZS25 section 3.1)."""
    if size == num_examples:
        return torch.arange(num_examples)
    order = torch.randperm(num_examples, generator=generator(seed, "holdout"))
    return order[:size].sort().values
