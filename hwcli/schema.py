"""The YAML files explained: their JSON schemas, and a config printed with what each field means.

A schema is made from an experiment's config model and shipped next to its YAML, so that editors
check and complete a file, and so that help, completion and ``hw2 config`` know every field without
importing an experiment (and torch with it). A test holds the shipped schemas to the models.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from hwcli.config import default_config_path
from hwcli.yaml_files import spell

Schema = dict[str, Any]


class _Generator(GenerateJsonSchema):
    def function_before_schema(self, schema: Any) -> Schema:
        """Allow a text or a number too where a function reads them first, as for a range."""
        inner = self.generate_inner(schema["schema"])
        name = getattr(schema["function"]["function"], "__name__", "")
        if name == "_refuse_odd_scalars" or "$ref" in inner or "properties" in inner:
            return inner
        known = inner.get("anyOf", [inner])
        more: list[Schema] = [{"type": "string"}, {"type": "number"}]
        return {"anyOf": [*known, *(each for each in more if each not in known)]} if inner else {}


def make_schema(model: type[BaseModel]) -> Schema:
    """Return the JSON schema of a command's YAML file, in which every key may be left out."""
    schema = model.model_json_schema(schema_generator=_Generator)
    for section in [schema, *schema.get("$defs", {}).values()]:
        section.pop("required", None)
    fields = {name: {"$ref": f"#/properties/{name}"} for name in schema["properties"]}
    preset = {
        "type": "object",
        "properties": {
            "about": {"type": "string", "description": "What the preset is for, in one sentence."},
            **fields,
        },
        "additionalProperties": False,
    }
    schema["properties"] |= {
        "preset": {"type": "string", "description": "Preset to use if none is asked for."},
        "presets": {
            "type": "object",
            "additionalProperties": preset,
            "description": "Named partial configs.",
        },
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


@cache
def read_schema(command: str) -> Schema:
    """Return the shipped schema of a command; an empty one where none is shipped."""
    path = default_config_path(command)
    path = path.parent / "schemas" / f"{path.stem}.json"
    found: Schema = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def fields(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield every field that holds a value, under its dotted key."""
    for name, field in schema.get("properties", {}).items():
        section = _section(field, schema)
        if name in ("preset", "presets"):
            continue
        if section is None:
            yield name, field
        else:
            inner = {"properties": section["properties"], "$defs": schema["$defs"]}
            yield from ((f"{name}.{key}", each) for key, each in fields(inner))


def choices(field: Schema) -> list[str]:
    """Return the words that a field allows; none where it is open."""
    return [word for each in [field, *field.get("anyOf", [])] for word in _words(each)]


def _words(schema: Schema) -> list[str]:
    return list(schema.get("enum", [schema["const"]] if "const" in schema else []))


def _section(field: Schema, schema: Schema) -> Schema | None:
    target = field.get("$ref", "").rpartition("/")[2]
    found: Schema | None = schema.get("$defs", {}).get(target)
    return found


def annotate(values: Mapping[str, Any], schema: Schema, indent: str = "") -> str:
    """Return a config as YAML with the description of every field as a comment above it."""
    lines = []
    names = sorted(
        schema["properties"].keys() - {"preset", "presets"},
        key=["name", *values, *schema["properties"]].index,
    )
    for name in names:
        field = schema["properties"][name]
        comment = textwrap.wrap(field.get("description", ""), 96 - len(indent))
        section = _section(field, schema)
        value = values.get(name, field.get("default"))
        lines += [f"{indent}# {line}" for line in comment]
        if section is not None and isinstance(value, Mapping):
            inner = {"properties": section["properties"], "$defs": schema["$defs"]}
            lines += [f"{indent}{name}:", annotate(value, inner, indent + "  ").rstrip("\n"), ""]
        else:
            lines += [f"{indent}{line}" for line in spell({name: value}).splitlines()]
    return "\n".join(lines) + "\n"
