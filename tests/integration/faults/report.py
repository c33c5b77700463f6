"""The fault matrix as JSON: of each test the seed, outcome, seconds and kills; where, and which commit."""

import re
from typing import Any

import pytest

from benchmarks.environment import describe, write_results
from tests.integration.faults.matrix import MATRIX

KILL = "kill"
"""Under this name tests note their kills in their properties."""

_SEED = re.compile(r"seed=(\d+)")


class Report:
    """Collects what pytest says of the tests in this folder, and writes it."""

    def __init__(self) -> None:
        self._environment = describe()
        self._rows: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test."""
        path, _, name = report.nodeid.partition("::")
        row = self._rows.setdefault(
            report.nodeid,
            {
                "fault": name.partition("[")[0].removeprefix("test_").replace("_", " "),
                "test": f"{path.rpartition('/')[2]}::{name}",
                "seed": int(match[1]) if (match := _SEED.search(name)) else None,
                "outcome": "passed",
                "seconds": 0.0,
                "kills": [],
            },
        )
        row["seconds"] = round(row["seconds"] + report.duration, 1)
        if report.outcome != "passed":
            row["outcome"] = report.outcome
            # A skip is (file, line, reason).
            row["reason"] = str(report.longrepr[2] if report.skipped else report.longrepr)[-2000:]
        row["kills"] = [value for key, value in report.user_properties if key == KILL]

        if report.when == "teardown":
            # After every test: a matrix takes long, and may be interrupted.
            rows = sorted(self._rows.values(), key=lambda row: row["test"])
            write_results(
                "faults", {"environment": self._environment, "seeds_per_fault": MATRIX, "tests": rows}
            )
