"""A thousand odd configs: each is taken, or refused in one short line, in seconds."""

import importlib
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hwcli import cli, schema
from hwcli.config import load
from hwcli.errors import ConfigError

ODD = [
    *("", "~", "null", "true", "yes", "no", "0", "-1", "1", "010", "0x_", "0b1", "1:30", "1_0"),
    *("9" * 20, "-" + "9" * 30, "9" * 5000, "1e400", "1e-400", ".inf", "-.inf", ".nan", "1/0"),
    *("4..8", "8..4", "1..9999999999", "1..100000000000000000000*2", "0..5..0", "1..9*1", "2,2"),
    *("[]", "{}", "[[[]]]", "[1, [2]]", "{a: 1}", "[*a]", "&a [*a]", "!!int x", "!!float x"),
    *("!!python/none", "!!binary x", "!!set {a}", "2001-13-45", "--- 3\n--- 4", "'", '"', "%a"),
    *("[" * 200, "[" * 3000, "{a: " * 500, "x" * 100_000, "1," * 30_000, "٤", "\x07", "\ud800"),
    *(
        "/dev/zero",
        "nowhere",
        "../..",
        "~root",
        "auto",
        "cpu",
        "bfloat16",
        "8GiB",
        "9" * 400 + "GiB",
    ),
]
# What the kernel counts a process's peak memory in.
MEMORY_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
LETTERS = "019-+.,:;*&!#%@'\"[]{}<>|=?~_ \n\tabexyzNT\\/é"


def odd_value(rng: random.Random) -> str:
    if rng.random() < 0.6:
        return rng.choice(ODD)
    return "".join(rng.choices(LETTERS, k=rng.randrange(1, 40)))


def odd_key(rng: random.Random, keys: list[str]) -> str:
    key = rng.choice(keys)
    match rng.randrange(10):
        case 0:
            return key + "." + rng.choice(keys)
        case 1:
            return key.rpartition(".")[0] or key[::-1]
        case 2:
            return odd_value(rng)
    return key


@pytest.mark.slow
@pytest.mark.parametrize("command", cli.COMMANDS)
@pytest.mark.parametrize("seed", range(5))
def test_an_odd_config_is_taken_or_refused_in_one_short_line(
    command: str, seed: int, tmp_path: Path
) -> None:
    print(f"seed {seed}")
    rng = random.Random(f"{command} {seed}")
    experiment: Any = importlib.import_module(f"hwcli.experiments.{command.replace('-', '_')}")
    keys = [*dict(schema.fields(schema.read_schema(command))), "preset", "presets", "model", "x"]
    path = tmp_path / "c.yaml"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(50):
        key, value = odd_key(rng, keys), odd_value(rng)
        overrides = [f"{odd_key(rng, keys)}={odd_value(rng)}" for _ in range(rng.randrange(2))]
        text = f"{key.replace('.', ': {')}: {value}{'}' * key.count('.')}"
        path.write_bytes(text.encode(errors="surrogatepass"))
        flags = {rng.choice(keys): odd_value(rng)} if rng.random() < 0.5 else {}
        started, line = time.process_time(), ""
        said = f"case {number}: {text[:200]!r}, {flags!r:.200}, {overrides!r:.200}"
        try:
            load(experiment.Config, command, path=path, flags=flags, overrides=overrides)
        except ConfigError as error:
            line = str(error)
        except Exception as error:
            raise AssertionError(said) from error
        assert "\n" not in line, said
        assert len(line) <= 300, said
        assert time.process_time() - started < 10, said
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * MEMORY_UNIT_BYTES < 500 * 2**20
