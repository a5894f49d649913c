import pytest
import torch

from hwcli import processor, runtime
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
    ("flag", "fast"), [("avx2", False), ("avx512_bf16", True), ("amx_bf16", True)]
)
def test_bfloat16_is_fast_only_where_the_processor_says_so(
    flag: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "cpu_flags", lambda: frozenset({flag}))
    assert runtime.has_fast_bf16(torch.device("cpu")) is fast
    assert not runtime.has_fast_bf16(torch.device("mps"))


def test_every_library_that_computes_is_told_the_number_of_threads() -> None:
    told = runtime.worker_variables(3)
    for library in ("OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "VECLIB_MAXIMUM"):
        assert told[f"{library}_THREADS"] == "3"
