"""Data sets: a literal table, name -> entry. Planning reads the entries; only training loads data."""

from trainers.data.entry import Dataset, DatasetEntry
from trainers.data.mnist import MNIST, MNIST_5K

__all__ = ["DATASETS", "Dataset", "DatasetEntry"]

DATASETS: dict[str, DatasetEntry] = {
    "mnist-5k": MNIST_5K,
    "mnist": MNIST,
}
