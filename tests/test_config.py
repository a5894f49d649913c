import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from hwcli import config
from hwcli.config import RunConfig, Section, dump_yaml, load
from hwcli.errors import ConfigError
from hwcli.experiments import vit_sweep
from hwcli.ranges import IntRange, auto_or_number, parse_range
from hwcli.rnn.spec_file import read_spec
from hwcli.yaml_files import parse_yaml, read_yaml, spell


class Inner(Section):
    rate: float = Field(0.5, gt=0)
    kind: str = "a"


class Outer(RunConfig):
    epochs: int = Field(3, ge=1)
    layers: IntRange = (1, 2)
    inner: Inner = Inner()


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("4..8", (4, 5, 6, 7, 8)),
        ("4..8..2", (4, 6, 8)),
        ("4..9..2", (4, 6, 8)),
        ("256..2048*2", (256, 512, 1024, 2048)),
        ("3..20*2", (3, 6, 12)),
        ("2,3,5", (2, 3, 5)),
        ("-2..1", (-2, -1, 0, 1)),
        ("1..3, 7", (1, 2, 3, 7)),
        ("5", (5,)),
        (5, (5,)),
        ([2, "4..5"], (2, 4, 5)),
    ],
)
def test_every_spelling_of_a_range_is_read(text: object, numbers: tuple[int, ...]) -> None:
    assert parse_range(text) == numbers


@given(st.integers(-50, 50), st.integers(0, 40), st.integers(1, 9))
def test_a_stepped_range_is_pythons_range_with_its_end(first: int, length: int, step: int) -> None:
    numbers = parse_range(f"{first}..{first + length}..{step}")
    assert numbers == tuple(range(first, first + length + 1, step))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("8..4", "ends at 4, before its start 8"),
        ("4..99999999999", "more than 10,000 values"),
        ("1..5000,6001..12000", "more than 10,000 values"),
        ("2,x", "'x' is not a range"),
        ("", "'' is not a range"),
        ("1..4*1", "grows by 2 or more"),
        ("1..4..0", "step"),
        ("2,3,2", "2 is listed twice"),
        (True, "expected a range"),
        (2.5, "expected a range"),
        ([], "at least one"),
    ],
)
def test_a_bad_range_is_refused(text: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_range(text)


def test_a_number_may_be_auto() -> None:
    assert [auto_or_number(value) for value in ("auto", "3", 3)] == ["auto", 3, 3]
    for value in (0, "0", "-1", True, 1.5, "all", None):
        with pytest.raises(ValueError, match="expected auto, or a number from 1"):
            auto_or_number(value)


def test_values_come_from_yaml_then_preset_then_flags_then_set(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "epochs: 1\ninner: {rate: 0.1, kind: y}\npresets:\n  p: {epochs: 2, inner: {rate: 0.2}}\n",
    )

    def read(**more: object) -> Outer:
        return load(Outer, "c", path=path, **more)  # type: ignore[arg-type]

    assert (read().epochs, read().inner.rate, read().name) == (1, 0.1, "c")
    preset = read(preset="p")
    assert (preset.epochs, preset.inner.rate, preset.inner.kind) == (2, 0.2, "y")
    assert preset.name == "p"
    flagged = read(preset="p", flags={"epochs": "4", "name": None})
    assert (flagged.epochs, flagged.name) == (4, "p")
    last = read(preset="p", flags={"epochs": "4"}, overrides=["epochs=5", "inner.rate=1e-3"])
    assert (last.epochs, last.inner.rate) == (5, 0.001)


def test_the_files_own_preset_is_used_when_none_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "preset: p\npresets: {p: {epochs: 7}, q: {name: chosen}}\n")
    own = load(Outer, "c", path=path)
    # It is no run of the preset: the file may change more.
    assert (own.epochs, own.name) == (7, path.stem)
    assert load(Outer, "c", path=path, preset="q").name == "chosen"


