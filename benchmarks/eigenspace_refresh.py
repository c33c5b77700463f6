"""Row 1: one refresh of the Dominant subspace along real trajectories, the tracker against its peers.

    python -m benchmarks.eigenspace_refresh --tune [--filter TEXT]      # settings of equal measured error
    python -m benchmarks.eigenspace_refresh [--filter TEXT] [--course 100] [--seconds 200] [--device cuda]
    python -m benchmarks.eigenspace_refresh --show

Every row is a network on a trajectory of SGD or Bulk-SGD at lr 0.05, after 100 steps of SGD, on which the
tracker refreshes `--course` times. At as many of these as fit into `--seconds`, evenly spread, all solvers
see the same weights, one after another in one process, in an order that rotates. Each is timed the second of
two times, and after what comes before a refresh in training, gradients of a minibatch: so that caches hold
what the solver left there itself, not what the one before it did. What is timed is all that a solver does to
get its basis: building the gradient graph or linearising, products, small algebra. The tracker's is in the
holdout's coordinates, as the trainer uses it; what it takes to give it over all parameters, as the peers do,
is shown beside it, and the ratios with it ("lifted").

Errors are against float64 ARPACK: of the projected minibatch gradient, relative to that and to the whole
gradient, and the sine of the largest principal angle. The first is large for any solver where a gradient has
next to nothing in the subspace, as happens now and then for one direction alone. `--tune` finds the loosest
setting on each peer's ladder whose median error at a few refreshes of the course is not above the tracker's,
beginning with that of the row most like it, and keeps them in `results/eigenspace_tuning.json`. Rows land one
by one in `results/eigenspace_refresh.json`, so a run may be cut short and continued.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.command import begin, results_name, surroundings
from benchmarks.course import Course
from benchmarks.environment import read_results, write_results
from benchmarks.peers import PEERS, Answer, Peer, installed
from benchmarks.problems import Error, Problem, Row, all_rows, floor_product
from benchmarks.timing import finish, median_ratio, seconds_of
from trainers.canonical import NUMERICS_VERSION

TRACKER = "tracker"
TUNING, RESULTS = "eigenspace_tuning", "eigenspace_refresh"
TUNING_REFRESHES, DEAR_TUNING_REFRESHES = 4, 2

NAMES = {
    "mlp100-relu": "MLP 100",
    "mlp200-tanh": "MLP 200",
    "cnn": "CNN",
    "cifar-shaped": "CIFAR-shaped",
    "sgd": "SGD",
    "bulk": "Bulk",
}
"""In tables."""

OLDER = " *"
"""In tables, of rows whose ARPACK had two threads of linear algebra in its way."""

SMALL_HOLDOUT = 50
"""Examples of a first call of each peer, which imports."""


@dataclass
class Measured:
    """What one solver did, a value per refresh."""

    seconds: list[float] = field(default_factory=list[float])
    lifting: list[float] = field(default_factory=list[float])
    answers: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    errors: list[Error] = field(default_factory=list[Error])

    @property
    def whole_seconds(self) -> list[float]:
        """With what it takes to give the basis over all parameters."""
        lifting = self.lifting or [0.0] * len(self.seconds)
        return [sum(pair) for pair in zip(self.seconds, lifting, strict=True)]

    def summary(self) -> dict[str, float]:
        projected = [error.projected for error in self.errors]
        lifting = {"lifting_milliseconds": 1e3 * statistics.median(self.lifting)} if self.lifting else {}
        return {
            "milliseconds": 1e3 * statistics.median(self.seconds),
            "products": statistics.median(answer[0] for answer in self.answers),
            "calls": statistics.median(answer[1] for answer in self.answers),
            "projected_error_median": statistics.median(projected),
            "projected_error_p90": float(np.quantile(projected, 0.9)),
            "whole_gradient_error_p90": float(np.quantile([error.whole for error in self.errors], 0.9)),
            "largest_angle_sine_median": statistics.median(error.angle for error in self.errors),
            "largest_angle_sine_p90": float(np.quantile([error.angle for error in self.errors], 0.9)),
        } | lifting


def timed(solve: Callable[[], Answer], device: str) -> tuple[float, Answer]:
    finish(device)
    begun = time.perf_counter()
    answer = solve()
    finish(device)
    return time.perf_counter() - begun, answer


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

    rung = 0 if hint is None else min(range(len(ladder)), key=lambda one: abs(ladder[one] - hint))
    # Twice in a row: with rungs so near, errors do not fall at each.
    while rung > 0 and (suffices(rung) or suffices(rung - 1)):
        rung -= 1
    while not suffices(rung) and rung + 1 < len(ladder):
        rung += 1
    return {"setting": ladder[rung], "error_median": found[rung]}


def tune(row: Row, device: str, length: int, before: dict[str, Any]) -> dict[str, Any]:
    """Return the cheapest setting of each peer whose median error is not above the tracker's.

    Args:
        row: The row.
        device: Torch device.
        length: Refreshes of the course.
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
    count, done = min(length, DEAR_TUNING_REFRESHES if dear else TUNING_REFRESHES), 0
    for number in range(count):
        # The middle of its share of the course.
        place = (2 * number + 1) * length // (2 * count)
        course.skip(place - done)
        done = place + 1
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
                errors.append(course.errors(found.whole, exact).projected)
            return errors

        hint = hints.get(name, {}).get("setting")
        settings[name] = loosest(peer.ladder(row.k), hint, errors_of, bound)
        if peer.takes_tolerance:
            shared = settings[name]
    return {
        "numerics_version": NUMERICS_VERSION,
        "course": length,
        "tracker_error_median": bound,
        "peers": settings,
    }


