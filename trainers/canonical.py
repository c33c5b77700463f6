"""The canonical form of a cell, and the addresses that follow from it.

Two cells with one canonical form are one experiment: planned once, run once, shown in every place of the
grid that asks for it. The trainer runs the canonical form, so what is hashed is what is trained.
"""

import hashlib
import json
import math
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

from trainers.cell import DEFAULT_BATCH, Cell, Condition, Phase, deciding_seed
from trainers.data import DATASETS, DatasetEntry
from trainers.errors import ConfigError, unknown_name
from trainers.losses import LOSSES
from trainers.models import MODELS
from trainers.optimizers import OPTIMIZERS
from trainers.options import Choice, OptionValue
from trainers.probes import PROBES

NUMERICS_VERSION = 3
"""Raised whenever a change of the trainer changes the golden loss curve; part of every `cell_id`."""

ADDRESS_DIGITS = 16
RATE_DIGITS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A phase in canonical form: half-open step range and effective rates.

    Args:
        start: First step.
        stop: One past the last step.
        optimizer: Base optimiser with all the options that matter.
        dom_rate: lr / alpha_dom, 0 for Bulk-SGD.
        bulk_rate: lr / beta_bulk, 0 for Dom-SGD.
        k: Dimension of the Dominant subspace, or `None` when the stage does not need it.
        carry: Whether the base optimiser goes on with the state of the stage before.
        condition: What ends the stage before `stop`, completed; the next stage then starts there.
    """

    start: int
    stop: int
    optimizer: Choice
    dom_rate: float
    bulk_rate: float
    k: int | None
    carry: bool = False
    condition: Condition | None = None

    @property
    def rule(self) -> tuple[Choice, float, float, int | None]:
        """What is done at each step, whenever it is done."""
        return (self.optimizer, self.dom_rate, self.bulk_rate, self.k)

    @property
    def projects(self) -> bool:
        """Whether the update needs the Dominant subspace."""
        return self.k is not None

    @property
    def full_batch(self) -> bool:
        """Whether its steps take the whole training set."""
        return self.optimizer.name == "gd" or bool(dict(self.optimizer.options).get("full_batch"))


@lru_cache(maxsize=4096)
def effective_rate(lr: float, divisor: float) -> float:
    """Divide two decimal literals: 0.3 / 3 and 0.1 / 1 give the same float. Infinity gives 0."""
    quotient = Decimal(repr(float(lr))) / Decimal(repr(float(divisor)))
    return float(f"{quotient:.{RATE_DIGITS}g}")


def stages(cell: Cell) -> tuple[Stage, ...]:
    """Reduce the phases: empty ones drop out, equal neighbours merge, equal rates mean no projection.

    Raises:
        ConfigError: An unknown optimiser, k too large, both rates 0, no step at all, or a last phase that
            ends before another.
    """
    entry = dataset_entry(cell.dataset)
    return _reduced(cell.phases, entry.num_outputs, entry.num_train)


@lru_cache(maxsize=16384)
def _reduced(phases: tuple[Phase, ...], num_outputs: int, num_train: int) -> tuple[Stage, ...]:
    # Kept, because the cells of a grid share their schedules, and each is asked for several times.
    reduced: list[Stage] = []
    for index, phase in enumerate(phases):
        before = reduced[-1] if reduced else None
        start = before.stop if before else 0
        conditional = before is not None and before.condition is not None
        if conditional and phase.last < start:
            raise ConfigError(
                f"phases.{index}.until: found {phase.last}; the phase before ends on a condition, at most at "
                f"{start}, so this one must not end before that."
            )
        if phase.last <= start and not conditional:
            continue
        stage = _stage(phase, before, start, num_outputs, num_train)
        # A condition between equal rules decides nothing; that of this phase counts from its own start.
        while reduced and stage.condition is None and _goes_on(reduced[-1], stage):
            merged = reduced.pop()
            stage = replace(stage, start=merged.start, carry=merged.carry)
        reduced.append(stage)
    _require_last(phases)
    if not reduced:
        raise ConfigError("phases: no phase has a step; the last `until` must be at least 1.")
    if reduced[-1].condition is not None:
        raise ConfigError("phases: the last phase ends on a condition; expected a step, the cell's length.")
    return tuple(reduced)


def _require_last(phases: tuple[Phase, ...]) -> None:
    """Refuse a last phase that ends before another one: the cell would train for longer than it asks for."""
    longest = max(range(len(phases)), key=lambda index: phases[index].last)
    if (end := phases[-1].last) < phases[longest].last:
        raise ConfigError(
            f"phases.{len(phases) - 1}.until: found {end}; this is the last phase, so it must not end before "
            f"phase {longest}, which ends at {phases[longest].last}."
        )


def _has_state(optimizer: Choice) -> bool:
    return OPTIMIZERS[optimizer.name].has_state


def _goes_on(before: Stage, after: Stage) -> bool:
    """Whether a stage does what the one before it does, from the state that this one leaves."""
    return before.rule == after.rule and after.carry == _has_state(after.optimizer)


def _stage(phase: Phase, before: Stage | None, start: int, num_outputs: int, num_train: int) -> Stage:
    if phase.optimizer.name not in OPTIMIZERS:
        raise unknown_name("optimizer", phase.optimizer.name, OPTIMIZERS)
    entry = OPTIMIZERS[phase.optimizer.name]
    options = phase.optimizer.resolve("optimizer", entry.options)
    dom_rate = effective_rate(phase.lr, phase.alpha_dom)
    bulk_rate = 0.0 if entry.dominant_only else effective_rate(phase.lr, phase.beta_bulk)
    if dom_rate == 0 and bulk_rate == 0:
        raise ConfigError("both effective rates are 0: nothing would train.")
    if math.isinf(dom_rate) or math.isinf(bulk_rate):
        raise ConfigError(
            f"lr {phase.lr!r} over alpha_dom {phase.alpha_dom!r} or beta_bulk {phase.beta_bulk!r} "
            "is too large for a number: an effective rate must be finite."
        )
    k = None if dom_rate == bulk_rate else (phase.k if phase.k is not None else num_outputs)
    if k is None:
        options.pop("project", None)
    optimizer = Choice.of(phase.optimizer.name, **options)
    same = before is not None and before.optimizer.name == optimizer.name
    return Stage(
        start=start,
        stop=phase.last,
        optimizer=optimizer,
        dom_rate=dom_rate,
        bulk_rate=bulk_rate,
        k=k,
        carry=phase.carry and entry.has_state and same,
        condition=(
            _completed(phase.until, num_outputs, num_train) if isinstance(phase.until, Condition) else None
        ),
    )


def _completed(condition: Condition, num_outputs: int, num_train: int) -> Condition:
    size = _at_most("until.holdout_size", condition.holdout_size, num_train)
    return replace(
        condition,
        k=condition.k or num_outputs,
        holdout_size=size,
        holdout_seed=deciding_seed(condition.holdout_seed, size, num_train),
        chi_above=float(condition.chi_above),
        ema=float(condition.ema),
        tolerance=float(condition.tolerance),
    )


def trajectory_form(cell: Cell, *, until: int | None = None) -> dict[str, Any]:
    """Return everything that determines the weights, up to step `until` (default: the end).

    Probes and evaluation are not in it; the holdout, the refresh period and the solver are in it only when
    a stage that starts before `until` projects. Where no step takes a batch the batch size is the default.
    """
    schedule: list[dict[str, Any]] = []
    before: Stage | None = None
    for stage in stages(cell):
        if until is not None and stage.start >= until:
            break
        schedule.append(_stage_form(stage, before, until))
        before = stage
    form = dict(_shape_form(cell.model, cell.dataset, cell.loss))
    form |= {
        "numerics": NUMERICS_VERSION,
        "seed": cell.seed,
        "batch_size": DEFAULT_BATCH if _is_full_batch(cell) else batch_size_of(cell),
        "init": cell.init,
        "divergence": {"factor": float(cell.divergence_factor), "every": cell.divergence_every},
        "schedule": schedule,
    }
    if any("k" in entry for entry in schedule):
        form["eigenspace"] = eigenspace_form(cell)
    return form


def batch_size_of(cell: Cell) -> int:
    """Return the batch size; the default where no step and no probe takes a batch, and it decides nothing.

    Raises:
        ConfigError: It is larger than the training set.
    """
    size = _bounded("batch_size", cell.batch_size, cell.dataset)
    return DEFAULT_BATCH if _is_full_batch(cell) and not _reads_batches(cell) else size


def _is_full_batch(cell: Cell) -> bool:
    return all(stage.full_batch for stage in stages(cell))


def _reads_batches(cell: Cell) -> bool:
    return any(
        probe.name in PROBES and PROBES[probe.name].reads_batches(dict(probe.options))
        for probe in cell.probes
    )


def _stage_form(stage: Stage, before: Stage | None, until: int | None) -> dict[str, Any]:
    optimizer = stage.optimizer
    options = dict(optimizer.options)
    entry: dict[str, Any] = {
        "optimizer": {"name": optimizer.name, **options} if options else optimizer.name,
        "dom_rate": stage.dom_rate,
        "bulk_rate": stage.bulk_rate,
        "until": stage.stop if until is None else min(stage.stop, until),
    }
    if stage.projects:
        entry["k"] = stage.k
    if stage.condition is not None:
        entry["until"] = asdict(stage.condition)
    resets = before is not None and before.optimizer.name == optimizer.name and not stage.carry
    if resets and _has_state(optimizer):
        entry["carry"] = False
    return entry


def eigenspace_form(cell: Cell) -> dict[str, Any]:
    """Return what a projecting stage depends on besides its own rule."""
    # The order came later: at its default it is left out, so that older addresses stay.
    order = {} if cell.solver.order == "algebraic" else {"order": cell.solver.order}
    num_train = dataset_entry(cell.dataset).num_train
    size = _at_most("holdout_size", cell.holdout_size, num_train)
    return order | {
        "holdout_size": size,
        "holdout_seed": deciding_seed(cell.holdout_seed, size, num_train),
        "refresh_every": cell.refresh_every,
        "tolerance": float(cell.solver.tolerance),
        "guard": cell.solver.guard,
        "max_products": cell.solver.max_products,
        "max_cold_products": cell.solver.max_cold_products,
    }


def record_form(cell: Cell) -> dict[str, Any]:
    """Return what is recorded along the trajectory: evaluation points and probes."""
    entry = dataset_entry(cell.dataset)
    probes: list[dict[str, Any]] = []
    claimed: set[str] = set()
    for probe in cell.probes:
        if probe.name not in PROBES:
            raise unknown_name("probe", probe.name, PROBES)
        declared = PROBES[probe.name].options
        options = Choice(probe.name, tuple(sorted(probe.options))).resolve("probe", declared)
        options = PROBES[probe.name].complete(options, entry)
        own = set(PROBES[probe.name].claimed(options))
        if twice := own & claimed:
            raise ConfigError(
                f"probes: two of {probe.name!r} would both record {min(twice)}; leave one of them out, or "
                "give them options with which their series have other names."
            )
        claimed |= own
        options = {name: value for name, value in options.items() if not declared[name].left_out(value)}
        if isinstance(size := options.get("holdout_size"), int):
            _at_most(f"probe {probe.name!r}: holdout_size", size, entry.num_train)
        probes.append({"name": probe.name, "every": probe.every or cell.evaluate_every, **options})
    probes.sort(key=canonical_json)
    form: dict[str, Any] = {"evaluate_every": cell.evaluate_every, "probes": probes}
    # Where the trajectory does not say it. At the default it came later, and older addresses stay.
    if _is_full_batch(cell) and (size := batch_size_of(cell)) != DEFAULT_BATCH:
        form["batch_size"] = size
    return form


def canonical_form(cell: Cell) -> dict[str, Any]:
    """Return the trajectory and the record of a cell as plain JSON values: its identity."""
    return {**trajectory_form(cell), "record": record_form(cell)}


def canonical_json(form: dict[str, Any]) -> str:
    """Serialise with sorted keys and no white space; floats as their shortest exact decimal."""
    return _CANONICAL.encode(form)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def address(form: dict[str, Any]) -> str:
    """Return the first 16 hex digits of SHA-256 over the canonical JSON."""
    return hashlib.sha256(canonical_json(form).encode()).hexdigest()[:ADDRESS_DIGITS]


def cell_id(cell: Cell) -> str:
    """Return the content address of a cell."""
    return address(canonical_form(cell))


def model_options(cell: Cell) -> dict[str, OptionValue]:
    """Return what a cell's model is built with; of the user's own also the digest that its address has."""
    form = _shape_form(cell.model, cell.dataset, cell.loss)
    options = cell.model.resolve("model", MODELS[cell.model.name].options)
    return {**options, "digest": form["source_digest"]} if "source_digest" in form else options


def trajectory_id(cell: Cell, *, until: int | None = None) -> str:
    """Return the address of the trajectory, or of its prefix up to step `until`."""
    return address(trajectory_form(cell, until=until))


@lru_cache(maxsize=4096)
def dataset_entry(choice: Choice) -> DatasetEntry:
    """Return a data set's table entry with these options, or raise `ConfigError` with the nearest name."""
    if choice.name not in DATASETS:
        raise unknown_name("dataset", choice.name, DATASETS)
    entry = DATASETS[choice.name]
    return entry.under(choice.resolve("dataset", entry.options))


