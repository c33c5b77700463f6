"""CIFAR-shaped data for where CIFAR-10 is not at hand: ten smooth random prototypes with smooth noise."""

import torch

from trainers.data import Dataset
from trainers.randomness import generator

NUM_TRAIN, NUM_TEST, CLASSES, COARSE, SIDE = 5_000, 1_000, 10, 8, 32
NOISE = 1.5
"""Relative to the prototypes: an MLP is still learning after thousands of steps."""


def cifar_shaped(num_train: int = NUM_TRAIN) -> Dataset:
    """Return images (n, 3, 32, 32), standardised per channel, as CIFAR10-5k's are."""
    draw = generator(0, "cifar-shaped")
    total = num_train + NUM_TEST
    labels = torch.randint(0, CLASSES, (total,), generator=draw)
    prototypes = torch.randn(CLASSES, 3, COARSE, COARSE, generator=draw)
    coarse = prototypes[labels] + NOISE * torch.randn(total, 3, COARSE, COARSE, generator=draw)
    images = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bilinear", align_corners=False)
    images += 0.1 * torch.randn(images.shape, generator=draw)
    images -= images.mean((0, 2, 3), keepdim=True)
    images /= images.std((0, 2, 3), keepdim=True)
    return Dataset(
        train_inputs=images[:num_train],
        train_labels=labels[:num_train],
        test_inputs=images[num_train:],
        test_labels=labels[num_train:],
        num_outputs=CLASSES,
    )
