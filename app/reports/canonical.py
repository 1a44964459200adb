"""The one byte form of a document, its hash, and what differs between two revisions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from app.reports.document import Cause, Change, Document, InstitutionReport, Report, as_data, read

D = TypeVar("D", Report, InstitutionReport)

_NOT_FIGURES = (
    *("schema", "sha256", "revision", "grades", "reporting_duties", "regulations", "opportunities"),
    "drift",
)
"""Parts of a document that say which version it is, or that follow from its figures, the site file and a
baseline that may be frozen at any time."""
_NOT_VALUES = ("].state", "].watched", ".verified")
"""Ends of paths to what no recomputation of the period changes, or that says only who checked a row."""
_KEYS = ("name", "day", "of", "point", "id", "profile", "field", "against", "tag", "indicator", "first_day")
"""Fields that tell the rows of a list apart, so that a change names its row and not a position."""


def canonical(data: Mapping[str, Any]) -> bytes:
    """JSON in UTF-8 with sorted keys and no spaces, without the hash: the same bytes for the same report."""
    content = {k: v for k, v in data.items() if k != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_of(data: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical form."""
    return hashlib.sha256(canonical(data)).hexdigest()


def sealed(document: D) -> D:
    """The document with its hash, every number of the type that reading it back gives."""
    plain = read(as_data(document))
    assert isinstance(plain, type(document))
    return replace(plain, sha256=sha256_of(as_data(plain)))


def is_intact(data: Mapping[str, Any]) -> bool:
    """Whether the document still has the hash it was sealed with."""
    return data.get("sha256") == sha256_of(data)


def changes(
    before: Mapping[str, Any], after: Mapping[str, Any], renamed: Mapping[str, str] | None = None
) -> list[Change]:
    """Figures that differ between two revisions of a report; a new name for the same thing is no difference.

    Parameters
    ----------
    renamed : mapping of str to str
        Earlier names of points and meters, each with the one of today.
    """
    known = _with_names(before, renamed) if renamed else before
    old, new = dict(figures(known)), dict(figures(after))
    return [
        Change(figure=path, before=old.get(path), after=new.get(path))
        for path in [*old, *(p for p in new if p not in old)]
        if old.get(path) != new.get(path)
    ]


def _with_names(value: Any, renamed: Mapping[str, str]) -> Any:
    """A document in which every text that is an earlier name is the one of today."""
    if isinstance(value, Mapping):
        return {key: _with_names(item, renamed) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_names(item, renamed) for item in value]
    return renamed.get(value, value) if isinstance(value, str) else value


def figures(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every value of a document with its path, but what is about its version or no figure."""
    for key, value in document.items():
        if key not in _NOT_FIGURES:
            yield from ((path, v) for path, v in _walk(key, value) if not path.endswith(_NOT_VALUES))


def _walk(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(f"{path}.{key}", item)
    elif isinstance(value, list):
        for name, item in zip(_row_names(value), value, strict=True):
            yield from _walk(f"{path}[{name}]", item)
    else:
        yield path, value


def _row_names(rows: list[Any]) -> list[str]:
    """A name for each row: what tells it apart where that is unique, else its position."""
    for key in _KEYS:
        names = [str(row[key]) for row in rows if isinstance(row, Mapping) and row.get(key)]
        if len(names) == len(rows) == len(set(names)):
            return names
    return [str(i) for i in range(len(rows))]


def revised(
    document: Document,
    revision: int,
    changed: Sequence[Change],
    causes: Sequence[Cause] = (),
    audit_head: str = "",
) -> Document:
    """The document as that revision, sealed."""
    version = replace(
        document.revision,
        number=revision,
        closed=True,
        changes=list(changed),
        causes=list(causes),
        audit_head=audit_head,
    )
    if isinstance(document, Report):
        return sealed(replace(document, revision=version))
    return sealed(replace(document, revision=version))
