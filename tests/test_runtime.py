import json
import sys

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


def test_the_fingerprint_is_json_without_absolute_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/hw2", "run", "--data=/a/b/imdb", "/x/y", "z/w"])
    print_ = runtime.fingerprint(dtype="bfloat16", num_threads=1)
    assert print_["command_line"] == ["hw2", "run", "--data=imdb", "y", "z/w"]
    assert (print_["dtype"], print_["threads"]) == ("bfloat16", 1)
    assert torch.__version__.startswith(print_["versions"]["torch"])
    json.dumps(print_, allow_nan=False)


def test_bfloat16_is_fast_only_where_the_processor_says_so() -> None:
    flags = runtime.cpu_flags()
    fast = "avx512_bf16" in flags or "amx_bf16" in flags
    assert runtime.has_fast_bf16(torch.device("cpu")) == fast
    assert not runtime.has_fast_bf16(torch.device("mps"))
