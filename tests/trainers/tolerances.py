"""The tolerances of the trainer's tests, by dtype and quantity, each with its reason.

Algorithmic tolerances are fields of `trainers.cell.Solver`; agreement with a paper stands beside the number.
"""

import torch

SUMS_FLOAT64 = {"rtol": 1e-10, "atol": 1e-11}
"""Float64 sums of a few hundred terms of order one, added in another order."""

DEEP_SUMS_FLOAT64 = {"rtol": 1e-8, "atol": 1e-9}
"""The same through twenty layers whose normalisation divides by small variances."""

TRAJECTORY = {torch.float64: 1e-10, torch.float32: 2e-3}
"""Absolute, on weights of order 0.1 after 100 steps: what rounding of one step has grown to."""

FINALS = {torch.float64: 1e-10, torch.float32: 2e-2}
"""Relative, on the last training loss and test accuracy: of 300 images a few lie on a boundary."""

DEVICES_WEIGHTS = {torch.float64: 1e-8, torch.float32: TRAJECTORY[torch.float32]}
"""Absolute, on weights after 60 steps on two kinds of device, with eigenspaces solved to `SOLVED`."""

DEVICES_SERIES = {
    torch.float64: {"rel": 1e-6, "abs": 1e-9},
    torch.float32: {"rel": FINALS[torch.float32], "abs": TRAJECTORY[torch.float32]},
}
"""On losses, accuracies and measurements of eigenspaces along such a trajectory."""

SOLVED = {torch.float64: 1e-9, torch.float32: 1e-3}
"""Tolerance of the solver with which it is rounding alone that is left of an eigenspace's error."""

FINITE_DIFFERENCES_FLOAT64 = {"rtol": 1e-6, "atol": 1e-7}
"""Central differences with step 1e-6 of functions of order one: truncation and cancellation balance here."""

PROJECTED_TRAJECTORY_FLOAT64 = {"rtol": 1e-7, "atol": 1e-8}
"""Weights after a dozen projected steps, with a solver tolerance of 1e-9 on the residuals."""

GOLDEN_LOSSES = 1e-5
"""Relative; processors round differently, and 40 steps amplify it to about 1e-6."""

TRACKED_MEDIAN, TRACKED_P90 = 1e-2, 3e-2
"""Relative error of the projected gradient along a trajectory, default solver; measured 0.03 to 0.5 %."""

MEMORY_BAND = (1.0, 1.8)
"""Planned over measured peak bytes of a lane, at least 1: what is planned must fit; measured 1.2 to 1.6."""

LANCZOS_BYTES = 0.1
"""Of what more Lanczos steps take, planned against measured: small matrices are not counted."""

STOPPED = 0.1
"""Dom-SGD's drop of the training loss over SGD's, after the switch (SCIENCE.md, "Dom stops")."""

KEPT = (0.8, 1.25)
"""The same for Bulk-SGD (SCIENCE.md, "Bulk keeps the dynamics")."""

ANGLE_AT_DEFAULT_TOLERANCE = 0.1
"""Sine of the angle to the exact subspace: residual 0.05 lambda_k over a gap of at least half lambda_k."""

PROBED_FLOAT64 = {"rel": 1e-6, "abs": 1e-8}
"""Functions of eigenpairs with residuals of 1e-9 over gaps of about 1e-1, in float64."""

STANDARD_ERRORS = 5.0
"""How far an estimate may be off in its own standard errors; with a fixed seed it either is or is not."""

WHOLE_SPACE_FLOAT64 = 1e-6
"""Eigenvectors of a tracker whose block is the whole space of a small Hessian, against `eigh`."""

HALVES = 1e-6
"""Relative error (norms) of a matrix product in halves; measured 1e-7 to 3e-7, as in float32."""

PRODUCTS_FLOAT32 = 2e-6
"""The same of a Hessian product of a small network in float32; measured 6e-7."""

SMALL_ALGEBRA = 1e-9
"""Ritz values and squares of residuals, relative to the largest value, by two methods in float64: each is off
by rounding times a whitened matrix's condition, 1e5 at most."""

ORTHONORMAL_FLOAT32 = 1e-5
"""Inner products of vectors that float32 numbers combine from some dozens, of which many may cancel."""