def _bounded(label: str, size: int | None, dataset: Choice) -> int:
    return _at_most(label, size, dataset_entry(dataset).num_train)


def _at_most(label: str, size: int | None, num_train: int) -> int:
    if size is None:
        return num_train
    if size > num_train:
        raise ConfigError(f"{label}: found {size}; the data set has {num_train} training examples.")
    return size


def _require_fit(model: Choice, dataset: Choice) -> None:
    """Raise `ConfigError` where the model does not take such data, and every cell would fail."""
    entry = MODELS[model.name]
    options = model.resolve("model", entry.options)
    try:
        entry.require(dataset_entry(dataset), options)
    except ConfigError as error:
        fitting: list[str] = []
        # What is read from a file has no shape by itself.
        for name, data in DATASETS.items():
            with suppress(ConfigError):
                entry.require(data, options)
                fitting += [name] if data.num_train else []
        raise ConfigError(
            f"model {model.name!r} does not fit data set {dataset.name!r}: {error} "
            f"With these options it fits: {', '.join(fitting) or 'none'}."
        ) from error


@lru_cache(maxsize=4096)
def _shape_form(model: Choice, dataset: Choice, loss: Choice) -> dict[str, Any]:
    entry = dataset_entry(dataset)
    if model.name not in MODELS:
        raise unknown_name("model", model.name, MODELS)
    if loss.name not in LOSSES:
        raise unknown_name("loss", loss.name, LOSSES)
    _require_fit(model, dataset)
    if LOSSES[loss.name].of_classes and not entry.classifies:
        others = ", ".join(name for name, row in LOSSES.items() if not row.of_classes)
        raise ConfigError(
            f"loss {loss.name!r} is of classes, and the labels of data set {dataset.name!r} are none: "
            f"expected classes, or shares of them (at least 0, with sum 1); or another loss: {others}."
        )
    form: dict[str, Any] = {
        "model": {"name": model.name, **model.canonical("model", MODELS[model.name].options)},
        "dataset": {"name": dataset.name, **dataset.canonical("dataset", entry.options)},
        "loss": {"name": loss.name, **loss.canonical("loss", LOSSES[loss.name].options)},
        "data_digest": entry.digest,
    }
    # A file's digest stands for its path.
    form["dataset"].pop("path", None)
    if (source := MODELS[model.name].source_digest) is not None:
        form["source_digest"] = source(form["model"])
        del form["model"]["path"]
    return form
