"""A name has one meaning: what is recognised by it is what is expected by it."""

import random
import re
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from hwcli.config import load
from hwcli.errors import ConfigError
from hwcli.experiments.rnn_trace import COMMAND, Config, alphabet_of
from hwcli.rnn.answer import answer
from hwcli.rnn.expectations import read_property
from hwcli.rnn.letters import BIT_PAIRS, BITS, Alphabet
from hwcli.rnn.named import DEFINITIONS, WEIGHED, definition
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.spec_fields import NAMES

Bits = Sequence[tuple[int, ...]]
THREE = tuple((n,) for n in (-1, 0, 1))


def number_of(bit: int, xs: Bits) -> int:
    return sum(x == bit for (x,) in xs)


# Each definition once more, by itself: what is expected after a sequence.
OVER_BITS: dict[str, Callable[[Bits], int]] = {
    "parity": lambda xs: number_of(1, xs) % 2,
    "parity-of-zeros": lambda xs: number_of(0, xs) % 2,
    "count-mod-3": lambda xs: number_of(1, xs) % 3,
    "last-input": lambda xs: xs[-1][0],
    "first-input": lambda xs: xs[0][0],
    "first-equals-last": lambda xs: int(xs[0] == xs[-1]),
    "latch-first-zero": lambda xs: int(number_of(0, xs) == 0),
    "latch-first-one": lambda xs: int(number_of(1, xs) == 0),
    "majority": lambda xs: (2 * number_of(1, xs) > len(xs)) - (2 * number_of(1, xs) < len(xs)),
    "count-ones": lambda xs: int(number_of(1, xs) > 0),
    "running-sum": lambda xs: int(number_of(1, xs) > 0),
    "last-nonzero-input": lambda xs: int(number_of(1, xs) > 0),
}
OVER_PAIRS: dict[str, Callable[[Bits], int]] = {
    "equality": lambda xs: int(all(a == b for a, b in xs)),
    "binary-addition": lambda xs: (
        sum((a + b) << t for t, (a, b) in enumerate(xs)) >> (len(xs) - 1) & 1
    ),
}


@pytest.mark.parametrize("name", [*OVER_BITS, *OVER_PAIRS])
def test_a_name_means_what_its_definition_says(name: str) -> None:
    letters = BIT_PAIRS if name in OVER_PAIRS else BITS
    wanted = read_property(name, Alphabet(letters))
    assert wanted.text == f"{name} ({definition(name)})"
    meant = {**OVER_BITS, **OVER_PAIRS}[name]
    for length in range(1, 6):
        for xs in product(letters, repeat=length):
            assert wanted.predict(xs) == meant(xs), xs


def test_over_other_numbers_the_sign_of_a_sum_is_meant() -> None:
    xs = ((1,), (1,), (-1,), (0,))
    signs = {"running-sum": 1, "alternating-sum": 1, "last-input": 0, "last-nonzero-input": -1,
             "moving-difference": 1, "majority": 0, "count-ones": 1}  # fmt: skip
    for name, sign in signs.items():
        assert read_property(name, Alphabet(THREE)).predict(xs) == sign, name
    with pytest.raises(ConfigError, match="first-input is about bits"):
        read_property("first-input", Alphabet(THREE))


def test_every_name_is_defined() -> None:
    named = {"count-mod-M" if name == "count-mod-3" else name for name in (*OVER_BITS, *OVER_PAIRS)}
    assert named | set(WEIGHED) == set(DEFINITIONS)
    assert definition("count-mod-7") == "the number of ones modulo 7"


def latch(**output: Any) -> dict[str, Any]:
    """Return a unit that turns 1 with the first one and stays so."""
    return {"w_in": 1, "w_rec": 1, "bias": "-1/2", "activation": "step",
            "output_activation": "identity", **output}  # fmt: skip


