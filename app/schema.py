"""JSON schema whose texts are those that stand below the fields in the code: one text per field.

A field's docstring says what it means. A unit stands in brackets after a sentence (``[kW]``), an example at
the end of the first paragraph (``E.g.`` and a YAML value between double backticks), details in further
paragraphs. Editors, ``wattline config-schema`` and the pages under ``docs/reference`` show them.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import sys
from collections.abc import Mapping
from datetime import date
from functools import cache
from itertools import pairwise
from typing import Any

import yaml
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from app import site_dates
from app.config import SiteFile
from collectors import registry

_EXAMPLE = re.compile(r"\s*E\.g\.\s+``(.+?)``\.", re.DOTALL)
_SITE_FILE = "site file"
_UNIT = re.compile(r"[.;] \[([^\]\s]+)\](?=\s|$)")
UNIT_KEY = "x-unit"
"""Key of the schema under which a property's unit stands."""


def site_file() -> JsonSchemaValue:
    """JSON schema of the site file, with the settings of every kind of collector."""
    kinds = {name: TypeAdapter(registry.kind_of(name).config) for name in registry.KINDS}
    schemas, definitions = described({_SITE_FILE: TypeAdapter(SiteFile), **kinds})
    root = definitions.pop(_definition(schemas[_SITE_FILE]))
    collector = definitions["Meter"]["properties"]["collector"]
    collector["anyOf"] = [*(schemas[name] for name in sorted(kinds)), {"type": "null"}]
    dated = site_dates.with_dates(definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": dated}


def _definition(reference: JsonSchemaValue) -> str:
    return str(reference["$ref"]).rsplit("/", 1)[1]


def described(models: Mapping[str, TypeAdapter[Any]]) -> tuple[dict[str, JsonSchemaValue], JsonSchemaValue]:
    """Schemas of models, and the definitions that they share; every field has its text.

    Parameters
    ----------
    models : mapping of str to TypeAdapter
        By a name of the caller's.

    Returns
    -------
    tuple of dict
        Schema by name (each a reference to its definition), and the definitions by name.
    """
    inputs = [(name, "validation", adapter) for name, adapter in models.items()]
    found, shared = TypeAdapter.json_schemas(inputs, schema_generator=_Described)  # type: ignore[arg-type]
    definitions = {name: _finite(schema) for name, schema in shared.get("$defs", {}).items()}
    return {name: _finite(schema) for (name, _), schema in found.items()}, definitions


class _Described(GenerateJsonSchema):
    """Adds to every model and enumeration the texts that stand in its class."""

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return _with_texts(super().dataclass_schema(schema), schema["cls"])

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return _with_texts(super().model_schema(schema), schema["cls"])

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        found, texts = super().enum_schema(schema), texts_of(schema["cls"])
        said = [plain(texts.get(member.name, "")) for member in schema["members"]]
        return {**found, "enumDescriptions": said} if any(said) else found


def _with_texts(schema: JsonSchemaValue, cls: type[Any]) -> JsonSchemaValue:
    texts = texts_of(cls)
    for name, part in schema.get("properties", {}).items():
        if name in texts:
            part.update(_said(texts[name]))
    if "description" in schema:
        schema["description"] = plain(schema["description"])
    return schema


def _said(text: str) -> dict[str, Any]:
    example, unit = _EXAMPLE.search(text), _UNIT.search(text)
    return {
        "description": plain(_EXAMPLE.sub("", text, count=1)),
        **({"examples": [_value(example[1])]} if example else {}),
        **({UNIT_KEY: unit[1]} if unit else {}),
    }


def _value(example: str) -> Any:
    """An example as JSON has it: a date is a text there."""
    value = yaml.safe_load(" ".join(example.split()))
    return value.isoformat() if isinstance(value, date) else value


def plain(text: str) -> str:
    """A docstring as Markdown: one line a paragraph, single backticks."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(" ".join(part.split()) for part in paragraphs).replace("``", "`")


def texts_of(cls: type[Any]) -> dict[str, str]:
    """The docstrings below the fields of a class, and of the classes it extends, by the field's name."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for field, below in pairwise(_classes(base.__module__).get(base.__qualname__, ())):
            if (name := _name(field)) and (text := _text(below)):
                found[name] = text
    return found


def _name(node: ast.stmt) -> str:
    if isinstance(node, ast.AnnAssign):
        return ast.unparse(node.target)
    return ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""


def _text(node: ast.stmt) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return str(node.value.value)
    return ""


@cache
def _classes(module: str) -> dict[str, list[ast.stmt]]:
    """Bodies of the classes of a module that is Python text; of any other, none."""
    try:
        source = inspect.getsource(sys.modules[module])
    except (KeyError, OSError, TypeError):
        return {}
    return {node.name: node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}


def _finite(node: Any) -> Any:
    """A part of the schema without the defaults that JSON cannot say (infinity: no bound)."""
    if isinstance(node, dict):
        return {k: _finite(v) for k, v in node.items() if not (k == "default" and _is_boundless(v))}
    return [_finite(part) for part in node] if isinstance(node, list) else node


def _is_boundless(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
