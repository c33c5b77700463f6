"""MNIST (placeholder until the readers land)."""
from trainers.data.entry import DatasetEntry
from trainers.options import Option

def _load(folder, options):
    raise NotImplementedError

MNIST_5K = DatasetEntry(load=_load, digest="x", num_train=5000, num_test=10000, input_shape=(1, 28, 28), num_outputs=10, options={"normalize": Option(default="scale", allowed=("scale", "standardize"))})
MNIST = DatasetEntry(load=_load, digest="x", num_train=60000, num_test=10000, input_shape=(1, 28, 28), num_outputs=10)
