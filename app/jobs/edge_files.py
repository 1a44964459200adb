"""Files of an edge's watched folders: imported here as a worker imports those of its own folders."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import NamedTuple

import structlog

from app.domain.edge_message import Claim
from app.domain.site import Meter, Site
from app.errors import DataError, NotFound, SeriesError, WorkTooLarge
from app.jobs import imports
from app.store import edges, site_moves, sites
from app.store.audit import Actor
from app.store.edges import Edge
from app.store.engine import Engine, connect
from collectors import registry
from collectors.csv.folder import FolderConfig
from collectors.csv.mapping import load_mapping
from collectors.csv.reader import understand
from collectors.polling import FILES

_log = structlog.get_logger(__name__)


class Sent(NamedTuple):
    """A file that an edge sent."""

    path: Path
    name: str
    """At the edge."""


class Done(NamedTuple):
    """What became of it."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    problem: str = ""
    """Why nothing of it was stored; empty where it was."""


def placed(folder: Path, name: str) -> Sent:
    """Where a file that is being sent is written: with its endings, by which its kind is recognised.

    Raises
    ------
    SeriesError
        If the name is none of a file.
    """
    if not re.fullmatch(r"[^/\\\0]{1,255}", name):
        raise SeriesError("name: is the name of a file, without folders")
    ending = "".join(s for s in Path(name).suffixes[-2:] if re.fullmatch(r"\.[A-Za-z0-9]{1,10}", s))
    return Sent(folder / f"{secrets.token_hex(8)}{ending}", name)


def take(engine: Engine, key_id: str, claim: Claim, meter_id: str, sent: Sent, *, source: str) -> Done:
    """Store all of a file, or nothing of it; the same file again changes nothing.

    Raises
    ------
    EdgeReplaced
        If another process speaks for the edge now.
    SiteMoved
        If another cell has one of the edge's sites.
    NotFound
        If the key is no edge's, or its sites declare no such folder.
    StoreUnavailable
        If the database is away; the file may be sent again.
    """
    with connect(engine) as connection:
        edge, stored = edges.of_key(connection, key_id), sites.load(connection)
        site_moves.refuse(connection, edge.sites)
        edges.check(connection, edge, claim)
    site, meter = _folder(edge, stored.fleet.meter.get(meter_id), meter_id)
    try:
        config = registry.parse(meter.collector or {})
        assert isinstance(config, FolderConfig)
        mapping = load_mapping(config.mapping) if config.mapping else None
        understood = understand(sent.path, site, mapping)
        by = Actor(f"edge {edge.name}", source, edge.key_id)
        done = imports.import_file(
            engine, stored, site, sent.path, by=by, understanding=understood, name=sent.name
        )
    except (DataError, WorkTooLarge) as error:
        problem = str(error).replace(str(sent.path), sent.name)
        _log.warning("file of an edge rejected", edge=edge.name, file=sent.name, problem=problem)
        return Done(problem=problem)
    return Done(done.accepted, done.duplicate, done.rejected)


def _folder(edge: Edge, found: tuple[Site, Meter] | None, meter_id: str) -> tuple[Site, Meter]:
    """The watched folder of that name, if it is the edge's."""
    if found is None or found[0].id not in edge.sites or (found[1].collector or {}).get("kind") != FILES:
        raise NotFound(f"the edge's sites have no watched folder {meter_id[:100]!r}")
    return found
