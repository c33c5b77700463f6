"""Imported at last by a process that forks: what takes time in every fork is done once.

MNIST-5k is unpacked, and what is there is spared from every collection of garbage, which would also write to
memory that all forks share.
"""

import gc

from trainers.data.mnist import shipped_arrays

shipped_arrays()
gc.collect()
gc.freeze()
