"""What waits for a worker of a real Ray begins in the order that is wished by then."""

from pathlib import Path

from tests.forked import FORKED
from tests.integration.ray_head import RayHead
from tests.integration.reordered import NUM_PACKS, run_idle_packs


def test_packs_that_wait_for_a_worker_follow_another_order(tmp_path: Path, ray_head: RayHead) -> None:
    environment = {"RAY_AUTH_MODE": "disabled"}
    arguments = ray_head.address, environment, tmp_path
    process = FORKED.Process(target=run_idle_packs, args=arguments, daemon=True)
    process.start()
    try:
        process.join()
    finally:
        process.kill()
    assert process.exitcode == 0, (tmp_path / "said").read_text()
    began = [int(pack) for pack in (tmp_path / "began").read_text().split()]
    assert sorted(began) == list(range(NUM_PACKS)), "each once"
    # The first is whichever Ray has placed, and the worker of a second one may be on its way.
    assert began[2:] == sorted(began[2:], reverse=True), began
