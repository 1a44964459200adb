"""Models of a JSON schema as tables: key, type, unit, default, example, meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from app.schema import UNIT_KEY
from tools.reference.markdown import anchor, code, table, wrapped

Schema = Mapping[str, Any]
_BASIC = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}
_FEW = 4
"""An enumeration of so many values without texts stands in the cell."""


def heading(name: str) -> str:
    """Name of a model as a heading: ``TariffBand`` is *Tariff band*."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name.replace("Snmp", "SNMP ")).split()
    return " ".join([words[0], *(w if w.isupper() else w.lower() for w in words[1:])])


class Models:
    """Every model that a root reaches, with its place in the file."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def reached(self, root: Schema) -> dict[str, str]:
        """Models below a root in the order in which a reader meets them, each with its path."""
        found: dict[str, str] = {}
        self._reach(root, "", found)
        return found

    def _reach(self, schema: Schema, path: str, found: dict[str, str]) -> None:
        for key, part in schema.get("properties", {}).items():
            for name, suffix in _references(part):
                if name not in found and "properties" in self._definitions[name]:
                    found[name] = f"{path}.{key}{suffix}".lstrip(".")
                    self._reach(self._definitions[name], found[name], found)

    def section(self, name: str, path: str = "") -> str:
        """The section of one model."""
        schema = self._definitions[name]
        place = f"{code(path)}: " if path else ""
        about = wrapped(place + schema.get("description", ""))
        return f"## {heading(name)}\n\n{about}\n\n{self.fields(schema)}"

    def fields(self, schema: Schema, key: Callable[[str], str] = str) -> str:
        """The table of one model, and below it what its fields say at more length."""
        required = schema.get("required", ())
        rows = [self._row(key(name), part, name in required) for name, part in schema["properties"].items()]
        head = ["key", "type", "unit", "default", "example", "meaning"]
        return "\n\n".join([table(head, rows), *_details(schema, key)])

    def _row(self, name: str, part: Schema, is_required: bool) -> list[str]:
        meaning = re.sub(r"([.;]) \[[^\]\s]+\](?=\s|$)", r"\1", _first(part)).rstrip(";")
        default = "**required**" if is_required else _default(part)
        return [code(name), self.kind(part), part.get(UNIT_KEY, ""), default, _example(part), meaning]

    def kind(self, part: Schema) -> str:
        """Type of a property in words, with its bounds; models and enumerations are links."""
        if "$ref" in part:
            name = part["$ref"].rsplit("/", 1)[1]
            known = self._definitions[name]
            return f"[{heading(name)}]({anchor(heading(name))})" if _has_section(known) else self.kind(known)
        options = [
            x for key in ("anyOf", "oneOf", "allOf") for x in part.get(key, ()) if x.get("type") != "null"
        ]
        if options:
            return " or ".join(dict.fromkeys(map(self.kind, options)))
        if "const" in part or "enum" in part:
            return ", ".join(map(_value, part.get("enum", [part.get("const")])))
        return self._compound(part) + _bounds(part)

    def _compound(self, part: Schema) -> str:
        if part.get("type") == "array":
            items = part.get("items") or {"anyOf": part.get("prefixItems", [{}])}
            return f"list of {self.kind(items)}"
        if part.get("type") == "object":
            values = part.get("additionalProperties")
            return f"mapping to {self.kind(values)}" if isinstance(values, dict) else "mapping"
        named = {"date": "date", "date-time": "time", "path": "path", "password": "secret text"}
        kind = part.get("type", "")
        return named.get(part.get("format", ""), _BASIC.get(kind if isinstance(kind, str) else "", "any"))

    def enumerations(self, root: Schema) -> Iterator[str]:
        """Sections of the enumerations that the root's models use and whose values have texts."""
        models = [root, *(self._definitions[name] for name in self.reached(root))]
        names = {n for m in models for part in m.get("properties", {}).values() for n, _ in _references(part)}
        for name in sorted(names, key=heading):
            schema = self._definitions[name]
            if "enum" in schema and _has_section(schema):
                texts = schema.get("enumDescriptions", [""] * len(schema["enum"]))
                rows = [[code(str(v)), text] for v, text in zip(schema["enum"], texts, strict=True)]
                about = wrapped(schema.get("description", ""))
                yield f"## {heading(name)}\n\n{about}\n\n{table(['value', 'meaning'], rows)}"


def _has_section(schema: Schema) -> bool:
    is_list = "enum" in schema and ("enumDescriptions" in schema or len(schema["enum"]) > _FEW)
    return "properties" in schema or is_list


def _references(part: Any, suffix: str = "") -> Iterator[tuple[str, str]]:
    """Names of the definitions that a property leads to, with ``[]`` for every list on the way."""
    if not isinstance(part, dict):
        return
    if "$ref" in part:
        yield part["$ref"].rsplit("/", 1)[1], suffix
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for option in part.get(key, ()):
            yield from _references(option, suffix)
    yield from _references(part.get("items"), f"{suffix}[]")
    yield from _references(part.get("additionalProperties"), f"{suffix}.*")


def _bounds(part: Schema) -> str:
    low, high = part.get("minimum"), part.get("maximum")
    above = part.get("exclusiveMinimum")
    said = f"above {above:g}" if above is not None else ""
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    said = said or (f"from {low:g}" if low is not None else "")
    said = " ".join(filter(None, [said, f"up to {high:g}" if high is not None else ""]))
    return f", {said}" if said else ""


def _value(value: Any) -> str:
    """A value of an enumeration; a mark or nothing in quotes."""
    text = str(value)
    return code(text if re.search(r"\w", text) else _quoted(text))


def _default(part: Schema) -> str:
    if "default" not in part:
        return "no limit" if part.get("type") == "number" else ""
    value = part["default"]
    if isinstance(value, dict):
        value = {k: v for k, v in value.items() if v not in (None, "", [], {})}
    return "" if value in (None, "", [], {}) else code(_flow(value))


def _example(part: Schema) -> str:
    examples = part.get("examples", ())
    return code(_flow(examples[0])) if examples else ""


def _flow(value: Any) -> str:
    """A value as one writes it in YAML, on one line."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    text = text.removesuffix("...\n").strip()
    return _as_written(text if '"' in text else text.replace("'", '"'), value)


def _as_written(text: str, value: Any) -> str:
    """Quoted as people quote: a date is plain, a time of day and what needs it stands in double quotes."""
    if isinstance(value, str) and re.fullmatch(r"\d\d:\d\d", value):
        return _quoted(value)
    if not isinstance(value, str) or not text.startswith(("'", '"')):
        return text
    return value if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else _quoted(value)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _first(part: Schema) -> str:
    return str(part.get("description", "")).split("\n\n", 1)[0]


def _details(schema: Schema, key: Callable[[str], str]) -> Iterator[str]:
    for name, part in schema["properties"].items():
        _, _, more = str(part.get("description", "")).partition("\n\n")
        if more:
            yield wrapped(f"**{code(key(name))}** {more}")
