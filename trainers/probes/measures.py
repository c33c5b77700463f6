"""What each probe of `trainers.probes.PROBES` does: a literal table, name -> function of a view."""

from collections.abc import Callable, Mapping, Sequence

from trainers.errors import ConfigError
from trainers.history import PROBES_CONVERGED
from trainers.lane import ScheduledProbe
from trainers.probes.alignment import (
    measure_alignment,
    measure_edges,
    measure_effective_rates,
    measure_overlap,
    measure_spread,
)
from trainers.probes.curvature import measure_curvature
from trainers.probes.energies import measure_energies
from trainers.probes.spectrum import measure_spectrum
from trainers.probes.subspaces import measure_eigenvectors, measure_layers, measure_subspace_overlap
from trainers.probes.user import measure_own
from trainers.probes.view import View
from trainers.probes.weights import measure_distance, measure_sketch, measure_weights

Measure = Callable[[View, ScheduledProbe], dict[str, float]]
"""Returns values by series name; keeps memory under the probe's key, and changes nothing else."""

MEASURES: Mapping[str, Measure] = {
    "curvature": measure_curvature,
    "alignment": measure_alignment,
    "spread": measure_spread,
    "overlap": measure_overlap,
    "effective_rates": measure_effective_rates,
    "edges": measure_edges,
    "subspace_overlap": measure_subspace_overlap,
    "eigenvectors": measure_eigenvectors,
    "layers": measure_layers,
    "energies": measure_energies,
    "spectrum": measure_spectrum,
    "distance": measure_distance,
    "sketch": measure_sketch,
    "weights": measure_weights,
    "file": measure_own,
}


def measure(view: View, probes: Sequence[ScheduledProbe]) -> dict[str, float]:
    """Return what the probes that are due measure, and whether the eigenspaces that they saw had converged.

    `curvature` says that of its own; for the others it is one series, `probes/converged`.

    Raises:
        ConfigError: Two of them record the same series.
    """
    values: dict[str, float] = {}
    judged: list[bool] = []
    for probe in probes:
        view.instruments.objective.beat()
        view.converged = None
        found = MEASURES[probe.name](view, probe)
        if twice := values.keys() & found.keys():
            # Only of functions of the user's own is it not known before what they record.
            raise ConfigError(
                f"probes: two of {probe.name!r} both record {min(twice)}; expected another name for each."
            )
        values |= found
        if probe.name != "curvature" and view.converged is not None:
            judged.append(view.converged)
    if judged:
        values[PROBES_CONVERGED] = float(all(judged))
    return values
