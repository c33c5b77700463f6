"""How much of the fault matrix is run: one seed of each fault, or as many as `make faults` asks for."""

import os

SEEDS_VARIABLE = "FAULT_SEEDS"
MATRIX = int(os.environ.get(SEEDS_VARIABLE, "1"))
"""Seeds every random fault is tried with; with more than one, each of them is also tried at length."""

SEED_VARIABLE = "FAULT_SEED"
"""Set to a seed that was printed, that one is tried again, and none other."""

REPORT_VARIABLE = "FAULT_REPORT"
"""Set to anything, what came of every test is written to `benchmarks/results/faults.json`."""
