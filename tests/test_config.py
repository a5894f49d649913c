from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from hwcli import config
from hwcli.config import IntRange, RunConfig, Section, dump_yaml, load, parse_range, read_yaml
from hwcli.errors import ConfigError


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
        ("2,x", "'x' is no range"),
        ("", "'' is no range"),
        ("1..4*1", "grows by 2 or more"),
        ("1..4..0", "step"),
        ("2,3,2", "2 stands there twice"),
        (True, "expected a range"),
        (2.5, "expected a range"),
        ([], "at least one"),
    ],
)
def test_a_bad_range_is_refused(text: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_range(text)


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
    assert load(Outer, "c", path=path).epochs == 7
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
    assert read(path=own, preset="p") == ("mine", 2, 0.1, "y")


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", "0.001", "+1e-3"])
def test_scientific_notation_is_a_number(tmp_path: Path, text: str) -> None:
    assert read_yaml(write(tmp_path, f"rate: {text}"))["rate"] == 0.001


@pytest.mark.parametrize(
    ("yaml", "more", "line"),
    [
        ("epochs: 0", {}, "epochs = 0: Input should be greater than or equal to 1"),
        ("epochs: [1]", {}, "epochs = [1]: Input should be a valid integer"),
        ("epoch: 1", {}, "unknown key 'epoch': did you mean 'epochs'? choices: name, device, "),
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
        ("{}", {"overrides": ["epochs=]"]}, "--set epochs=]: ']' is not a YAML value"),
        ("{}", {"overrides": ["epochs.x=1"]}, "epochs = {'x': 1}: "),
        ("epochs: 1", {"overrides": ["epochs.x=1"]}, "epochs.x: 'epochs' is a single value"),
        ("a: 1\na: 2", {}, "line 2: 'a' stands there twice"),
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
