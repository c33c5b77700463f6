"""What each probe of `trainers.probes.PROBES` does: a literal table, name -> function of a view."""

from collections.abc import Callable, Mapping

from trainers.lane import ScheduledProbe
from trainers.probes.curvature import measure_curvature
from trainers.probes.view import View

Measure = Callable[[View, ScheduledProbe], dict[str, float]]
"""Returns values by series name; may use the lane's memory under the probe's key, and nothing else of it."""

MEASURES: Mapping[str, Measure] = {
    "curvature": measure_curvature,
}