def stride(length: int, fitting: float) -> int:
    """Return how many refreshes of a course lie between two measured ones where so many of them fit."""
    return -(-length // max(1, min(length, int(fitting))))


def measure(row: Row, tuned: dict[str, Any], length: int, seconds: float, device: str) -> dict[str, Any]:
    course = Course(row, device)
    problem, tracker = course.problem, course.tracker
    floor = floor_product(row, tracker.width, device)
    peers = installed()
    measured = {name: Measured() for name in (TRACKER, *peers)}
    small = Problem(replace(row, holdout_size=SMALL_HOLDOUT), device)
    for name, peer in peers.items():
        peer.solve(small, tuned["peers"][name]["setting"], tracker.block)
    floors: list[float] = []
    done, every = 0, 1
    begun = time.perf_counter()
    while done < length:
        number, last = done // every, tracker.block
        answers: dict[str, Answer] = {}
        names = [*measured][number % len(measured) :] + [*measured][: number % len(measured)]
        for name in names:

            def solve(name: str = name, last: Tensor = last) -> Answer:
                if name == TRACKER:
                    return tracker()
                return peers[name].solve(problem, tuned["peers"][name]["setting"], last)

            with tracker.rehearsal():
                solve()
            course.steps()
            spent, answers[name] = timed(solve, device)
            measured[name].seconds.append(spent)
            if name == TRACKER:
                measured[name].lifting.append(seconds_of(lambda: tracker.basis, device))
        if floor is not None:
            floor()
            course.steps()
            floors.append(seconds_of(floor, device))
        exact = problem.reference(tracker.basis.sum(0))
        for name, answer in answers.items():
            if answer.lifted is not None:
                measured[name].lifting.append(seconds_of(answer.lifted, device))
            measured[name].answers.append((answer.products, answer.calls))
            basis = tracker.basis if name == TRACKER else answer.whole
            measured[name].errors.append(course.errors(basis, exact))
        course.next()
        if done == 0:
            every = stride(length, seconds / (time.perf_counter() - begun))
        skipped = min(every, length - done) - 1
        course.skip(skipped)
        done += 1 + skipped
    rows = {name: values.summary() for name, values in measured.items()}
    for name in peers:
        rows[name]["setting"] = tuned["peers"][name]["setting"]
    own = measured[TRACKER]
    ratios = {name: median_ratio(measured[name].seconds, own.seconds) for name in peers}
    ratios_lifted = {name: median_ratio(measured[name].whole_seconds, own.whole_seconds) for name in peers}
    return {
        "course": length,
        "refreshes": len(measured[TRACKER].seconds),
        "unconverged": course.unconverged,
        "block_width": tracker.width,
        "floor_milliseconds": 1e3 * statistics.median(floors) if floors else None,
        "ratios": ratios,
        "ratios_over_all_parameters": ratios_lifted,
        "solvers": rows,
    }


def fastest_peer(row: dict[str, Any]) -> str:
    """Return which of the peers that count took the least, as a median ratio to the tracker."""
    ratios: dict[str, float] = row["ratios"]
    return min((name for name in ratios if PEERS[name].counts), key=ratios.__getitem__)


COLUMNS = {
    "ms": ("milliseconds", ".1f"),
    "prod.": ("products", ".0f"),
    "calls": ("calls", ".0f"),
    "error": ("projected_error_median", ".1e"),
    "p90": ("projected_error_p90", ".1e"),
    "whole": ("whole_gradient_error_p90", ".1e"),
    "angle": ("largest_angle_sine_median", ".1e"),
}


def show(results: dict[str, Any]) -> None:
    print(f"{'row / solver':46}" + "".join(f"{name:>9}" for name in (*COLUMNS, "ratio", "lifted")))
    for key, row in results.get("rows", {}).items():
        floor = row["floor_milliseconds"]
        floor = "" if floor is None else f", floor of the block {floor:.1f} ms"
        of = f" of a course of {row['course']}" if "course" in row else ""
        print(f"{key}: {row['refreshes']} refreshes{of}, {row['unconverged']} not converged{floor}")
        for name, values in row["solvers"].items():
            ratio, lifting = row["ratios"].get(name), values.get("lifting_milliseconds")
            of = (format(values[of], form) if of in values else "" for of, form in COLUMNS.values())
            lifted = row.get("ratios_over_all_parameters", {}).get(name)
            last = "" if ratio is None else f"{ratio:.2f}", "" if lifted is None else f"{lifted:.2f}"
            print(
                f"    {name:42}"
                + "".join(f"{text:>9}" for text in (*of, *last))
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
        if found is not None and "openblas_threads" not in found["environment"]:
            text += OLDER
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
    parser.add_argument("--course", type=int, default=100, help="refreshes of a trajectory")
    parser.add_argument("--seconds", type=float, default=200.0, help="about how long a row is measured for")
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
            found = tune(row, arguments.device, arguments.course, results.get("rows", {}))
            found["environment"] = surroundings(arguments)
        else:
            tuned = read_results(TUNING).get("rows", {}).get(row.key, {})
            if (tuned.get("numerics_version"), tuned.get("course")) != (NUMERICS_VERSION, arguments.course):
                raise SystemExit(
                    f"{row.key} is not tuned for numerics version {NUMERICS_VERSION} and a course of "
                    f"{arguments.course} refreshes: --tune first"
                )
            if missing := set(installed()) - set(tuned["peers"]):
                raise SystemExit(
                    f"{row.key} is not tuned for {', '.join(sorted(missing))}: --tune --again first"
                )
            found = measure(row, tuned, arguments.course, arguments.seconds, arguments.device)
            found["environment"] = surroundings(arguments)
            show({"rows": {row.key: found}})
        results = read_results(name)
        write_results(name, {"rows": results.get("rows", {}) | {row.key: found}})


if __name__ == "__main__":
    main()
