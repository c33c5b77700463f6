"""Row 1: one refresh of the Dominant subspace along real trajectories, the tracker against its peers.

    python -m benchmarks.eigenspace_refresh --tune [--filter TEXT]      # settings of equal measured error
    python -m benchmarks.eigenspace_refresh [--filter TEXT] [--refreshes 100] [--seconds 200] [--device cuda]
    python -m benchmarks.eigenspace_refresh --show

Every row is a network on a trajectory of SGD or Bulk-SGD at lr 0.05, after 100 steps of SGD. At every refresh
all solvers see the same weights, one after another in one process, in an order that rotates, each after a
pause and what comes before a refresh in training: gradients of a minibatch. What is timed is all that a
solver does to get its basis: building the gradient graph or linearising, products, small algebra. The
tracker's is in the holdout's coordinates, as the trainer uses it; what it takes to give it over all
parameters, as the peers do, is shown beside it.

Errors are against float64 ARPACK: of the projected minibatch gradient (relative), and the sine of the largest
principal angle. `--tune` finds the loosest setting on each peer's ladder whose median error is not above the
tracker's, beginning with that of the row most like it, and keeps them in `results/eigenspace_tuning.json`.
Rows land one by one in `results/eigenspace_refresh.json`, so a run may be cut short and continued. A row ends
after `--refreshes`, or after `--seconds`, and says how many.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.command import begin, results_name, surroundings
from benchmarks.environment import read_results, write_results
from benchmarks.peers import PEERS, Answer, Peer, installed
from benchmarks.problems import WARM_UP, Error, Problem, Row, all_rows, error_of, floor_product
from benchmarks.timing import finish, median_ratio, seconds_of
from trainers.canonical import NUMERICS_VERSION
from trainers.cell import Solver
from trainers.eigenpairs import Warm
from trainers.eigenspace import block_width, refresh
from trainers.first_block import Operator, WarmBlock
from trainers.objective import CurvatureProduct
from trainers.randomness import generator

TRACKER = "tracker"
TUNING, RESULTS = "eigenspace_tuning", "eigenspace_refresh"
SETTLING, TUNING_REFRESHES, DEAR_TUNING_REFRESHES = 3, 4, 2
SOLVER = Solver()

NAMES = {
    "mlp100-relu": "MLP 100",
    "mlp200-tanh": "MLP 200",
    "cnn": "CNN",
    "cifar-shaped": "CIFAR-shaped",
    "sgd": "SGD",
    "bulk": "Bulk",
}
"""In tables."""

PAUSE = 0.2
"""Seconds before each timing. SciPy's and torch's linear algebra have threads of their own, which go on
waiting actively after a call: without a pause each solver shares the cores with those of the one before."""

WAKING = 10
"""Gradients after a pause: cores that have slept are slow for some milliseconds."""

SMALL_HOLDOUT = 50
"""Examples of a first call of each peer, which imports."""


class Tracker:
    """The project's tracker, warm from refresh to refresh, in the holdout's coordinates as in training."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._coordinates = problem.objective.coordinates(problem.holdout[0])
        self._size = problem.num_params if self._coordinates is None else self._coordinates.size
        self.width = block_width(problem.row.k, problem.targets.shape[1], SOLVER.guard, self._size)
        self._warm: Warm | None = None
        self._block = WarmBlock(k=[problem.row.k], tolerance=SOLVER.tolerance, replayable=True)

    def _linearise(self, params_NP: Tensor) -> CurvatureProduct:
        return self._problem.curvature(self._coordinates, params_NP)

    def __call__(self) -> Answer:
        """Refresh as the trainer does: on a GPU, what comes first is replayed."""
        params, calls = self._problem.params, 0
        if self._warm is None:
            operator = Operator(product=self._linearise(params))
        else:
            operator = self._block.begin(self._linearise, params, self._warm)
            calls = 1

        def counting(block: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return operator.product(block)

        space = refresh(
            replace(operator, product=counting, of_lanes=None),
            self._warm,
            self._random_block,
            k=self._problem.row.k,
            tolerance=SOLVER.tolerance,
            max_products=SOLVER.max_products,
            max_cold_products=SOLVER.max_cold_products,
        )
        self._warm = Warm(block_NWP=self._block.keep(space.basis_NWP), floor_N=space.floor_N)
        self.converged = bool(space.converged_N[0])
        return Answer(basis=self.leading, products=int(space.products_N[0]), calls=calls)

    @property
    def leading(self) -> Tensor:
        """The Dominant basis in the holdout's coordinates, which is how the trainer projects with it."""
        assert self._warm is not None
        return self._warm.block_NWP[0, : self._problem.row.k]

    @property
    def basis(self) -> Tensor:
        """The Dominant basis over all parameters, (K, P)."""
        return self._lifted(self.leading)

    @property
    def block(self) -> Tensor:
        """All that is carried on, (W, P)."""
        assert self._warm is not None
        # On a GPU the next refresh puts its block where this one is.
        return self._lifted(self._warm.block_NWP[0]).clone()

    def _lifted(self, vectors: Tensor) -> Tensor:
        return vectors if self._coordinates is None else self._coordinates.lift(vectors)

    def _random_block(self) -> Tensor:
        draw = generator(0, "block/eigenspace", self._problem.step)
        return torch.randn(1, self.width, self._size, generator=draw).to(self._problem.device)


@dataclass
class Measured:
    """What one solver did, a value per refresh."""

    seconds: list[float] = field(default_factory=list[float])
    lifting: list[float] = field(default_factory=list[float])
    answers: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    errors: list[Error] = field(default_factory=list[Error])

    def summary(self) -> dict[str, float]:
        projected = [error.projected for error in self.errors]
        lifting = {"lifting_milliseconds": 1e3 * statistics.median(self.lifting)} if self.lifting else {}
        return {
            "milliseconds": 1e3 * statistics.median(self.seconds),
            "products": statistics.median(answer[0] for answer in self.answers),
            "calls": statistics.median(answer[1] for answer in self.answers),
            "projected_error_median": statistics.median(projected),
            "projected_error_p90": float(np.quantile(projected, 0.9)),
            "largest_angle_sine_median": statistics.median(error.angle for error in self.errors),
        } | lifting


def timed(solve: Callable[[], Answer], device: str) -> tuple[float, Answer]:
    finish(device)
    begun = time.perf_counter()
    answer = solve()
    finish(device)
    return time.perf_counter() - begun, answer


class Course:
    """A row's trajectory, refresh by refresh, with the tracker on it."""

    def __init__(self, row: Row, device: str) -> None:
        self.row = row
        self.problem = Problem(row, device)
        self.problem.advance(WARM_UP, None)
        self.tracker = Tracker(self.problem)
        for _ in range(SETTLING):
            self.tracker()
            self.next()

    def next(self) -> None:
        self.problem.advance(self.row.period, self.tracker.basis if self.row.optimizer == "bulk" else None)

    def pause(self) -> None:
        """Let threads of others come to rest, and do what comes before a refresh."""
        time.sleep(PAUSE)
        for _ in range(WAKING):
            self.problem.gradient()

    def errors(self, basis: Tensor, exact: Tensor) -> Error:
        return error_of(basis, exact, self.problem.gradient())


def loosest(
    ladder: Sequence[float], hint: float | None, errors_of: Callable[[float], list[float]], bound: float
) -> dict[str, float]:
    """Return the loosest setting of a ladder whose median error is at most `bound`, or the tightest.

    Errors fall along the ladder, so that it is climbed or descended from the hint, from where it is near.
    """
    found: dict[int, float] = {}

    def suffices(rung: int) -> bool:
        if rung not in found:
            found[rung] = statistics.median(errors_of(ladder[rung]))
        return found[rung] <= bound

    rung = ladder.index(hint) if hint in ladder else 0
    while rung > 0 and suffices(rung):
        rung -= 1
    while not suffices(rung) and rung + 1 < len(ladder):
        rung += 1
    return {"setting": ladder[rung], "error_median": found[rung]}


def tune(row: Row, device: str, before: dict[str, Any]) -> dict[str, Any]:
    """Return the cheapest setting of each peer whose median error is not above the tracker's.

    Args:
        row: The row.
        device: Torch device.
        before: What was found for other rows, by key: where to begin.
    """
    own_key, hints = row.key.split("/"), dict[str, Any]()
    alike = {key: sum(map(str.__eq__, key.split("/"), own_key)) for key in before if f"/k={row.k}/" in key}
    for key in sorted(alike, key=alike.__getitem__):
        hints |= before[key]["peers"]
    course = Course(row, device)
    points: list[tuple[int, Tensor, Tensor, Tensor]] = []
    own: list[float] = []
    dear = row.holdout_size >= 5000 or row.model == "cnn"
    for _ in range(DEAR_TUNING_REFRESHES if dear else TUNING_REFRESHES):
        last = course.tracker.block
        course.tracker()
        exact = course.problem.reference(course.tracker.basis.sum(0))
        own.append(course.errors(course.tracker.basis, exact).projected)
        points.append((course.problem.step, course.problem.params, exact, last))
        course.next()
    bound = statistics.median(own)
    settings: dict[str, Any] = {}
    shared: dict[str, float] = {}
    for name, peer in installed().items():
        if peer.takes_tolerance and shared:
            # The setting is that of the first.
            settings[name] = dict(shared)
            continue

        def errors_of(setting: float, peer: Peer = peer) -> list[float]:
            errors: list[float] = []
            for step, params, exact, last in points:
                course.problem.step, course.problem.params = step, params
                found = peer.solve(course.problem, setting, last)
                errors.append(course.errors(found.basis, exact).projected)
            return errors

        hint = hints.get(name, {}).get("setting")
        settings[name] = loosest(peer.ladder(row.k), hint, errors_of, bound)
        if peer.takes_tolerance:
            shared = settings[name]
    return {"numerics_version": NUMERICS_VERSION, "tracker_error_median": bound, "peers": settings}


def measure(row: Row, tuned: dict[str, Any], refreshes: int, seconds: float, device: str) -> dict[str, Any]:
    course = Course(row, device)
    problem, tracker = course.problem, course.tracker
    floor = floor_product(row, tracker.width, device)
    peers = {name: peer for name, peer in installed().items() if name in tuned["peers"]}
    measured = {name: Measured() for name in (TRACKER, *peers)}
    small = Problem(replace(row, holdout_size=SMALL_HOLDOUT), device)
    for name, peer in peers.items():
        peer.solve(small, tuned["peers"][name]["setting"], tracker.block)
    floors: list[float] = []
    unconverged = 0
    begun = time.perf_counter()
    for number in range(refreshes):
        if number and time.perf_counter() - begun > seconds:
            break
        last = tracker.block
        answers: dict[str, Answer] = {}
        names = [*measured][number % len(measured) :] + [*measured][: number % len(measured)]
        for name in names:

            def solve(name: str = name, last: Tensor = last) -> Answer:
                if name == TRACKER:
                    return tracker()
                return peers[name].solve(problem, tuned["peers"][name]["setting"], last)

            course.pause()
            spent, answers[name] = timed(solve, device)
            measured[name].seconds.append(spent)
            if name == TRACKER:
                measured[name].lifting.append(seconds_of(lambda: tracker.basis, device))
        if floor is not None:
            course.pause()
            floors.append(seconds_of(floor, device))
        unconverged += not tracker.converged
        exact = problem.reference(tracker.basis.sum(0))
        for name, answer in answers.items():
            measured[name].answers.append((answer.products, answer.calls))
            basis = tracker.basis if name == TRACKER else answer.basis
            measured[name].errors.append(course.errors(basis, exact))
        course.next()
    rows = {name: values.summary() for name, values in measured.items()}
    for name in peers:
        rows[name]["setting"] = tuned["peers"][name]["setting"]
    ratios = {name: median_ratio(measured[name].seconds, measured[TRACKER].seconds) for name in peers}
    return {
        "refreshes": len(measured[TRACKER].seconds),
        "unconverged": unconverged,
        "block_width": tracker.width,
        "floor_milliseconds": 1e3 * statistics.median(floors) if floors else None,
        "ratios": ratios,
        "solvers": rows,
    }


def fastest_peer(row: dict[str, Any]) -> str:
    """Return which of the peers that count took the least, as a median ratio to the tracker."""
    ratios: dict[str, float] = row["ratios"]
    return min((name for name in ratios if PEERS[name].counts), key=ratios.__getitem__)


def show(results: dict[str, Any]) -> None:
    print(
        f"{'row / solver':52}{'ms':>9}{'prod.':>7}{'calls':>7}{'error':>9}{'p90':>9}{'angle':>9}{'ratio':>7}"
    )
    for key, row in results.get("rows", {}).items():
        floor = row["floor_milliseconds"]
        floor = "" if floor is None else f", floor of the block {floor:.1f} ms"
        print(f"{key}: {row['refreshes']} refreshes, {row['unconverged']} not converged{floor}")
        for name, values in row["solvers"].items():
            ratio, lifting = row["ratios"].get(name), values.get("lifting_milliseconds")
            print(
                f"    {name:48}{values['milliseconds']:9.1f}{values['products']:7.0f}{values['calls']:7.0f}"
                f"{values['projected_error_median']:9.1e}{values['projected_error_p90']:9.1e}"
                f"{values['largest_angle_sine_median']:9.1e}"
                + ("" if ratio is None else f"{ratio:7.2f}")
                + ("" if lifting is None else f"  + {lifting:.1f} ms over all parameters")
            )


def matrix(results: dict[str, Any]) -> str:
    """Return the ratios to the fastest peer as a table in Markdown; empty where nothing was measured."""
    networks: dict[tuple[str, str, int], dict[tuple[int, int, str], str]] = {}
    for row in all_rows():
        columns = networks.setdefault((row.data, row.model, row.holdout_size), {})
        found = results.get("rows", {}).get(row.key)
        ratio = None if found is None else found["ratios"][fastest_peer(found)]
        text = "" if ratio is None else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"
        columns[row.k, row.period, row.optimizer] = text
    settings = sorted(next(iter(networks.values())), key=lambda one: (one[0], -one[1], one[2] != "sgd"))
    named = [f"k = {k}, T = {period}, {NAMES[optimizer]}" for k, period, optimizer in settings]
    lines = [["", *named], ["---"] * (1 + len(named))]
    for (data, model, size), columns in networks.items():
        name = ", ".join([NAMES[model], *([NAMES[data]] if data in NAMES else []), f"l = {size:,}"])
        lines.append([name, *(columns[one] for one in settings)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--filter", default="", help="only rows whose key contains this")
    parser.add_argument("--refreshes", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=200.0, help="most a row is measured for")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--again", action="store_true", help="also the rows that are there already")
    parser.add_argument("--show", action="store_true", help="print what is there and measure nothing")
    arguments = begin(parser)
    name = TUNING if arguments.tune else results_name(RESULTS, arguments)
    if arguments.show:
        show(read_results(name))
        if not arguments.tune:
            print(f"\n{matrix(read_results(name))}")
        return
    for row in all_rows():
        results = read_results(name)
        there = row.key in results.get("rows", {})
        if arguments.filter not in row.key or (there and not arguments.again):
            continue
        if arguments.tune:
            found = tune(row, arguments.device, results.get("rows", {}))
        else:
            tuned = read_results(TUNING).get("rows", {}).get(row.key, {})
            if tuned.get("numerics_version") != NUMERICS_VERSION:
                raise SystemExit(
                    f"{row.key} is not tuned for numerics version {NUMERICS_VERSION}: --tune first"
                )
            found = measure(row, tuned, arguments.refreshes, arguments.seconds, arguments.device)
            found["environment"] = surroundings(arguments)
            show({"rows": {row.key: found}})
        results = read_results(name)
        write_results(name, {"rows": results.get("rows", {}) | {row.key: found}})


if __name__ == "__main__":
    main()
