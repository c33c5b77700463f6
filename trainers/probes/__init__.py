"""Probes: measurements along a trajectory that never change it. A literal table, name -> entry.

Planning reads this table; `trainers.probes.measures` has the functions, one of the same name for every row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from trainers.cell import ORDERS, deciding_seed
from trainers.data.entry import DatasetEntry
from trainers.errors import ConfigError
from trainers.options import Option, OptionValue
from trainers.probes.user import source_digest

if TYPE_CHECKING:
    from trainers.objective import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEntry:
    """A row of `PROBES`.

    Args:
        series: The series it records; `<…>` stands for an index, a size, a step or the name of a vector.
        cost: What a measurement costs besides the full gradient that every evaluation takes.
        options: Declared options.
        parts: The parts of the Hessian that it takes products with, where it has a holdout; an option `part`
            takes their place.
        classes: What `k` is by default, in multiples of the number of classes.
        own_series: From complete options, series that no other probe of this name may record too; `None`
            where any two would record the same.
    """

    series: tuple[str, ...]
    cost: str
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    parts: tuple["Part", ...] = ("hessian",)
    classes: int = 1
    own_series: Callable[[Mapping[str, Any]], tuple[str, ...]] | None = None

    def claimed(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return series that a probe with these complete options records, and no other of its name may."""
        return self.series[:1] if self.own_series is None else self.own_series(options)

    def curvature(self, options: Mapping[str, Any]) -> tuple["Part", ...]:
        """Return the parts of the Hessian that a probe with these complete options takes products with."""
        if "holdout_size" not in options:
            return ()
        return (options["part"],) if "part" in options else self.parts

    def reads_batches(self, options: Mapping[str, Any]) -> bool:
        """Return whether a probe with these options looks at minibatches; a user's own may."""
        return "path" in self.options or options.get("of") == "batch_gradient"

    def complete(self, options: Mapping[str, OptionValue], dataset: DatasetEntry) -> dict[str, OptionValue]:
        """Replace what is left to the data set (`k`, `sizes`, `holdout_size`) or to a file, and idle seeds.

        Raises:
            ConfigError: A subspace is larger than k, or the file cannot be read.
        """
        complete = dict(options)
        if "path" in complete:
            complete["digest"] = source_digest(str(complete["path"]))
        if "k" in complete and complete["k"] is None:
            complete["k"] = self.classes * dataset.num_outputs
        if "holdout_size" in complete and complete["holdout_size"] is None:
            complete["holdout_size"] = dataset.num_train
        if "holdout_size" in complete:
            complete["holdout_seed"] = self._seed(complete, dataset)
        if complete.get("sizes") == ():
            complete["sizes"] = (dataset.num_outputs,)
        k, sizes = complete.get("k"), complete.get("sizes", ())
        if isinstance(k, int) and isinstance(sizes, tuple):
            for size in sizes:
                if isinstance(size, int) and size > k:
                    raise ConfigError(f"probe sizes: found {size}; with k = {k} they can be at most that.")
        return complete

    def _seed(self, options: Mapping[str, Any], dataset: DatasetEntry) -> int:
        """Return the seed of the holdout; 0 where it decides nothing, as where the test set alone is used."""
        if options.get("split") == "test" and not options["k"]:
            return 0
        return deciding_seed(options["holdout_seed"], options["holdout_size"], dataset.num_train)


VECTORS = ("gradient", "batch_gradient", "update")
"""What is held against the Dominant subspace: the full gradient, the next batch's, or the next update."""

EIGENSPACE = "warm block products with the holdout's Hessian, shared by probes of one holdout"

_HOLDOUT = {
    "holdout_size": Option(default=None, kind=int, minimum=1),
    "holdout_seed": Option(default=0, minimum=0),
}
_LEADING = {
    "k": Option(default=None, kind=int, minimum=1),
    **_HOLDOUT,
    "tolerance": Option(default=2e-2, minimum=1e-12),
    "order": Option(default=ORDERS[0], allowed=ORDERS, later=True),
}
_OF = Option(default="gradient", allowed=VECTORS)
_SINCE = Option(default=(0,), minimum=0)


def _overlaps(options: Mapping[str, Any]) -> tuple[str, ...]:
    return (f"overlap/{options['split']}", *(("overlap/top_vector",) if options["k"] else ()))


def _subspaces(options: Mapping[str, Any]) -> tuple[str, ...]:
    pairs = product(options["sizes"], options["since"])
    return tuple(f"subspace/top_{size}_since_{step}" for size, step in pairs)


def _distance(options: Mapping[str, Any]) -> tuple[str, ...]:
    step = options["since"]
    return ("distance/from_switch" if step is None else f"distance/since_{step}",)


