"""YAML 1.2, read within limits and written so that it reads back; every mistake is one line."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hwcli.errors import ConfigError, short

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
                raise yaml.YAMLError(f"line {line}: duplicate key {short(key)}")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def _integer(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        if len(text) > 400:
            raise yaml.YAMLError(f"{short(text)} has more than 400 digits")
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


def spell(values: Mapping[str, Any]) -> str:
    """Spell a mapping as YAML that :func:`parse_yaml` reads back."""
    has_values = any(isinstance(value, dict | list) for value in values.values())
    flow = None if has_values else False
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=flow, width=100)
