"""YAML and flags in, one frozen config out; every mistake is one line with its dotted key.

Values come in the order shipped YAML < the user's YAML < preset < flags < ``--set a.b=value``;
a preset that the user's YAML names itself lies below it. Each layer may hold as little as it
changes, at any depth. A YAML file spells one pydantic model,
which lives in the module of its experiment. Two keys belong to the file and not to the model:
``presets`` (named partial mappings) and ``preset`` (the one used by default).

Defaults stand once. The shipped YAML holds every default of a command, so the fields of an
experiment's own config have none in Python. Sections that are also used as a library
(``ViTConfig(width=96)``) have neutral ones, which no command ever sees.
"""

import difflib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from hwcli.errors import ConfigError, short
from hwcli.paths import named_path
from hwcli.ranges import check_size
from hwcli.yaml_files import parse_yaml, read_yaml, spell


def flatten(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings by their dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def find_differences(
    first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which two nested mappings differ, with both values."""
    differences: dict[str, tuple[Any, Any]] = {}
    for key in [*first, *(key for key in second if key not in first)]:
        one, two = first.get(key), second.get(key)
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            differences |= find_differences(one, two, f"{prefix}{key}.")
        elif one != two:
            differences[f"{prefix}{key}"] = (one, two)
    return differences


class Section(BaseModel):
    """A frozen mapping that refuses keys it does not know, and numbers that are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def hint_on(cls, key: str, value: object) -> str | None:
        """Return what to write in place of a wrong value, where that is known; None elsewhere."""
        return None

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
    def _replace_home(cls, value: Any) -> Any:
        return named_path(value) if isinstance(value, Path) else value

    @field_validator("*", mode="after")
    @classmethod
    def _refuse_huge_integers(cls, value: Any, info: ValidationInfo) -> Any:
        if type(value) is int and int in _types_in(
            cls.model_fields[info.field_name or ""].annotation
        ):
            check_size(value)
        return value


def _types_in(annotation: object) -> set[object]:
    return {annotation}.union(*map(_types_in, get_args(annotation)))


FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Of a run: it is part of paths, commands and code."""


def spelled_as_name(text: str, otherwise: str) -> str:
    """Return a run's name made of a text, with dashes for what no name has.

    Args:
        text: the name of a file or a preset.
        otherwise: the name where the text makes none.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("._-")[:100]
    return name if _is_name(name) else otherwise


def _is_name(name: str) -> bool:
    # A sweep keeps its trials in a folder of that name, next to its runs. Some file systems take
    # Trials for the same name.
    return bool(FOLDER_NAME.fullmatch(name)) and name.lower() != "trials"


def _folder_name(name: str) -> str:
    if not _is_name(name):
        raise ValueError(
            "expected a folder's name of at most 100 letters, digits, . _ -, other than trials"
        )
    return name


class RunConfig(Section):
    """What every experiment's config starts with; no YAML needs to spell it."""

    name: Annotated[str, AfterValidator(_folder_name)] = Field(
        "default",
        description="Name of the run folder; by default that of the preset or of your config file.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Device to compute on: auto, cpu, cuda or mps."
    )

    def contains(self, earlier: "RunConfig") -> bool:
        """Tell whether a run of this config finds all that an earlier config's run found."""
        return self == earlier

    def differences_from(self, earlier: "RunConfig") -> dict[str, tuple[Any, Any]]:
        """Return the dotted keys by which results may differ, with the earlier value and ours."""
        return find_differences(every_value(earlier), every_value(self))


C = TypeVar("C", bound=RunConfig)


def default_config_path(command: str) -> Path:
    """Return the YAML shipped for a command, in the wheel or in a source checkout."""
    file_name = command.replace("-", "_") + ".yaml"
    package = Path(__file__).parent
    installed = package / "configs" / file_name
    return installed if installed.exists() else package.parent / "configs" / file_name


def every_value(config: BaseModel) -> dict[str, Any]:
    """Return all values of a config, those that ``model_dump`` leaves out (``exclude_if``) too."""
    dumped = config.model_dump(mode="json")
    values = {}
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            values[name] = every_value(value)
        elif name in dumped:
            values[name] = dumped[name]
        elif info.exclude_if is not None:
            values[name] = value
    return values


def dump_yaml(config: Section) -> str:
    """Spell a config as YAML that :func:`load` reads back to an equal config."""
    return spell(every_value(config))


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

    A preset that is asked for lies over the user's file. Without one the file decides by its
    ``preset:`` key, and what it says besides lies over that preset of the shipped file; if it has
    no such key, over the default preset. A run's own ``config.yaml`` stands alone.
    ``name`` defaults to the name of the preset that is asked for, else of the user's file, else of
    the default preset.

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
    values = resolve(command, path=path, preset=preset, model=model)
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
            raise ConfigError(f"--set {key}={short(text)}: not a YAML value: {error}") from None
        _assign(values, key.strip(), value)
    return build(model, values)


def resolve(
    command: str,
    *,
    path: Path | None = None,
    preset: str | None = None,
    model: type[BaseModel] | None = None,
) -> dict[str, Any]:
    """Lay the YAML files and the preset of a run over each other, as :func:`load` does.

    Args:
        command: as in :func:`load`.
        path: likewise.
        preset: likewise.
        model: the experiment's config class; without it, what a run's own file lacks stays out.

    Raises:
        ConfigError: one line, as in :func:`load`.
    """
    shipped_path = default_config_path(command)
    # A model of a test or of a script has no shipped file.
    shipped = read_file(shipped_path) if path is None or shipped_path.exists() else YamlFile()
    own = YamlFile() if path is None else read_file(path)
    presets = _merge(shipped.presets, own.presets)
    chosen = own.preset if preset is None else preset
    if chosen is None and shipped.values and {*shipped.values, "name"} <= own.values.keys():
        # A run wrote this file, or somebody copied one and changed it.
        return dict(own.values) if model is None else _filled(model, own.values, shipped.values)
    if chosen is None:
        values = _merge(shipped.values, _preset_values(presets, shipped.preset))
        values = _merge(values, own.values)
        name = shipped.preset if path is None else path.stem
    else:
        asked = _preset_values(presets, chosen)
        layers: Sequence[Mapping[str, Any]] = (own.values, asked)
        if preset is None:
            layers = (shipped.presets.get(chosen, {}), own.values, own.presets.get(chosen, {}))
        values = functools.reduce(_merge, layers, shipped.values)
        name = chosen if path is None or preset is not None else path.stem
    if name is not None:
        values.setdefault("name", spelled_as_name(name, "mine"))
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
            f"{path}: presets = {short(presets)}: expected a mapping of names to values"
        )
    for name, content in presets.items():
        if not isinstance(content, dict | None):
            raise ConfigError(f"{path}: presets.{name} = {short(content)}: expected a mapping")
    if not isinstance(preset, str | None):
        raise ConfigError(f"{path}: preset = {short(preset)}: expected a name under presets")
    contents = {str(name): dict(content or {}) for name, content in presets.items()}
    about = {name: str(content.pop("about", "")) for name, content in contents.items()}
    return YamlFile(values, contents, preset, about)


def _preset_values(presets: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    if name not in presets:
        choices = ", ".join(presets) or "none in this file"
        raise ConfigError(f"preset = {short(name)}: unknown; choices: {choices}")
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


def _filled(
    model: type[BaseModel], own: Mapping[str, Any], shipped: Mapping[str, Any]
) -> dict[str, Any]:
    """Add to a complete file's sections what they lack, as the shipped file has it.

    A field that was added later (``model_dump`` may leave it out) had the model's default in a run
    that lacks it. Nothing is added to a section that is spelled in names of its own.
    """
    values = dict(own)
    for name, info in model.model_fields.items():
        inner, section, ours = info.annotation, own.get(name), shipped.get(name)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            if isinstance(section, dict) and section.keys() <= inner.model_fields.keys():
                values[name] = _filled(inner, section, ours or {})
        elif name in shipped and name not in own and info.exclude_if is None:
            values[name] = ours
    return values


def dotted_fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of a config's values."""
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from dotted_fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def near_fields(field: str, known: Sequence[str]) -> list[str]:
    """Return up to three fields that end alike (``mlp_width``), or else are spelled alike."""
    last = field.rpartition(".")[2]
    near = [name for name in known if last in name.rpartition(".")[2]]
    near.sort(key=lambda name: name.rpartition(".")[2] != last)
    return (near or difflib.get_close_matches(field[:60], known, n=3))[:3]


def _one_line(model: type[Section], error: ValidationError) -> str:
    first, *others = error.errors(include_url=False)
    location = _field_path(model, first["loc"])
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        close = difflib.get_close_matches(location[-1][:60], known, n=1)
        if not close and len(location) == 1 and len(key) > 1:
            close = near_fields(key, list(dotted_fields(model)))
        hint = f"did you mean {', '.join(map(repr, close))}? " if close else ""
        line = f"unknown key {short(key)}: {hint}choices: {', '.join(known)}"
    elif first["type"] == "missing":
        line = f"{key}: a value is needed"
    else:
        message = first["msg"].removeprefix("Value error, ")
        value = first["input"]
        # A check over several fields names them itself.
        over_several = first["type"] == "value_error" and isinstance(value, dict | BaseModel)
        advice = model.hint_on(key, value) or message
        line = message if over_several else f"{key} = {short(value)}: {advice}"
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
