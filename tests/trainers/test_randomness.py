"""Random numbers as a function of (seed, purpose, counter): stable, distinct, and nothing to be saved."""

import subprocess
import sys
from pathlib import Path

import torch

from trainers.randomness import derived_seed, epoch_order, generator, holdout_indices

DERIVED_FROM_SHA256 = {
    (0, "init", 0): 7615695542073086227,
    (3, "batches", 7): 1953015434500004758,
}
"""Computed with hashlib alone; a change would give stored cells another trajectory under their old name."""

ROOT = Path(__file__).parents[2]


def test_seeds_are_those_that_published_cells_were_trained_with() -> None:
    assert derived_seed(0, "init") == DERIVED_FROM_SHA256[0, "init", 0]
    assert derived_seed(3, "batches", 7) == DERIVED_FROM_SHA256[3, "batches", 7]


def test_every_argument_matters() -> None:
    found = {
        derived_seed(seed, purpose, counter)
        for seed in range(20)
        for purpose in ("init", "batches", "holdout")
        for counter in range(20)
    }
    assert len(found) == 20 * 3 * 20
    assert all(0 <= seed < 2**63 for seed in found)


def test_an_epoch_is_a_permutation_of_its_own() -> None:
    orders = [epoch_order(seed, epoch, 500) for seed in range(3) for epoch in range(3)]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(500))
    assert len({tuple(order.tolist()) for order in orders}) == len(orders)


def test_draws_leave_the_global_generator_alone_and_ignore_it() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = epoch_order(0, 0, 100)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(epoch_order(0, 0, 100), first)
    assert torch.equal(
        torch.randn(3, generator=generator(5, "x", 2)), torch.randn(3, generator=generator(5, "x", 2))
    )


def test_a_holdout_is_a_subset_without_repeats_and_the_whole_set_is_itself() -> None:
    chosen = holdout_indices(0, 200, 5000)
    assert len(chosen.unique()) == 200 and int(chosen.min()) >= 0 and int(chosen.max()) < 5000
    assert torch.equal(chosen, chosen.sort().values)
    assert not torch.equal(chosen, holdout_indices(1, 200, 5000))
    assert torch.equal(holdout_indices(4, 5000, 5000), torch.arange(5000))


def test_another_process_draws_the_same() -> None:
    code = "from trainers.randomness import *; print(epoch_order(3, 2, 50).tolist())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(epoch_order(3, 2, 50).tolist())
