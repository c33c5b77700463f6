"""Probes: measurements along a trajectory that never change it. A literal table, name -> entry."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainers.data.entry import DatasetEntry
from trainers.options import Option, OptionValue


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEntry:
    """A row of `PROBES`.

    Args:
        series: The series it records, for documentation; `<i>` runs from 1 to `k`.
        options: Declared options.
    """

    series: tuple[str, ...]
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])

    def complete(self, options: Mapping[str, OptionValue], dataset: DatasetEntry) -> dict[str, OptionValue]:
        """Replace the options that are left to the data set: `k` and `holdout_size`."""
        complete = dict(options)
        if "k" in complete and complete["k"] is None:
            complete["k"] = dataset.num_outputs
        if "holdout_size" in complete and complete["holdout_size"] is None:
            complete["holdout_size"] = dataset.num_train
        return complete


PROBES: dict[str, ProbeEntry] = {
    "curvature": ProbeEntry(
        series=(
            "curvature/lambda_<i>",
            "curvature/chi",
            "curvature/residual",
            "curvature/converged",
            "curvature/products",
        ),
        options={
            "k": Option(default=None, kind=int, minimum=1),
            "holdout_size": Option(default=None, kind=int, minimum=1),
            "holdout_seed": Option(default=0, minimum=0),
            "tolerance": Option(default=2e-2, minimum=1e-12),
        },
    ),
}