PROBES: dict[str, ProbeEntry] = {
    "curvature": ProbeEntry(
        series=(
            "curvature/lambda_<i>",
            "curvature/chi",
            "curvature/residual",
            "curvature/converged",
            "curvature/products",
        ),
        cost=EIGENSPACE,
        options=_LEADING,
    ),
    "alignment": ProbeEntry(
        series=("alignment/<vector>_chi", "alignment/<vector>_chi_ema", "alignment/<vector>_f_top"),
        cost=f"{EIGENSPACE}; one gradient more for the batch's gradient and for the update",
        options={**_LEADING, "of": _OF, "ema": Option(default=0.9, minimum=0.0, below=1.0)},
        own_series=lambda options: (f"alignment/{options['of']}_chi",),
    ),
    "spread": ProbeEntry(
        series=("spread/<vector>_<i>", "spread/<vector>_sum"),
        cost=f"{EIGENSPACE}; one gradient more for the batch's gradient and for the update",
        options={**_LEADING, "of": _OF},
        own_series=lambda options: (f"spread/{options['of']}_sum",),
    ),
    "overlap": ProbeEntry(
        series=("overlap/train", "overlap/test", "overlap/top_vector"),
        cost="one product with the Hessian of the holdout; with k, an eigenspace",
        options={
            **_LEADING,
            "k": Option(default=0, minimum=0),
            "split": Option(default="train", allowed=("train", "test")),
        },
        own_series=_overlaps,
    ),
    "effective_rates": ProbeEntry(
        series=("effective/dom_rate", "effective/bulk_rate"),
        cost=f"{EIGENSPACE}; the gradients of one update",
        options=_LEADING,
    ),
    "edges": ProbeEntry(series=("edge/gd", "edge/sam"), cost="nothing"),
    "subspace_overlap": ProbeEntry(
        series=("subspace/top_<size>_since_<step>", "subspace/next_<size>_since_<step>"),
        cost=f"{EIGENSPACE}; memory of k vectors for each step of `since`",
        options={**_LEADING, "sizes": Option(default=(), minimum=1), "since": _SINCE},
        classes=2,
        own_series=_subspaces,
    ),
    "eigenvectors": ProbeEntry(
        series=(
            "eigenvector/ipr_<i>",
            "eigenvector/ipr_random",
            "eigenvector/ipr_null_<i>",
            "eigenvector/displacement_<i>_since_<step>",
            "eigenvector/displacement_random",
            "eigenvector/displacement_null_<i>",
        ),
        cost=f"{EIGENSPACE}; memory of k vectors for each step of `since`; with `null`, two cold solves",
        options={**_LEADING, "since": _SINCE, "null": Option(default=False)},
    ),
    "layers": ProbeEntry(
        series=("layers/<i>_<parameter>",),
        cost=EIGENSPACE,
        options={**_LEADING, "k": Option(default=1, minimum=1)},
    ),
    "energies": ProbeEntry(
        series=(
            "energy/<h|h_o|h_f>",
            "energy/<h|h_o|h_f>_error",
            "energy/dom_<h|h_o|h_f>",
            "energy/dom_eigenvalues",
        ),
        cost=f"{EIGENSPACE}; k + samples products with H and with H_o, or as many as there are parameters",
        options={
            **_LEADING,
            "estimator": Option(default="auto", allowed=("auto", "exact", "hutchinson")),
            "samples": Option(default=32, minimum=2),
        },
        parts=("hessian", "gauss_newton"),
    ),
    "spectrum": ProbeEntry(
        series=("spectrum/node_<vector>_<i>", "spectrum/weight_<vector>_<i>"),
        cost="`lanczos_steps` products of `vectors` directions, and as many vectors of memory for the moment",
        options={
            **_HOLDOUT,
            "lanczos_steps": Option(default=64, minimum=1),
            "vectors": Option(default=4, minimum=1),
            "part": Option(default="hessian", allowed=("hessian", "gauss_newton", "functional")),
        },
    ),
    "distance": ProbeEntry(
        series=("distance/from_switch", "distance/since_<step>"),
        cost="memory of one copy of the weights",
        options={"since": Option(default=None, kind=int, minimum=0)},
        own_series=_distance,
    ),
    "sketch": ProbeEntry(
        series=("sketch/<i>",),
        cost="a random matrix of `size` rows, drawn again each time",
        options={"size": Option(default=64, minimum=1), "seed": Option(default=0, minimum=0)},
    ),
    "weights": ProbeEntry(series=("weights/<i>",), cost="nothing; for models of at most 100 parameters"),
    "file": ProbeEntry(
        series=("own/<name>",),
        cost="what your function takes",
        # The digest is that of the file, whatever is written here.
        options={
            "path": Option(default=""),
            "function": Option(default="measure"),
            "digest": Option(default=""),
        },
        # Which names it returns is known when it is called (`trainers.probes.measures`).
        own_series=lambda options: (f"own/<name> by {options['function']} of {options['path']}",),
    ),
}
