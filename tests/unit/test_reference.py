"""The reference pages say what the code says, and what they say is true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from pydantic import TypeAdapter

from app import config, schema
from app.config import Settings
from collectors.csv.mapping import Mapping, load_mapping
from collectors.profiles.profile import ModbusProfile, SnmpProfile, load_profile
from tools import reference
from tools.reference.models import EXAMPLES

ROOT = Path(__file__).parents[2]
_MODELS = {m.__name__: TypeAdapter[Any](m) for m in (Mapping, ModbusProfile, SnmpProfile, Settings)}


def definitions() -> dict[str, Any]:
    """Every model that people write, by name."""
    site_file = schema.site_file()
    schemas, shared = schema.described(_MODELS)
    inlined = {name: found for name, found in schemas.items() if "properties" in found}
    return {**inlined, **shared, **site_file["$defs"], "SiteFile": site_file}


DEFINITIONS = definitions()


def properties() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, model in DEFINITIONS.items():
        for key, part in model.get("properties", {}).items():
            yield f"{name}.{key}", part


def tells_itself(part: dict[str, Any]) -> bool:
    """Whether its values are listed, or are a model with a section and examples of its own."""
    parts = [part, *part.get("anyOf", ()), part.get("items") or {}]
    return any(x.get("type") == "boolean" or {"$ref", "enum", "const"} & x.keys() for x in parts)


@pytest.mark.parametrize("path", list(reference.PAGES))
def test_a_page_is_what_the_code_says(path: str) -> None:
    text = reference.PAGES[path]()
    file = ROOT / path
    written = file.read_text(encoding="utf-8") if file.is_file() else ""
    assert written == text, f"{path} is stale; run `make reference`"


def test_every_field_has_its_text_and_an_example() -> None:
    silent = [name for name, part in properties() if not part.get("description")]
    assert not silent, f"a docstring below the field is missing: {silent}"
    bare = [name for name, part in properties() if "examples" not in part and not tells_itself(part)]
    assert not bare, (
        f"end the first paragraph of the field's docstring with an example, E.g. ``600``.: {bare}"
    )
    assert sum(1 for _ in properties()) > 250


@pytest.mark.parametrize(("name", "part"), list(properties()))
def test_every_example_is_allowed(name: str, part: dict[str, Any]) -> None:
    validator = jsonschema_rs.Draft202012Validator({**part, "$defs": DEFINITIONS})
    for example in part.get("examples", ()):
        validator.validate(example)


def test_every_value_of_an_enumeration_has_its_text() -> None:
    listed = [model for model in DEFINITIONS.values() if "enum" in model]
    silent = [
        f"{model['title']}.{value}"
        for model in listed
        for value, text in zip(model["enum"], model.get("enumDescriptions", [""] * 99), strict=False)
        if not text
    ]
    assert listed
    assert silent == []


def test_a_site_file_that_loads_fits_the_schema() -> None:
    """Editors check by the schema; it must not refuse what the service takes."""
    for path in (EXAMPLES / "site.yaml", ROOT / "collectors" / "simulated" / "demo_site.yaml"):
        config.load(path)
        plain = yaml.load(path.read_text(encoding="utf-8"), Loader=_DatesAsText)
        jsonschema_rs.validate(schema.site_file(), plain)


def test_the_schema_refuses_what_the_service_refuses() -> None:
    site = yaml.load((EXAMPLES / "site.yaml").read_text(encoding="utf-8"), Loader=_DatesAsText)
    site["sites"][0]["meters"][0]["collector"]["devise_id"] = 1
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema.site_file(), site)


def test_the_other_examples_are_read_as_they_stand() -> None:
    assert load_mapping(EXAMPLES / "mapping.yaml").columns["MMCB.KW"].unit == "w"
    names = [c.name for c in load_profile(EXAMPLES / "profile.yaml").channels]
    assert names == ["energy_import_kwh", "power_kw", "frequency_hz"]


def test_texts_of_a_class_without_source_are_none() -> None:
    assert schema.texts_of(type("Made", (), {})) == {}


class _DatesAsText(yaml.SafeLoader):
    """JSON has no dates."""


_DatesAsText.add_constructor(
    "tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node)
)
