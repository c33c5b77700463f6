"""The canonical form: what is one experiment, what is not, and addresses that must never change."""

import dataclasses
import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from trainers import canonical
from trainers.canonical import (
    Stage,
    address,
    canonical_form,
    canonical_json,
    cell_id,
    effective_rate,
    stages,
    trajectory_form,
    trajectory_id,
)
from trainers.cell import Cell, Condition, Phase, Probe, Solver
from trainers.cell_json import cell_from_json, cell_to_json
from trainers.data import DATASETS
from trainers.errors import ConfigError
from trainers.options import Choice

SGD = Phase(lr=0.1, until=100)
BULK = Phase(lr=0.1, until=100, alpha_dom=math.inf)
DOM = Phase(lr=0.1, until=100, beta_bulk=math.inf)
INF = math.inf
ALIGNED = Condition(chi_above=0.5, at_most=60)


def momentum(until: int | Condition, *, carry: bool = True) -> Phase:
    return Phase(lr=0.1, until=until, optimizer=Choice("momentum"), carry=carry)


def cell(*phases: Phase, **fields: Any) -> Cell:
    given = {"model": Choice("mlp"), "dataset": Choice("mnist-5k"), **fields}
    return Cell(phases=phases or (SGD,), **given)


def aligned(**fields: Any) -> tuple[Phase, Phase]:
    """A phase that ends on a condition, and Bulk-SGD after it."""
    return Phase(lr=0.1, until=Condition(chi_above=0.5, at_most=50, **fields)), BULK


def same(left: Cell, right: Cell) -> bool:
    assert (cell_id(left) == cell_id(right)) == (canonical_form(left) == canonical_form(right))
    return cell_id(left) == cell_id(right)


