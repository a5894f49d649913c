"""YAML and flags in, one frozen config out; every mistake is one line with its dotted key.

Values come in the order shipped YAML < the user's YAML < preset < flags < ``--set a.b=value``;
each layer may hold as little as it changes, at any depth. A YAML file spells one pydantic model,
which lives in the module of its experiment. Two keys belong to the file and not to the model:
``presets`` (named partial mappings) and ``preset`` (the one used by default).

Defaults stand once. The shipped YAML holds every default of a command, so the fields of an
experiment's own config have none in Python. Sections that are also used as a library
(``ViTConfig(width=96)``) have neutral ones, which no command ever sees.
"""

import difflib
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from hwcli.errors import ConfigError

MAX_RANGE_LENGTH = 10_000


def flatten(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings by their dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class Section(BaseModel):
    """A frozen mapping that refuses keys it does not know, and numbers that are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_odd_scalars(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool):
            types = _types_in(cls.model_fields[info.field_name or ""].annotation)
            if types & {int, float} and bool not in types:
                raise ValueError("expected a number")
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("is not valid UTF-8") from None
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _refuse_huge_integers(cls, value: Any, info: ValidationInfo) -> Any:
        if type(value) is int and int in _types_in(
            cls.model_fields[info.field_name or ""].annotation
        ):
            _check_size(value)
        return value


def _types_in(annotation: object) -> set[object]:
    return {annotation}.union(*map(_types_in, get_args(annotation)))


def _check_size(number: int) -> None:
    if not -(2**63) <= number < 2**63:
        raise ValueError("a number beyond 64 bits")


def _folder_name(name: str) -> str:
    # A sweep keeps its trials in a folder of that name, next to its runs.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == "trials":
        raise ValueError("expected a folder's name of letters, digits, . _ -, other than trials")
    return name


class RunConfig(Section):
    """What every experiment's config starts with; no YAML needs to spell it."""

    name: Annotated[str, AfterValidator(_folder_name)] = Field(
        "default", description="Name of the run folder; by default the name of the preset."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Device to compute on: auto, cpu, cuda or mps."
    )


C = TypeVar("C", bound=RunConfig)


# --------------------------------------------------------------------------------------
# Ranges


def parse_range(value: object) -> tuple[int, ...]:
    """Expand ``4..8``, ``4..8..2``, ``256..65536*2``, ``2,3,4`` or ``5`` into integers.

    Ranges include their end where a step meets it; parts joined by commas are concatenated.
    Integers and lists of integers pass through.

    Raises:
        ValueError: the text is no range, is empty, repeats a value, or has over 10,000 values
            (refused before it is expanded).
    """
    if isinstance(value, bool):
        raise ValueError("expected a range such as 4..8, 2,3,4 or 5")
    if isinstance(value, int):
        _check_size(value)
        return (value,)
    if isinstance(value, list | tuple) and len(value) > MAX_RANGE_LENGTH:
        raise ValueError(f"more than {MAX_RANGE_LENGTH:,} values")
    if isinstance(value, list | tuple):
        parts: list[Sequence[int]] = [parse_range(part) for part in value]
    elif isinstance(value, str):
        texts = value.split(",", maxsplit=MAX_RANGE_LENGTH)
        if len(texts) > MAX_RANGE_LENGTH:
            raise ValueError(f"more than {MAX_RANGE_LENGTH:,} values")
        parts = [_parse_part(part.strip()) for part in texts]
    else:
        raise ValueError("expected a range such as 4..8, 2,3,4 or 5")
    if sum(map(len, parts)) > MAX_RANGE_LENGTH:
        raise ValueError(f"more than {MAX_RANGE_LENGTH:,} values")
    numbers = tuple(number for part in parts for number in part)
    if not numbers:
        raise ValueError("a range needs at least one value")
    seen: set[int] = set()
    for number in numbers:
        if number in seen:
            raise ValueError(f"{number} is listed twice")
        seen.add(number)
    return numbers


_PART = re.compile(r"(-?\d+)(?:\.\.(-?\d+)(?:\.\.(\d+)|\*(\d+))?)?", re.ASCII)
LONGEST_PART = 90  # four numbers of 64 bits


def _parse_part(text: str) -> Sequence[int]:
    match = _PART.fullmatch(text) if len(text) <= LONGEST_PART else None
    if match is None:
        raise ValueError(
            f"{_short(text)} is not a range; "
            "write 4..8, 4..8..2, 256..65536*2, 2,3,4 or one integer"
        )
    first, last, step, factor = (None if g is None else int(g) for g in match.groups())
    assert first is not None
    for number in (first, last, step, factor):
        _check_size(number or 0)
    if last is None:
        return (first,)
    if last < first:
        raise ValueError(f"the range ends at {last}, before its start {first}")
    if factor is not None:
        if factor < 2 or first < 1:
            raise ValueError("a geometric range starts at 1 or more and grows by 2 or more")
        numbers = [first]
        while numbers[-1] * factor <= last:
            numbers.append(numbers[-1] * factor)
        return numbers
    step = 1 if step is None else step
    if step < 1:
        raise ValueError("the step of a range is 1 or more")
    if (last - first) // step + 1 > MAX_RANGE_LENGTH:
        raise ValueError(f"more than {MAX_RANGE_LENGTH:,} values")
    return range(first, last + 1, step)


IntRange = Annotated[tuple[int, ...], BeforeValidator(parse_range)]
"""A config field that takes any spelling of :func:`parse_range`."""


# --------------------------------------------------------------------------------------
# YAML


MAX_YAML_BYTES = 1_000_000
MAX_YAML_NODES = 20_000
MAX_YAML_DEPTH = 50


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema, without aliases, repeated keys and files that never end.

    ``1e-3`` is a number and ``010`` is 10; ``no``, ``1:30`` and ``2001-01-01`` are texts.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012  (each class has its own, as PyYAML wants it)
    _num_nodes = _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._num_nodes += 1
        if self._num_nodes > MAX_YAML_NODES:
            raise yaml.YAMLError(f"more than {MAX_YAML_NODES:,} values")
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"line {line}: aliases are not supported; write the value out")
        self._depth += 1
        if self._depth > MAX_YAML_DEPTH:
            raise yaml.YAMLError("nested too deeply")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | None):
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: a key must be a name")
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: duplicate key {_short(key)}")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def _integer(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        if len(text) > 400:
            raise yaml.YAMLError(f"{_short(text)} has more than 400 digits")
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that :class:`_Loader` would read as something else."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (each class has its own, as PyYAML wants it)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader._integer)
for _class in (_Loader, _Dumper):
    for _tag, _pattern, _first in (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
        (
            "float",
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
            list("-+.0123456789"),
        ),
    ):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first
        )


