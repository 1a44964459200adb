"""The page of the HTTP interface, from its OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from app.api.app import create_app
from tools.reference.markdown import code, table, wrapped
from tools.reference.markdown import page as whole
from tools.reference.schemas import Models

_ABOUT = """`/openapi.json` is the document this page is made from. [How to use the HTTP
interface](../how-to/http-api.md) shows the usual calls. Every error is a problem document (RFC 9457); see
[Problem](#problem)."""


def page() -> str:
    """The page."""
    document = _document()
    models = Models(document["components"]["schemas"])
    operations = [
        _operation(models, path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    shapes = [models.section(name) for name in sorted(_objects(document)) if name not in ("Problem",)]
    about = wrapped(document["info"]["description"] + "\n\n" + _ABOUT)
    return whole("HTTP interface", about, *operations, *shapes, models.section("Problem"))


def _document() -> dict[str, Any]:
    """The OpenAPI document of an application that is not served; it asks no database."""
    return create_app(sa.create_engine("postgresql+psycopg://")).openapi()


def _objects(document: Mapping[str, Any]) -> Iterator[str]:
    shapes = document["components"]["schemas"]
    return (name for name, shape in shapes.items() if "properties" in shape)


def _operation(models: Models, path: str, method: str, operation: Mapping[str, Any]) -> str:
    about = wrapped(operation.get("description") or operation.get("summary", ""))
    parts = [f"## {method.upper()} {path}", about, _parameters(models, operation)]
    body = operation.get("requestBody", {}).get("content", {})
    parts += [f"Body: {_contents(models, body)}."] if body else []
    parts += [
        wrapped(f"Answer {status}: {_contents(models, answer.get('content', {})) or answer['description']}.")
        for status, answer in operation["responses"].items()
        if not status.endswith("XX")
    ]
    return "\n\n".join(filter(None, parts))


def _parameters(models: Models, operation: Mapping[str, Any]) -> str:
    rows = [
        [
            code(one["name"]),
            one["in"],
            models.kind(one["schema"]),
            "yes" if one.get("required") else "",
            one.get("description", one["schema"].get("description", "")),
        ]
        for one in operation.get("parameters", ())
    ]
    return table(["parameter", "in", "type", "required", "meaning"], rows) if rows else ""


def _contents(models: Models, content: Mapping[str, Any]) -> str:
    return "; ".join(
        f"`{media}` {models.kind(said.get('schema', {}))}".strip() for media, said in content.items()
    )