GOLDEN = {
    "sgd": (cell(), "d0f24a95179c759c"),
    "bulk": (cell(BULK), "9af99eb371f10be9"),
    "schedule": (
        cell(
            Phase(lr=0.01, until=6000),
            Phase(lr=0.05, until=20000, alpha_dom=INF, k=20),
            model=Choice.of("mlp", widths=[200, 200], activation="tanh"),
            loss=Choice("cross_entropy"),
            seed=3,
            holdout_size=None,
            probes=(Probe(name="curvature", every=50, options=(("k", 21),)),),
        ),
        "c8e3b3f92f1102b4",
    ),
    "every new kind of choice": (
        cell(
            Phase(lr=0.01, until=Condition(chi_above=0.95, at_most=900, every=5)),
            Phase(lr=0.01, until=1000, optimizer=Choice.of("adam", beta1=0.0), alpha_dom=INF, k=2),
            Phase(lr=0.02, until=1100, optimizer=Choice("adam"), carry=False),
            model=Choice.of("transformer", heads=4),
            dataset=Choice.of("sst2-1k", labels="random"),
            probes=(Probe(name="energies"), Probe(name="subspace_overlap"), Probe(name="distance")),
        ),
        "89eb5c0305ce0097",
    ),
    "cnn on cifar": (cell(BULK, model=Choice("cnn"), dataset=Choice("cifar10-5k")), "46feb3589105e0a4"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_addresses(name: str) -> None:
    """A change makes every recorded cell a stranger; `NUMERICS_VERSION` goes with the golden loss."""
    stated, expected = GOLDEN[name]
    assert canonical.NUMERICS_VERSION == 3
    assert cell_id(stated) == expected


def test_golden_text() -> None:
    form = trajectory_form(cell(BULK, seed=2))
    form["data_digest"] = "…"
    assert canonical_json(form) == (
        '{"batch_size":50,"data_digest":"\\u2026","dataset":{"name":"mnist-5k","normalize":"scale"},'
        '"divergence":{"every":100,"factor":10.0},'
        '"eigenspace":{"guard":2,"holdout_seed":0,"holdout_size":500,"max_cold_products":40,"max_products":6,'
        '"refresh_every":10,"tolerance":0.05},'
        '"init":"pytorch","loss":{"name":"mse","scale":"half_sum"},'
        '"model":{"activation":"relu","name":"mlp","widths":[100,100]},"numerics":3,'
        '"schedule":[{"bulk_rate":0.1,"dom_rate":0.0,"k":10,"optimizer":"sgd","until":100}],"seed":2}'
    )


@pytest.mark.parametrize(
    ("lr", "divisor", "rate"),
    [
        (0.3, 3, 0.1),
        (0.1, 1, 0.1),
        (0.3, 0.1, 3.0),
        (0.1, 3, 0.0333333333333333),
        (1, 3, 0.333333333333333),
        (0.7, 0.1, 7.0),
        (0.1, INF, 0.0),
        (1e-3, 1e3, 1e-6),
        (2e-5, 0.2, 1e-4),
    ],
)
def test_rates_are_decimal_quotients(lr: float, divisor: float, rate: float) -> None:
    assert effective_rate(lr, divisor) == rate


def test_quotients_that_are_equal_on_paper_are_one_rate() -> None:
    draw = random.Random(0)
    for _ in range(300):
        numerator, divisor, factor = (draw.randrange(1, 1000) for _ in range(3))
        assert effective_rate(numerator * factor / 1000, float(divisor * factor)) == effective_rate(
            numerator / 1000, float(divisor)
        )


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (
            cell(Phase(lr=0.3, until=9, alpha_dom=3, beta_bulk=1)),
            cell(Phase(lr=0.1, until=9, beta_bulk=1 / 3 + 0)),
        ),
        (cell(Phase(lr=0.3, until=9, alpha_dom=3, beta_bulk=3)), cell(Phase(lr=0.1, until=9))),
        (
            cell(Phase(lr=0.2, until=9, alpha_dom=2, beta_bulk=INF)),
            cell(Phase(lr=0.1, until=9, beta_bulk=INF)),
        ),
        # Equal rates do not project.
        (cell(SGD), cell(dataclasses.replace(SGD, k=3))),
        (cell(SGD), cell(SGD, holdout_size=7)),
        (cell(SGD), cell(SGD, holdout_size=None)),
        (cell(SGD), cell(SGD, holdout_seed=7)),
        (cell(SGD), cell(SGD, refresh_every=7)),
        (cell(SGD), cell(SGD, solver=Solver(tolerance=0.5))),
        # k of the data set, spelled out.
        (cell(BULK), cell(dataclasses.replace(BULK, k=10))),
        (cell(BULK, holdout_size=None), cell(BULK, holdout_size=5000)),
        # Seeds that decide nothing: the holdout is the whole training set, the labels are not drawn.
        (cell(BULK, holdout_size=None), cell(BULK, holdout_size=None, holdout_seed=7)),
        (cell(BULK, holdout_size=5000), cell(BULK, holdout_size=5000, holdout_seed=7)),
        (cell(*aligned()), cell(*aligned(holdout_seed=7))),
        (
            cell(probes=(Probe(name="curvature"),)),
            cell(probes=(Probe(name="curvature", options=(("holdout_seed", 7),)),)),
        ),
        (
            cell(probes=(Probe(name="overlap", options=(("holdout_size", 60), ("split", "test"))),)),
            cell(
                probes=(
                    Probe(
                        name="overlap",
                        options=(("holdout_seed", 7), ("holdout_size", 60), ("split", "test")),
                    ),
                )
            ),
        ),
        (cell(), cell(dataset=Choice.of("mnist-5k", labels_seed=7))),
        (
            cell(dataset=Choice.of("mnist-5k", labels="parity")),
            cell(dataset=Choice.of("mnist-5k", labels="parity", labels_seed=7)),
        ),
        # Phases.
        (cell(SGD), cell(Phase(lr=0.5, until=0), SGD)),
        (cell(SGD), cell(SGD, Phase(lr=0.5, until=100))),
        (cell(SGD), cell(Phase(lr=0.1, until=100), Phase(lr=0.5, until=50), Phase(lr=0.5, until=100))),
        (cell(SGD), cell(Phase(lr=0.1, until=40), SGD)),
        (cell(SGD), cell(Phase(lr=0.1, until=40), Phase(lr=0.5, until=40), SGD)),
        (
            cell(BULK),
            cell(dataclasses.replace(BULK, until=40), dataclasses.replace(BULK, lr=0.2, beta_bulk=2)),
        ),
        # Conditions between equal rules.
        (cell(SGD), cell(Phase(lr=0.1, until=20), Phase(lr=0.1, until=ALIGNED), SGD)),
        (cell(SGD), cell(Phase(lr=0.1, until=ALIGNED), Phase(lr=0.1, until=ALIGNED), SGD)),
        (cell(momentum(100)), cell(momentum(20), momentum(ALIGNED), momentum(100))),
        (
            cell(momentum(20), momentum(100, carry=False)),
            cell(momentum(20), momentum(ALIGNED, carry=False), momentum(100)),
        ),
        # Options.
        (cell(), cell(model=Choice.of("mlp", activation="relu"))),
        (cell(), cell(model=Choice.of("mlp", widths=[100, 100], activation="relu"))),
        (cell(), cell(loss=Choice.of("mse", scale="half_sum"))),
        # Probes.
        (cell(probes=(Probe(name="curvature"),)), cell(probes=(Probe(name="curvature", every=100),))),
        (
            cell(probes=(Probe(name="curvature"),)),
            cell(probes=(Probe(name="curvature", options=(("k", 10),)),)),
        ),
        (
            cell(probes=(Probe(name="curvature"), Probe(name="alignment", options=(("k", 3),)))),
            cell(probes=(Probe(name="alignment", options=(("k", 3),)), Probe(name="curvature"))),
        ),
    ],
)
def test_one_experiment(left: Cell, right: Cell) -> None:
    assert left != right
    assert same(left, right)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"batch_size": 49},
        {"init": "xavier"},
        {"divergence_factor": 9.0},
        {"divergence_every": 99},
        {"evaluate_every": 99},
        {"holdout_size": 499},
        {"holdout_seed": 1},
        {"refresh_every": 9},
        {"solver": Solver(tolerance=0.02)},
        {"solver": Solver(guard=3)},
        {"solver": Solver(max_products=5)},
        {"solver": Solver(max_cold_products=39)},
        {"model": Choice("cnn")},
        {"model": Choice.of("mlp", activation="tanh")},
        {"dataset": Choice("mnist")},
        {"loss": Choice("cross_entropy")},
        {"loss": Choice.of("mse", scale="sum")},
        {"probes": (Probe(name="curvature"),)},
        {"phases": (dataclasses.replace(BULK, k=9),)},
        {"phases": (dataclasses.replace(BULK, lr=0.2),)},
        {"phases": (dataclasses.replace(BULK, until=99),)},
        {"phases": (dataclasses.replace(BULK, alpha_dom=1e9),)},
        {"phases": (dataclasses.replace(SGD, until=1), BULK)},
    ],
)
def test_different_experiments(change: dict[str, Any]) -> None:
    base = cell(BULK)
    changed = dataclasses.replace(base, **change)
    assert not same(base, changed)
    recorded_only = set(change) <= {"evaluate_every", "probes"}
    assert (trajectory_id(base) == trajectory_id(changed)) == recorded_only


