"""Imported by a process that forks: MNIST-5k is unpacked there once, and not in every fork."""

from trainers.data.mnist import shipped_arrays

shipped_arrays()