@pytest.mark.parametrize("spelled", ["", "ab", "10"])
@pytest.mark.parametrize(
    ("spec", "name"),
    [
        # 0 until the first one, then 1: not latch-first-one, which is 1 until then.
        (latch(w_out=1), "latch"),
        (latch(w_out=-1, output_bias=1), "latch-first-one"),
        (latch(w_out=-2, output_bias=1), "latch-first-one"),  # -1 stands for 0
        (latch(w_out=-2, output_bias=2), "latch"),  # 2 does not stand for 1
        ({**latch(w_out=1), "w_rec": 0}, "last-input"),
        ({**latch(w_out=-1, output_bias=1), "w_rec": 0}, "function-of-last-input"),
    ],
)
def test_what_is_recognised_by_a_name_passes_as_that_name_however_bits_are_spelled(
    spec: dict[str, Any], name: str, spelled: str
) -> None:
    network = NetworkSpec.model_validate(spec).network()
    # "10" gives each bit the other's name.
    alphabet = Alphabet(BITS, dict(zip(BITS, spelled, strict=True)) if spelled else {})
    for expected in ("latch-first-one", "last-input", "latch-first-zero"):
        found = answer(network, BITS, alphabet, max_states=100, seed=0, expected=expected)
        assert found.finding.id == name
        assert found.verdict is not None
        assert found.verdict.passed == (expected == name)


def test_of_pairs_of_bits_it_is_said_that_one_bit_is_read() -> None:
    with pytest.raises(ConfigError, match="parity is about 1 input per step: the network reads 2"):
        read_property("parity", Alphabet(BIT_PAIRS))


def test_networks_named_by_their_machine_pass_what_they_are_named() -> None:
    generator = random.Random(7)
    named = set()
    for _ in range(150):
        H = generator.choice((1, 2))
        spec = {
            "w_in": [[generator.choice((-1, 0, 1))] for _ in range(H)],
            "w_rec": [[generator.choice((-1, 0, 1)) for _ in range(H)] for _ in range(H)],
            "bias": [f"{generator.choice((-3, -1, 1, 3))}/2" for _ in range(H)],
            "w_out": [generator.choice((-1, 1)) for _ in range(H)],
            "output_bias": generator.choice((0, 1)),
            "activation": "step",
            "output_activation": generator.choice(("identity", "step", "sign")),
        }
        network = NetworkSpec.model_validate(spec).network()
        found = answer(network, BITS, Alphabet(BITS), max_states=100, seed=0)
        name = found.finding.id
        if name is None or definition(name) is None:
            continue
        named.add(name)
        again = answer(network, BITS, Alphabet(BITS), max_states=100, seed=0, expected=name)
        assert again.verdict is not None
        assert again.verdict.passed, (name, spec)
    assert {"last-input", "latch-first-one", "latch-first-zero"} <= named


@pytest.mark.parametrize("preset", ["parity", "count-mod-3", "latch-first-zero", "tanh-vanish"])
def test_presets_pass_the_name_that_they_are_recognised_by(preset: str) -> None:
    config = load(Config, COMMAND, preset=preset)
    network, alphabet = config.network.network(), alphabet_of(config)
    found = answer(network, alphabet.letters, alphabet, max_states=2000, seed=0)
    name = found.finding.id
    assert name == ("last-nonzero-input" if preset == "tanh-vanish" else preset)
    judged = answer(network, alphabet.letters, alphabet, max_states=2000, seed=0, expected=name)
    assert judged.verdict is not None
    assert judged.verdict.passed


def test_the_documented_names_are_those_that_are_understood() -> None:
    page = (Path(__file__).parents[2] / "docs/rnn-trace.md").read_text()
    documented = dict(re.findall(r"^\| `([\w-]+)`(?: \*)? \| (.+?) \| [a-z ]+ \|$", page, re.M))
    documented["count-mod-M"] = documented["count-mod-M"].removesuffix(", from 2 to 100")
    assert documented == DEFINITIONS
    # The names of weights too.
    for name in NAMES:
        assert f"`{name}`" in page
