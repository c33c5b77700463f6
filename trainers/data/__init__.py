"""Data sets: a literal table, name -> entry. Planning reads the entries; only training loads data."""

from trainers.data.cifar10 import CIFAR10, CIFAR10_5K
from trainers.data.entry import Dataset, DatasetEntry
from trainers.data.mnist import FASHION_MNIST, MNIST, MNIST_5K

__all__ = ["DATASETS", "Dataset", "DatasetEntry"]

DATASETS: dict[str, DatasetEntry] = {
    "mnist-5k": MNIST_5K,
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "cifar10-5k": CIFAR10_5K,
    "cifar10": CIFAR10,
}