def test_a_users_file_lies_over_the_shipped_one_at_any_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = write(
        tmp_path,
        "preset: p\nepochs: 1\ninner: {rate: 0.1, kind: y}\n"
        "presets:\n  p: {epochs: 2}\n  q: {epochs: 3, inner: {rate: 0.3}}\n",
    )
    monkeypatch.setattr(config, "default_config_path", lambda command: shipped)
    own = tmp_path / "my file.yaml"
    own.write_text("inner: {kind: z}\npresets: {q: {epochs: 4}, r: {name: other}}\n")

    def read(**more: object) -> tuple[str, int, float, str]:
        found = load(Outer, "c", **more)  # type: ignore[arg-type]
        return found.name, found.epochs, found.inner.rate, found.inner.kind

    assert read() == ("p", 2, 0.1, "y")
    assert read(path=own) == ("my-file", 2, 0.1, "z")
    assert read(path=own, preset="q") == ("q", 4, 0.3, "z")
    assert read(path=own, preset="r") == ("other", 1, 0.1, "z")
    assert read(path=own, flags={"inner": {"rate": 9}}) == ("my-file", 2, 9.0, "z")
    own.write_text("name: mine\npreset: q\n")
    assert read(path=own) == ("mine", 3, 0.3, "y")
    # What a file says besides its preset is not lost under it.
    own.write_text("name: mine\npreset: q\nepochs: 9\n")
    assert read(path=own) == ("mine", 9, 0.3, "y")
    assert read(path=own, preset="p") == ("mine", 2, 0.1, "y")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("实验", "mine"),
        ("Übung", "bung"),
        ("_wide", "wide"),
        ("Trials", "mine"),
        ("my Übung 3", "my-bung-3"),
        ("x" * 101, "x" * 100),
    ],
)
def test_any_file_and_any_preset_makes_a_run_that_may_have_its_name(
    tmp_path: Path, text: str, name: str
) -> None:
    path = tmp_path / f"{text}.yaml"
    path.write_text("epochs: 2\n")
    assert load(Outer, "c", path=path).name == name
    own = write(tmp_path, f"presets: {{{text}: {{epochs: 2}}}}\n")
    assert load(Outer, "c", path=own, preset=text).name == name
    assert read_spec(path)["name"] == ("spec" if name == "mine" else name)


def test_what_is_deleted_from_a_complete_file_has_the_shipped_value(tmp_path: Path) -> None:
    whole = load(vit_sweep.Config, "vit-sweep", preset="standard")
    assert (whole.optimizer.kind, whole.augmentation.early_tokens) == ("muon", 0.5)
    path = tmp_path / "mine.yaml"

    def read_without(section: str, key: str) -> vit_sweep.Config:
        values = parse_yaml(dump_yaml(whole))
        del values[section][key]
        path.write_text(spell(values))
        return load(vit_sweep.Config, "vit-sweep", path=path)

    # AdamW is the library's default, which is no command's.
    assert read_without("optimizer", "kind") == whole
    # Runs before this field trained on all tokens, and their files lack it.
    assert read_without("augmentation", "early_tokens").augmentation.early_tokens == 1


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", "0.001", "+1e-3"])
def test_scientific_notation_is_a_number(tmp_path: Path, text: str) -> None:
    assert read_yaml(write(tmp_path, f"rate: {text}"))["rate"] == 0.001


@pytest.mark.parametrize(
    ("yaml", "more", "line"),
    [
        ("epochs: 0", {}, "epochs = 0: Input should be greater than or equal to 1"),
        ("epochs: [1]", {}, "epochs = [1]: Input should be a valid integer"),
        ("epoch: 1", {}, "unknown key 'epoch': did you mean 'epochs'? choices: name, device, "),
        ("rate: 1", {}, "unknown key 'rate': did you mean 'inner.rate'? choices: name, device, "),
        ("inner: {rat: 1}", {}, "unknown key 'inner.rat': did you mean 'rate'? choices: rate, "),
        ("inner: {rate: .nan}", {}, "inner.rate = nan: Input should be a finite number"),
        ("inner: 3", {}, "inner = 3: Input should be a valid dictionary"),
        ("layers: 8..4", {}, "layers = '8..4': the range ends at 4, before its start 8"),
        ("device: tpu", {}, "device = 'tpu': Input should be 'auto', 'cpu', 'cuda' or 'mps'"),
        ("name: ../up", {}, "name = '../up': "),
        ("{}", {"preset": "nope"}, "preset = 'nope': unknown; choices: none in this file"),
        ("presets: {a: {}, b: {}}", {"preset": "c"}, "preset = 'c': unknown; choices: a, b"),
        ("presets: 3", {}, "presets = 3: expected a mapping"),
        ("{}", {"overrides": ["epochs"]}, "--set epochs: write KEY=VALUE"),
        ("{}", {"overrides": ["epochs=]"]}, "--set epochs=']': not a YAML value: line 1"),
        ("{}", {"overrides": ["epochs.x=1"]}, "epochs = {'x': 1}: "),
        ("epochs: 1", {"overrides": ["epochs.x=1"]}, "epochs.x: 'epochs' is a single value"),
        ("a: 1\na: 2", {}, "line 2: duplicate key 'a'"),
        ("a: [", {}, "not valid YAML: line 1: "),
        ("- 1", {}, "expected a mapping of names to values at the top"),
    ],
)
def test_a_mistake_is_one_line_with_key_value_and_choices(
    tmp_path: Path, yaml: str, more: dict[str, object], line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Outer, "c", path=write(tmp_path, yaml), **more)  # type: ignore[arg-type]
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1:30", "1:30"),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("2001-01-01", "2001-01-01"),
        ("1_000", "1_000"),
        ("true", True),
        ("~", None),
        ("", None),
        (".5", 0.5),
        ("1.", 1.0),
        ("0b1", "0b1"),
        ("<<", "<<"),
    ],
)
def test_numbers_and_words_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    assert read_yaml(write(tmp_path, f"a: {text}")) == {"a": value}
    # What is dumped as a text is read as one.
    if isinstance(value, str):
        config = Outer(inner=Inner(kind=text))
        assert load(Outer, "c", path=write(tmp_path, dump_yaml(config))).inner.kind == text


