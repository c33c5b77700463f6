"""Measurements; each is a script, `python -m benchmarks.NAME`."""

import os

# Before NumPy is imported. Threads of its linear algebra wait actively after a call: ARPACK calls it between
# two products, and torch, whose threads make the products, would share the cores with them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
