from pathlib import Path

import pytest

from hwcli import resources, system


def test_free_memory_is_some_and_no_more_than_the_machine_has() -> None:
    free, whole = resources.free_memory_bytes(), resources.memory_bytes()
    assert free is not None
    assert whole is not None
    assert 0 <= free <= whole


@pytest.mark.parametrize(
    "files",
    [
        {"memory.max": "1000", "memory.current": "700",
         "memory.stat": "anon 300\nactive_file 100\ninactive_file 200"},
        {"memory.limit_in_bytes": "1000", "memory.usage_in_bytes": "700",
         "memory.stat": "active_file 1\ntotal_active_file 100\ntotal_inactive_file 200"},
    ],
    ids=["version 2", "version 1"],
)  # fmt: skip
def test_a_control_group_leaves_its_limit_less_what_is_used_but_for_cached_files(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(resources, "_cgroup_folders", lambda _: [tmp_path / "gone", tmp_path])
    assert resources.free_memory_bytes() == 1000 - (700 - 300)


def test_a_quota_of_processor_time_counts_as_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: range(7), raising=False)
    monkeypatch.setattr(resources, "_cgroup_folders", lambda _: [tmp_path])
    assert resources.num_cores() == 7
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert resources.num_cores() == 3
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert resources.num_cores() == 7


def test_two_threads_of_a_core_count_as_one_where_processes_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "CPU_TOPOLOGY", tmp_path)
    monkeypatch.setattr(resources, "_cgroup_folders", lambda _: [])
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: range(4), raising=False)
    assert resources.slowdown_of_sharing(8) == 2.0  # nothing is known of these four
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(siblings + "\n")
    assert [resources.slowdown_of_sharing(number) for number in (1, 2, 3, 4)] == [1, 1, 1.5, 2]
    monkeypatch.setattr(resources, "num_cores", lambda: 1)  # a container's quota
    assert resources.slowdown_of_sharing(2) == 2


def test_workers_are_as_many_as_cores_or_as_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "num_cores", lambda: 8)
    for free, expected in (
        (4100, resources.WorkerLimit(3, "memory")),  # (4100 - 500) / 1000, whole ones
        (100, resources.WorkerLimit(1, "memory")),
        (8500, resources.WorkerLimit(8, "cores")),
        (None, resources.WorkerLimit(8, "cores")),
    ):
        monkeypatch.setattr(resources, "free_memory_bytes", lambda free=free: free)
        assert resources.worker_limit(1000, reserved_bytes=500) == expected


def test_only_the_fast_cores_of_an_apple_processor_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def num_cores(answer: str) -> int:
        monkeypatch.setattr(system, "output_of", lambda *command: answer)
        resources._performance_cores.cache_clear()
        return resources.num_cores()

    monkeypatch.setattr(resources.sys, "platform", "darwin")
    monkeypatch.delattr(resources.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(resources.os, "cpu_count", lambda: 11)
    monkeypatch.setattr(resources, "_cgroup_folders", lambda _: [])
    assert num_cores("") == 11  # an Intel processor knows no such name
    assert num_cores("5") == 5
    resources._performance_cores.cache_clear()