DEEP = 3000
# Each of these once ended in a traceback, without an answer, or in a message of megabytes.
ODD_YAML = {
    "a date that is none": "epochs: 2001-13-45",
    "a hexadecimal number without digits": "epochs: 0x_",
    "a tag that does not fit": "epochs: !!float abc",
    "another": "epochs: !!int abc",
    "a third": "epochs: !!bool maybe",
    "a fourth": "epochs: !!timestamp abc",
    "a tag that would run code": "epochs: !!python/object/apply:os.system [id]",
    "5,000 digits": "epochs: " + "9" * 5000,
    "a list that holds itself": "layers: &a [*a]",
    "a mapping that holds itself": "&a inner: *a",
    "a billion laughs": "a: &a [x, x]\n"
    + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "deep lists": "layers: " + "[" * DEEP,
    "deep lists that end": "layers: " + "[" * 900 + "]" * 900,
    "deep maps": "{a: " * DEEP,
    "deep blocks": "".join(" " * n + "a:\n" for n in range(400)),
    "a preset of the wrong kind": "preset: [quick]",
    "another kind": "preset: {a: 1}",
    "presets that are no mappings": "presets: {quick: 5}",
    "presets that are texts": "presets: {quick: abc}",
    "a long text": "epochs: " + "x" * 100_000,
    "a long key": "x" * 1000 + ": 1",
    "a long list": "epochs: [" + "1," * 30_000 + "]",
    "too many values": "epochs: [" + "1," * 400_000 + "]",
    "70,000 keys": "".join(f"k{n}: 1\n" for n in range(70_000)),
    "more than a megabyte": "#" * 1_100_000,
    "a key that is a list": "[1, 2]: 3",
    "a number for a key": "1: 2",
    "two documents": "epochs: 1\n--- \nepochs: 2",
    "a control character": "epochs: \x07",
    "a boolean for an integer": "epochs: true",
    "a boolean for a number": "inner: {rate: true}",
    "a boolean in a range": "layers: [true]",
    "a word for a number": "epochs: yes",
    "base 60": "epochs: 1:30",
    "beyond 64 bits": "epochs: 99999999999999999999",
    "a range beyond 64 bits": "layers: 99999999999999999999",
    "a long geometric range": "layers: 1..100000000000000000000*2",
    "a long range of ranges": "layers: 1..9000,9001..18000",
    "a long list of a range": "layers: '" + "1," * 200_000 + "1'",
    "digits of another script": "layers: \u0664",
    "infinity": "inner: {rate: .inf}",
    "a number too large": "inner: {rate: 1e999}",
}


@pytest.mark.parametrize("text", ODD_YAML.values(), ids=ODD_YAML)
def test_odd_yaml_is_one_short_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(Outer, "c", path=path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("override", ["epochs=--- 3\n--- 4", "layers=" + "[" * DEEP, "a" * 10**5])
def test_an_odd_override_is_one_short_line(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Outer, "c", path=write(tmp_path, ""), overrides=[override])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


def test_a_device_and_a_pipe_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigError, match="not a regular file"):
            read_yaml(path)


def test_a_missing_or_binary_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "b.yaml")


@given(
    st.integers(1, 10**6),
    st.floats(1e-30, 1e30),
    st.lists(st.integers(-9, 9), min_size=1, unique=True),
)
def test_a_dumped_config_reloads_to_an_equal_one(
    tmp_path_factory: pytest.TempPathFactory, epochs: int, rate: float, layers: list[int]
) -> None:
    config = Outer(epochs=epochs, layers=tuple(layers), inner=Inner(rate=rate, kind="1e-3"))
    path = write(tmp_path_factory.mktemp("dump"), dump_yaml(config))
    assert load(Outer, "c", path=path) == config
