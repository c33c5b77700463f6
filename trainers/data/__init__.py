"""Data sets: a literal table, name -> entry. Planning reads the entries; only training loads data."""

from trainers.data.cifar10 import CIFAR10, CIFAR10_5K, CIFAR100
from trainers.data.digits import DIGITS
from trainers.data.entry import Dataset, DatasetEntry
from trainers.data.generated import GAUSSIAN_MIXTURE, SIGNS, SINE
from trainers.data.mnist import FASHION_MNIST, MNIST, MNIST_5K
from trainers.data.sst2 import SST2, SST2_1K
from trainers.data.user import FILE

__all__ = ["DATASETS", "Dataset", "DatasetEntry"]

DATASETS: dict[str, DatasetEntry] = {
    "mnist-5k": MNIST_5K,
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "cifar10-5k": CIFAR10_5K,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "digits": DIGITS,
    "sst2-1k": SST2_1K,
    "sst2": SST2,
    "sine": SINE,
    "gaussian-mixture": GAUSSIAN_MIXTURE,
    "signs": SIGNS,
    "file": FILE,
}
