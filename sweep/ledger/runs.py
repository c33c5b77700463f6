"""What sweeps and cells in MLflow have in common: an opened client, artifacts, searches by tag."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run, RunTag

from sweep.ledger.connection import Artifacts, all_experiments, translated

RUNS_PER_PAGE = 2000


class TaggedRuns:
    """Runs by their tags.

    Args:
        client: An opened MLflow.
        artifacts_root: Where experiments made here keep their artifacts; `None` leaves it to MLflow's server.
        given: Options of the command line that told where things are, for what is said to type next.
    """

    def __init__(
        self,
        client: MlflowClient,
        *,
        artifacts_root: Path | None = None,
        given: Mapping[str, str] | None = None,
    ) -> None:
        self.client = client
        self.artifacts = Artifacts(client)
        self.given = dict(given or {})
        self._artifacts_root = artifacts_root

    def _experiment_ids(self) -> list[str]:
        return [experiment.experiment_id for experiment in all_experiments(self.client)]

    def _search(self, experiment_ids: list[str], tag: str, value: str) -> list[Run]:
        """Return all runs that have a tag, the oldest first."""
        found: dict[str, Run] = {}
        for page in self._pages(experiment_ids, tag, value, RUNS_PER_PAGE):
            found.update((run.info.run_id, run) for run in page)
        return list(found.values())

    def _search_few(
        self, experiment_ids: list[str], tag: str, value: str, *, at_most: int
    ) -> list[Run] | None:
        """Return all runs that have a tag, or `None`, without reading them all, where there are more."""
        found: dict[str, Run] = {}
        for page in self._pages(experiment_ids, tag, value, min(at_most + 1, RUNS_PER_PAGE)):
            found.update((run.info.run_id, run) for run in page)
            if len(found) > at_most:
                return None
        return list(found.values())

    def _pages(self, experiment_ids: list[str], tag: str, value: str, size: int) -> Iterator[list[Run]]:
        """Yield the runs that have a tag, so many at a time, the oldest first; some are in two pages.

        MLflow counts its pages, so that a run that is deleted meanwhile would move another off the next one.
        Therefore each page begins anew with the start of the last run that has been seen.
        """
        since, token = 0, None
        while experiment_ids:
            page = self.client.search_runs(
                experiment_ids,
                filter_string=f"tags.`{tag}` = '{value}' AND attributes.start_time >= {since}",
                max_results=size,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield list(page)
            if not page.token:
                return
            last = page[-1].info.start_time
            # A whole page of one millisecond can only be counted.
            since, token = (last, None) if last > since else (since, page.token)

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        with translated("setting tags"):
            self.client.log_batch(run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])


def is_deleted(run: Run) -> bool:
    """Whether somebody has deleted a run, which MLflow keeps until its own garbage collection."""
    return run.info.lifecycle_stage != LifecycleStage.ACTIVE


def now_ms() -> int:
    """Return the time as MLflow counts it."""
    return time.time_ns() // 1_000_000