def test_probes_keep_their_own_k_and_holdout_alive() -> None:
    def probed(**options: int) -> Cell:
        return cell(SGD, probes=(Probe(name="curvature", options=tuple(sorted(options.items()))),))

    assert not same(probed(), probed(k=3))
    assert not same(probed(), probed(holdout_size=500))
    assert same(probed(), probed(holdout_size=5000))
    assert trajectory_id(probed()) == trajectory_id(probed(k=3)) == trajectory_id(cell(SGD))


@pytest.mark.parametrize(
    "of",
    [
        lambda seed: cell(*aligned(holdout_size=60, holdout_seed=seed)),
        lambda seed: cell(dataset=Choice.of("mnist-5k", labels="random", labels_seed=seed)),
        lambda seed: cell(
            probes=(Probe(name="curvature", options=(("holdout_seed", seed), ("holdout_size", 60))),)
        ),
        lambda seed: cell(
            probes=(Probe(name="overlap", options=(("holdout_seed", seed), ("holdout_size", 60), ("k", 2))),)
        ),
    ],
    ids=["condition", "labels", "probe", "overlap with k"],
)
def test_seeds_that_decide_something_stay(of: Callable[[int], Cell]) -> None:
    assert not same(of(0), of(7))


def test_stages() -> None:
    found = stages(
        cell(
            Phase(lr=0.2, until=10, alpha_dom=2, beta_bulk=2),
            Phase(lr=0.1, until=30),
            Phase(lr=9.0, until=30),
            Phase(lr=0.1, until=40, alpha_dom=INF),
            Phase(lr=0.1, until=50, beta_bulk=INF, k=3),
        )
    )
    assert found == (
        Stage(start=0, stop=30, optimizer=Choice("sgd"), dom_rate=0.1, bulk_rate=0.1, k=None),
        Stage(start=30, stop=40, optimizer=Choice("sgd"), dom_rate=0.0, bulk_rate=0.1, k=10),
        Stage(start=40, stop=50, optimizer=Choice("sgd"), dom_rate=0.1, bulk_rate=0.0, k=3),
    )
    assert [stage.projects for stage in found] == [False, True, True]


def test_a_condition_counts_from_the_start_of_its_own_phase() -> None:
    first = Condition(chi_above=0.5, at_most=40)
    second = Condition(chi_above=0.1, at_most=90, every=3)
    later = Phase(lr=0.1, until=100, alpha_dom=INF)

    def starts(*phases: Phase) -> list[int]:
        return [stage.start for stage in stages(cell(*phases, later))]

    assert starts(Phase(lr=0.1, until=60), Phase(lr=0.1, until=second)) == [0, 60, 90]
    assert starts(Phase(lr=0.1, until=first), Phase(lr=0.1, until=second)) == [0, 40, 90]
    assert not same(
        cell(Phase(lr=0.1, until=60), Phase(lr=0.1, until=second), later),
        cell(Phase(lr=0.1, until=second), later),
    )
    # One that only a step follows, with the same rule, decides nothing.
    assert starts(Phase(lr=0.1, until=first), Phase(lr=0.1, until=60)) == [0, 60]
    assert starts(Phase(lr=0.1, until=20), Phase(lr=0.1, until=first), Phase(lr=0.1, until=60)) == [0, 60]


