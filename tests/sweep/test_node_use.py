"""How busy a node is: from the kernel's counters to the record's names."""

import socket
from pathlib import Path
from unittest.mock import Mock

import pytest

from sweep.forks import Sharing
from sweep.node_use import NodeMeter
from sweep.pack_events import PackEvents
from tests.sweep.small_sweep import make_cell
from trainers.canonical import cell_id


def test_use_is_what_happened_between_two_looks(tmp_path: Path) -> None:
    stat, meminfo = tmp_path / "stat", tmp_path / "meminfo"
    stat.write_text("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3\n")
    meminfo.write_text("MemTotal:  8192000 kB\nMemFree: 10 kB\nMemAvailable:  6144000 kB\n")
    meter = NodeMeter(tmp_path)
    # 30 busy ticks of 100; waiting for a disk is not busy, and guests were counted as users.
    stat.write_text("cpu  120 0 100 760 110 0 0 10 90 0\n")
    node, use = meter.look()
    assert node == socket.gethostname()
    assert use == {
        "cpu_utilization_percentage": 30.0,
        "system_memory_usage_megabytes": 2000.0,
        "system_memory_usage_percentage": 25.0,
    }
    assert "cpu_utilization_percentage" not in meter.look()[1], "no tick has passed"
    assert NodeMeter(tmp_path / "elsewhere").look() == (node, {})


def test_a_real_machine_is_between_idle_and_busy() -> None:
    meter = NodeMeter()
    sum(index * index for index in range(300_000))
    for value in meter.look()[1].values():
        assert value >= 0


def test_a_node_counts_once_with_all_its_trials() -> None:
    cells = {cell_id(cell): cell for cell in (make_cell(lr) for lr in (0.1, 0.2, 0.3))}
    sharing = {cell: Sharing() for cell in cells}
    events = PackEvents(cells, [[cell] for cell in cells], sharing, Mock(), Mock(), Mock(), print)
    for pack, node in enumerate(("a", "a", "b")):
        events.started(pack)
        events.observed(pack, node, {"cpu_utilization_percentage": 10.0 + pack})
    assert events.nodes() == {
        "a/cpu_utilization_percentage": 11.0,
        "b/cpu_utilization_percentage": 12.0,
        "a/trials_running": 2.0,
        "b/trials_running": 1.0,
    }
    assert events.nodes() == {"a/trials_running": 2.0, "b/trials_running": 1.0}, "between two commits"
    for pack in (0, 2):
        events.failed(pack, "broke", "")
    events.observed(1, "a", {})
    assert events.nodes() == {"a/trials_running": 1.0}
    events.let_go(1)
    assert events.nodes() == {}


@pytest.mark.parametrize("joined", [False, True])
def test_each_node_of_a_cluster_is_said_once_it_trains(joined: bool) -> None:
    cells = {cell_id(cell): cell for cell in (make_cell(lr) for lr in (0.1, 0.2, 0.3))}
    sharing, said = {cell: Sharing() for cell in cells}, list[str]()
    packs = [[cell] for cell in cells]
    events = PackEvents(cells, packs, sharing, Mock(), Mock(), Mock(), said.append, joined=joined)
    for pack, node in enumerate(("a", "b", "a")):
        events.observed(pack, node, {})
    assert said == (["a trains; 1 node so far", "b trains; 2 nodes so far"] if joined else [])


def test_a_gpu_is_looked_at_only_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (3 * 2**30, 4 * 2**30))
    assert not any("gpu" in name for name in NodeMeter().look()[1])
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    use = NodeMeter().look()[1]
    assert use["gpu_2_memory_usage_megabytes"] == 1024 and use["gpu_2_memory_usage_percentage"] == 25
