"""The HTTP interface described on a page of our own: every operation, its parameters, a call to copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.web import render
from app.web.access import PageRoute, Viewer

router = APIRouter(route_class=PageRoute)


@dataclass(frozen=True)
class Parameter:
    """Something that an operation takes in its path or query."""

    name: str
    place: str
    is_required: bool
    description: str
    allowed: str
    example: str


@dataclass(frozen=True)
class Operation:
    """One thing that the interface does."""

    method: str
    path: str
    tag: str
    summary: str
    parameters: list[Parameter]
    body: str
    """Media types of the body; empty where there is none."""

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return f"{self.method}{self.path}".lower().translate(str.maketrans("/{}", "---"))

    def call(self, site: str, meter: str) -> str:
        """Path and query of an example."""
        path = self.path
        for one in self.parameters:
            if one.place == "path":
                known = {"site": site, "meter": meter}.get(one.name, one.example or "1")
                path = path.replace(f"{{{one.name}}}", known)
        asked = {
            p.name: p.example for p in self.parameters if p.place == "query" and p.is_required and p.example
        }
        return f"{path}?{urlencode(asked)}" if asked else path


@router.get("/docs")
def docs_page(request: Request, caller: Viewer) -> Response:
    """Every operation by subject, with calls that run with the visitor's own session or key."""
    with caller.read() as view:
        sites = view.stored.fleet.sites
        site = sites[0].id if sites else "sh1"
        meter = sites[0].meters[0].id if sites and sites[0].meters else "main"
    found = list(operations(request.app.openapi()))
    context = {
        "nav": "",
        "groups": {tag: [o for o in found if o.tag == tag] for tag in dict.fromkeys(o.tag for o in found)},
        "site": None,
        "example_site": site,
        "example_meter": meter,
    }
    return render.page(request, "docs.html", context)


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """The operations of an OpenAPI document."""
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            yield Operation(
                method.upper(),
                path,
                next(iter(one.get("tags", [])), "service"),
                one.get("description") or one.get("summary", ""),
                [_parameter(p) for p in one.get("parameters", [])],
                ", ".join(one.get("requestBody", {}).get("content", {})),
            )


def _parameter(one: Mapping[str, Any]) -> Parameter:
    shape = _plain(one["schema"])
    examples = shape.get("examples") or ([one["example"]] if "example" in one else [])
    allowed = ", ".join(map(str, shape.get("enum", []))) or str(shape.get("type", ""))
    return Parameter(
        one["name"],
        one["in"],
        bool(one.get("required")),
        one.get("description", ""),
        allowed,
        str(examples[0]) if examples else "",
    )


def _plain(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The shape that is not null, of a parameter that may be left out."""
    kinds = [s for s in schema.get("anyOf", []) if s.get("type") != "null"]
    return {**schema, **kinds[0]} if kinds else schema