def test_a_prefix_is_what_a_shorter_run_goes_through() -> None:
    long = cell(dataclasses.replace(SGD, until=40), dataclasses.replace(BULK, until=100))
    assert trajectory_id(long, until=40) == trajectory_id(cell(dataclasses.replace(SGD, until=40)))
    assert trajectory_id(long, until=30) == trajectory_id(cell(dataclasses.replace(SGD, until=30)))
    shorter = cell(dataclasses.replace(SGD, until=40), dataclasses.replace(BULK, until=70))
    assert trajectory_id(long, until=70) == trajectory_id(shorter)
    assert trajectory_id(long, until=41) != trajectory_id(cell(dataclasses.replace(SGD, until=41)))
    # Before it projects, the eigenspace is not part of it.
    other = dataclasses.replace(long, refresh_every=3)
    assert trajectory_id(long, until=40) == trajectory_id(other, until=40)
    assert trajectory_id(long, until=41) != trajectory_id(other, until=41)


def refusals() -> list[tuple[dict[str, Any], str]]:
    return [
        ({"phases": (Phase(lr=0.1, until=0),)}, "no phase has a step"),
        (
            {"phases": (SGD, Phase(lr=0.5, until=200), Phase(lr=0.5, until=50))},
            r"phases\.2\.until: found 50; this is the last phase, .* before phase 1, which ends at 200",
        ),
        # Also where the two would be one stage.
        ({"phases": (SGD, Phase(lr=0.1, until=50))}, r"phases\.1\.until: found 50"),
        ({"phases": (Phase(lr=0.1, until=5, optimizer="sdg"),)}, "Did you mean 'sgd'"),
        ({"phases": (Phase(lr=1e-320, until=5, alpha_dom=1e300, beta_bulk=INF),)}, "nothing would train"),
        ({"phases": (Phase(lr=1e300, until=5, alpha_dom=1e-300),)}, "too large"),
        ({"model": Choice("mpl")}, "Did you mean 'mlp'"),
        ({"model": Choice.of("mlp", width=3)}, "Did you mean 'widths'"),
        ({"dataset": Choice("minst-5k")}, "Did you mean 'mnist-5k'"),
        ({"loss": Choice("mes")}, "Did you mean 'mse'"),
        (
            {"dataset": Choice("sine"), "loss": Choice("cross_entropy"), "holdout_size": 60},
            "cross_entropy.* is of classes, .* of data set 'sine' are none: .* another loss: mse, output",
        ),
        ({"batch_size": 5001}, "batch_size: found 5001.*5000"),
        ({"phases": (BULK,), "holdout_size": 5001}, "holdout_size: found 5001.*5000"),
        (
            {"probes": (Probe(name="curvature", options=(("holdout_size", 5001),)),)},
            "holdout_size: found 5001.*5000",
        ),
        (
            {"probes": (Probe(name="subspace_overlap", options=(("k", 9),)),)},
            "sizes: found 10; with k = 9",
        ),
        ({"probes": (Probe(name="curvatur"),)}, "Did you mean 'curvature'"),
        ({"probes": (Probe(name="curvature", options=(("kk", 1),)),)}, "Did you mean 'k'"),
    ]


@pytest.mark.parametrize(("change", "says"), refusals())
def test_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        cell_id(dataclasses.replace(cell(), **change))


def test_both_divisors_infinite_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing would train"):
        Phase(lr=0.1, until=5, alpha_dom=INF, beta_bulk=INF)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_form_is_plain_json(name: str) -> None:
    form = canonical_form(GOLDEN[name][0])
    text = canonical_json(form)
    assert canonical_json(json.loads(text)) == text
    assert address(json.loads(text)) == cell_id(GOLDEN[name][0])


@pytest.mark.parametrize("name", GOLDEN)
def test_a_cell_survives_json(name: str) -> None:
    stated = GOLDEN[name][0]
    assert cell_from_json(json.loads(json.dumps(cell_to_json(stated)))) == stated


def test_every_data_set_has_a_digest() -> None:
    digests = [entry.digest for entry in DATASETS.values()]
    assert all(len(digest) >= 16 for digest in digests)