def parse_yaml(text: str) -> Any:
    """Read a text of YAML 1.2.

    Raises:
        ValueError: it is not valid; one line says where.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{where}{error.problem}") from None
    # Its constructors let through what Python says of a number or a tag that is none.
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        ConfigError: the file is missing, unreadable, too large, malformed, or holds no mapping.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_YAML_BYTES + 1)
        if len(content) > MAX_YAML_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_YAML_BYTES // 10**6} MB")
        document = parse_yaml(content.decode("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason})") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError(f"{path}: expected a mapping of names to values at the top")
    return document


def dump_yaml(config: Section) -> str:
    """Spell a config as YAML that :func:`load` reads back to an equal config."""
    return spell(config.model_dump(mode="json"))


def spell(values: Mapping[str, Any]) -> str:
    """Spell a mapping as YAML that :func:`parse_yaml` reads back."""
    has_values = any(isinstance(value, dict | list) for value in values.values())
    flow = None if has_values else False
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=flow, width=100)


def default_config_path(command: str) -> Path:
    """Return the YAML shipped for a command, in the wheel or in a source checkout."""
    file_name = command.replace("-", "_") + ".yaml"
    package = Path(__file__).parent
    installed = package / "configs" / file_name
    return installed if installed.exists() else package.parent / "configs" / file_name


# --------------------------------------------------------------------------------------
# From YAML, preset, flags and --set to a model


def load(
    model: type[C],
    command: str,
    *,
    path: Path | None = None,
    preset: str | None = None,
    flags: Mapping[str, object] | None = None,
    overrides: Sequence[str] = (),
) -> C:
    """Build the config of one run.

    Without ``preset`` the user's file decides by its ``preset:`` key; if it has none either, its
    values lie over the shipped file's default preset. ``name`` defaults to the preset's name, or
    to the name of the user's file.

    Args:
        model: the experiment's config class.
        command: names the shipped YAML.
        path: a YAML file of the user's, which needs only what it changes.
        preset: a name under ``presets:`` in either YAML.
        flags: dotted keys to values; None means that the flag was not given.
        overrides: ``KEY=VALUE`` texts, the value in YAML's spelling.

    Raises:
        ConfigError: one line with the dotted key, the bad value and the choices.
    """
    values = resolve(command, path=path, preset=preset)
    for key, value in (flags or {}).items():
        if value is not None:
            _assign(values, key, value)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {override}: write KEY=VALUE, such as --set epochs=3")
        try:
            value = parse_yaml(text)
        except ValueError as error:
            raise ConfigError(f"--set {key}={_short(text)}: not a YAML value: {error}") from None
        _assign(values, key.strip(), value)
    return build(model, values)


def resolve(command: str, *, path: Path | None = None, preset: str | None = None) -> dict[str, Any]:
    """Lay the YAML files and the preset of a run over each other, as :func:`load` does.

    Raises:
        ConfigError: one line, as in :func:`load`.
    """
    shipped_path = default_config_path(command)
    # A model of a test or of a script has no shipped file.
    shipped = read_file(shipped_path) if path is None or shipped_path.exists() else YamlFile()
    own = YamlFile() if path is None else read_file(path)
    presets = _merge(shipped.presets, own.presets)
    chosen = own.preset if preset is None else preset
    if chosen is None:
        values = _merge(shipped.values, _preset_values(presets, shipped.preset))
        values = _merge(values, own.values)
        name = shipped.preset if path is None else re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem)
    else:
        values = _merge(shipped.values, own.values)
        values = _merge(values, _preset_values(presets, chosen))
        name = chosen
    if name is not None:
        values.setdefault("name", name)
    return values


@dataclass(frozen=True)
class YamlFile:
    """What one YAML file says.

    Attributes:
        values: of the model's fields, as far as the file has them.
        presets: named partial mappings.
        preset: the one that is used by default.
        about: what each preset is for, as far as the file says so.
    """

    values: dict[str, Any] = field(default_factory=dict)
    presets: dict[str, Any] = field(default_factory=dict)
    preset: str | None = None
    about: dict[str, str] = field(default_factory=dict)


def read_file(path: Path) -> YamlFile:
    """Read a YAML file of a command.

    Raises:
        ConfigError: it cannot be read, or its presets are no mappings.
    """
    values = read_yaml(path)
    presets, preset = values.pop("presets", None) or {}, values.pop("preset", None)
    if not isinstance(presets, dict):
        raise ConfigError(
            f"{path}: presets = {_short(presets)}: expected a mapping of names to values"
        )
    for name, content in presets.items():
        if not isinstance(content, dict | None):
            raise ConfigError(f"{path}: presets.{name} = {_short(content)}: expected a mapping")
    if not isinstance(preset, str | None):
        raise ConfigError(f"{path}: preset = {_short(preset)}: expected a name under presets")
    contents = {str(name): dict(content or {}) for name, content in presets.items()}
    about = {name: str(content.pop("about", "")) for name, content in contents.items()}
    return YamlFile(values, contents, preset, about)


def _preset_values(presets: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    if name not in presets:
        choices = ", ".join(presets) or "none in this file"
        raise ConfigError(f"preset = {_short(name)}: unknown; choices: {choices}")
    found: dict[str, Any] = presets[name]
    return found


def build(model: type[C], values: Mapping[str, Any]) -> C:
    """Validate a mapping as a config.

    Raises:
        ConfigError: one line, as in :func:`load`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_one_line(model, error)) from None


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _assign(values: dict[str, Any], dotted_key: str, value: object) -> None:
    """Set one value in place; a mapping changes only what it names."""
    *parents, last = dotted_key.split(".")
    for parent in parents:
        inner = values.get(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{dotted_key}: {parent!r} is a single value, not a section")
        values[parent] = dict(inner)
        values = values[parent]
    values |= _merge(values, {last: value})


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80
_REPR.maxlevel, _REPR.maxdict, _REPR.maxlist, _REPR.maxtuple = 2, 3, 4, 4


def _short(value: object) -> str:
    """Spell a value for a message, however large it is."""
    return _REPR.repr(value)


def _one_line(model: type[BaseModel], error: ValidationError) -> str:
    first, *others = error.errors(include_url=False)
    location = _field_path(model, first["loc"])
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        close = difflib.get_close_matches(location[-1][:60], known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        line = f"unknown key {_short(key)}: {hint}choices: {', '.join(known)}"
    elif first["type"] == "missing":
        line = f"{key}: a value is needed"
    else:
        message = first["msg"].removeprefix("Value error, ")
        value = first["input"]
        # A check over several fields names them itself.
        over_several = first["type"] == "value_error" and isinstance(value, dict | BaseModel)
        line = message if over_several else f"{key} = {_short(value)}: {message}"
    return line + (f" (and {len(others)} more)" if others else "")


def _field_path(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Keep the names of fields; after the last one come pydantic's own marks."""
    names: list[str] = []
    for part in location:
        known = _fields_at(model, names)
        if names and not known:
            break
        names.append(str(part))
        if part not in known:
            break
    return names


def _fields_at(model: type[BaseModel], location: Iterable[str]) -> list[str]:
    for name in location:
        info = model.model_fields.get(name)
        candidates = () if info is None else (info.annotation, *get_args(info.annotation))
        inner = [t for t in candidates if isinstance(t, type) and issubclass(t, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)
