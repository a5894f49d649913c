import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hwcli import runtime
from hwcli.errors import ConfigError


def test_auto_takes_a_device_that_is_there() -> None:
    assert runtime.resolve_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else None
    expected = expected or ("mps" if torch.backends.mps.is_available() else "cpu")
    assert runtime.resolve_device("auto").type == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"device = 'cuda'.*choices here: auto, .*cpu"):
        runtime.resolve_device("cuda")


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("AMD EPYC (avx2, avx512_bf16, avx512f)", "AMD EPYC with AVX512-BF16"),
        ("Intel(R) Xeon(R) Processor (avx2)", "Intel(R) Xeon(R) Processor with AVX2"),
        ("Common KVM processor ()", "Common KVM processor"),
        ("arm64", "arm64"),
    ],
)
def test_a_processor_is_named_with_its_widest_vectors(name: str, short: str) -> None:
    assert runtime.short_cpu_name(name) == short


def test_the_fingerprint_is_json_without_absolute_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/hw2", "run", "--data=/a/b/imdb", "/x/y", "z/w"])
    print_ = runtime.fingerprint(dtype="bfloat16", num_threads=1)
    assert print_["command_line"] == ["hw2", "run", "--data=imdb", "y", "z/w"]
    assert (print_["dtype"], print_["threads"]) == ("bfloat16", 1)
    assert torch.__version__.startswith(print_["versions"]["torch"])
    json.dumps(print_, allow_nan=False)


def test_only_changed_code_makes_a_run_that_no_commit_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True)

    for name in ("hwcli/runtime.py", "configs/vit_sweep.yaml", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "hwcli/runtime.py"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/table.csv").write_text("results of one's own")
    assert runtime.fingerprint()["dirty"] is False
    for name in ("configs/vit_sweep.yaml", "hwcli/new.py"):
        (tmp_path / name).write_text("# changed")
        assert runtime.fingerprint()["dirty"] is True
        (tmp_path / name).write_text("")
    assert runtime.fingerprint()["dirty"] is True  # the new file is still there
    (tmp_path / "hwcli/new.py").unlink()
    assert runtime.fingerprint()["dirty"] is False


@pytest.mark.parametrize(
    ("flag", "fast"), [("avx2", False), ("avx512_bf16", True), ("amx_bf16", True)]
)
def test_bfloat16_is_fast_only_where_the_processor_says_so(
    flag: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "cpu_flags", lambda: frozenset({flag}))
    assert runtime.has_fast_bf16(torch.device("cpu")) is fast
    assert not runtime.has_fast_bf16(torch.device("mps"))


def test_a_gpu_that_emulates_bfloat16_is_described_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    for in_hardware, said in ((True, None), (False, "emulated")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: in_hardware)  # noqa: B023
        found = runtime.fingerprint(device="cuda", dtype="bfloat16")
        assert (found["gpu"], found.get("bfloat16")) == ("Tesla V100", said)
    assert "bfloat16" not in runtime.fingerprint(device="cuda", dtype="float32")


def test_free_memory_is_some_and_no_more_than_the_machine_has() -> None:
    free, whole = runtime.free_memory_bytes(), runtime.fingerprint()["memory_bytes"]
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
    monkeypatch.setattr(runtime, "_cgroup_folders", lambda _: [tmp_path / "gone", tmp_path])
    assert runtime.free_memory_bytes() == 1000 - (700 - 300)


def test_a_quota_of_processor_time_counts_as_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda _: range(7), raising=False)
    monkeypatch.setattr(runtime, "_cgroup_folders", lambda _: [tmp_path])
    assert runtime.num_cores() == 7
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert runtime.num_cores() == 3
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert runtime.num_cores() == 7


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Pretend to be on macOS, where commands answer what the test puts here."""
    cached = (
        *(runtime._performance_cores, runtime._machine_name),
        *(runtime.machine_id, runtime.host_id),
    )
    answers: dict[str, str] = {}
    monkeypatch.setattr(runtime.sys, "platform", "darwin")
    monkeypatch.setattr(runtime, "_output_of", lambda *command: answers.get(command[-1], ""))
    monkeypatch.setattr(runtime, "_process_space", lambda: "")
    monkeypatch.setattr(runtime, "_text_of", lambda path: "")
    monkeypatch.delattr(runtime.os, "sched_getaffinity", raising=False)
    for function in cached:
        function.cache_clear()
    yield answers
    for function in cached:
        function.cache_clear()


def test_only_the_fast_cores_of_an_apple_processor_count(
    on_a_mac: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.os, "cpu_count", lambda: 11)
    monkeypatch.setattr(runtime, "_cgroup_folders", lambda _: [])
    assert runtime.num_cores() == 11  # an Intel processor knows no such name
    runtime._performance_cores.cache_clear()
    on_a_mac["hw.perflevel0.logicalcpu"] = "5"
    assert runtime.num_cores() == 5


def test_a_mac_keeps_its_names_in_another_network_and_one_of_them_over_a_restart(
    on_a_mac: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(node: str, boot: str) -> tuple[str, str]:
        monkeypatch.setattr(runtime.platform, "node", lambda: node)
        on_a_mac["kern.bootsessionuuid"] = boot
        for function in (runtime._machine_name, runtime.machine_id, runtime.host_id):
            function.cache_clear()
        return runtime.machine_id(), runtime.host_id()

    at_home = names("mac.home", "A")
    assert names("mac.university", "A") != at_home  # the host name is all that is known
    on_a_mac["IOPlatformExpertDevice"] = '  "IOPlatformUUID" = "5C6B-11"\n'
    at_home = names("mac.home", "A")
    assert names("mac.university", "A") == at_home
    restarted = names("mac.home", "B")
    assert restarted[0] != at_home[0]
    assert restarted[1] == at_home[1]


def test_every_library_that_computes_is_told_the_number_of_threads() -> None:
    told = runtime.worker_variables(3)
    for library in ("OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "VECLIB_MAXIMUM"):
        assert told[f"{library}_THREADS"] == "3"


def test_two_threads_of_a_core_count_as_one_where_processes_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "CPU_TOPOLOGY", tmp_path)
    monkeypatch.setattr(runtime, "_cgroup_folders", lambda _: [])
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda _: range(4), raising=False)
    assert runtime.slowdown_of_sharing(8) == 2.0  # nothing is known of these four
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(siblings + "\n")
    assert [runtime.slowdown_of_sharing(number) for number in (1, 2, 3, 4)] == [1, 1, 1.5, 2]
    monkeypatch.setattr(runtime, "num_cores", lambda: 1)  # a container's quota
    assert runtime.slowdown_of_sharing(2) == 2


def test_workers_are_as_many_as_cores_or_as_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "num_cores", lambda: 8)
    for free, expected in (
        (4100, runtime.WorkerLimit(3, "memory")),  # (4100 - 500) / 1000, whole ones
        (100, runtime.WorkerLimit(1, "memory")),
        (8500, runtime.WorkerLimit(8, "cores")),
        (None, runtime.WorkerLimit(8, "cores")),
    ):
        monkeypatch.setattr(runtime, "free_memory_bytes", lambda free=free: free)
        assert runtime.worker_limit(1000, reserved_bytes=500) == expected
