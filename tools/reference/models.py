"""Pages of what people write in YAML or in the environment: site file, mapping, profile, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from app.config import Settings
from app.schema import described
from app.schema import site_file as site_file_schema
from collectors.csv.mapping import Mapping
from collectors.profiles.profile import MODELS
from tools.reference.markdown import page, wrapped
from tools.reference.schemas import Models

EXAMPLES = Path(__file__).with_name("examples")
_SITE_FILE = """The site file says what is measured: institutions, their sites, the meters and points of
each. `wattline check-config FILE` checks it and names every problem with its line; `wattline config-schema`
prints the JSON schema from which this page is made, for editors that complete and check YAML. Unknown keys
are refused. Times of day are quoted (`"08:00"`); a *default* left empty means that nothing is set."""
_PROFILE = """A profile says what a model of meter offers and where each value stands: one YAML file per
model in a folder of `collectors/profiles` for each protocol, named by its stem, or a file of your own whose
path the meter's collector names. The channels of a profile may also be written into the site file, under
`collector.channels`, except those of SNMP."""
_MAPPING = """A mapping says how the export files of one source are read. Every key is optional: what is
absent is found out where only one reading is possible, and asked for where it is not. `wattline import FILE
--site SITE --dry-run` prints the whole mapping as it was understood; `--map FILE` uses one. [How to import
CSV](../how-to/import-csv.md) shows which key solves which problem."""
_SETTINGS = """What the environment says to every command and to the service."""


def site_file() -> str:
    """The page of the site file."""
    root = site_file_schema()
    models = Models(root["$defs"])
    sections = [models.section(name, path) for name, path in models.reached(root).items()]
    whole = f"## Root\n\n{models.fields(root)}"
    example = _example("site.yaml")
    return page("Site file", wrapped(_SITE_FILE), example, whole, *sections, *models.enumerations(root))


def csv_mapping() -> str:
    """The page of the CSV mapping."""
    return _one_model("CSV mapping", Mapping, _MAPPING, _example("mapping.yaml"))


def device_profile() -> str:
    """The page of device profiles, of every protocol."""
    adapters: dict[str, TypeAdapter[Any]] = {m.__name__: TypeAdapter(m) for m in MODELS.values()}
    _, definitions = described(adapters)
    models = Models(definitions)
    paths: dict[str, str] = {}
    enumerations: dict[str, None] = {}
    for name in adapters:
        paths |= {name: "", **models.reached(definitions[name])}
        enumerations |= dict.fromkeys(models.enumerations(definitions[name]))
    sections = [models.section(name, path) for name, path in paths.items()]
    return page("Device profile", wrapped(_PROFILE), _example("profile.yaml"), *sections, *enumerations)


def settings() -> str:
    """The page of the environment variables."""
    schemas, definitions = described({"settings": TypeAdapter(Settings)})
    root = definitions.get("Settings", schemas["settings"])
    table = Models(definitions).fields(root, lambda name: f"WATTLINE_{name.upper()}")
    return page("Settings", wrapped(_SETTINGS), table)


def _one_model(title: str, model: Any, about: str, example: str) -> str:
    schemas, definitions = described({title: TypeAdapter(model)})
    name = schemas[title]["$ref"].rsplit("/", 1)[1] if "$ref" in schemas[title] else ""
    root = definitions[name] if name else schemas[title]
    models = Models(definitions)
    sections = [models.section(found, path) for found, path in models.reached(root).items()]
    return page(
        title,
        wrapped(about),
        example,
        f"## Root\n\n{models.fields(root)}",
        *sections,
        *models.enumerations(root),
    )


def _example(name: str) -> str:
    return f"```yaml\n{(EXAMPLES / name).read_text(encoding='utf-8').strip()}\n```"
