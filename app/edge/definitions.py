"""The definitions that an edge works with: pulled from the cell, the last good ones kept on disk."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from app import config
from app.domain.signed import secret_of, verified
from app.domain.site import Fleet
from app.errors import ConfigError, SeriesError
from collectors import registry
from collectors.base import Binding

_log = structlog.get_logger(__name__)


class InForce(NamedTuple):
    """What is measured now."""

    revision: int = 0
    """0: nothing is known yet."""
    edge: str = ""
    fleet: Fleet = Fleet()


class Definitions:
    """Definitions of one edge.

    Parameters
    ----------
    file : Path
        Where they are kept.
    key : str
        Of the edge; nothing that is signed under another one is taken.
    """

    def __init__(self, file: Path, key: str) -> None:
        self._file, self._secret = file, secret_of(key)
        self.problem = ""
        """Why newer ones are not in force; empty where they are."""
        self.in_force = self._kept()

    def _kept(self) -> InForce:
        try:
            text = self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return InForce()
        except (OSError, UnicodeDecodeError) as error:
            return self._refused(f"{self._file} cannot be read: {error}")
        try:
            return self._understood(json.loads(text))
        except (ValueError, SeriesError, ConfigError) as error:
            return self._refused(f"{self._file} is not used: {error}")

    def _refused(self, problem: str) -> InForce:
        self.problem = problem
        _log.error("kept definitions are not used; waiting for the centre", problem=problem)
        return InForce()

    def _understood(self, signed: Any) -> InForce:
        if not isinstance(signed, Mapping):
            raise SeriesError("these are no signed definitions")
        said = verified(signed, self._secret)
        return InForce(said.revision, said.edge, config.restore(said.site_file).fleet)

    def take(self, signed: Mapping[str, Any]) -> bool:
        """Put newer definitions in force, where they are understood here; whether they are.

        What is in force stays where the new ones are not: `problem` says why.
        """
        try:
            new = self._understood(signed)
            _check(new.fleet)
            _write(self._file, json.dumps({name: signed[name] for name in ("definitions", "signature")}))
        except (SeriesError, ConfigError, OSError) as error:
            self.problem = f"the newest definitions are not used: {error}"
            _log.error("definitions from the centre are not used", problem=str(error))
            return False
        self.in_force, self.problem = new, ""
        _log.info("definitions in force", revision=new.revision, sites=len(new.fleet.sites))
        return True


def _check(fleet: Fleet) -> None:
    """See that every meter can be read by this installation.

    Raises
    ------
    ConfigError
        If a ``collector:`` section, or a profile that it names, is not understood.
    """
    for site in fleet.sites:
        for meter in site.meters:
            if meter.collector is not None and meter.collector.get("kind") != "csv_folder":
                registry.build(registry.parse(meter.collector), Binding(meter.id, meter.read_points, site.id))


def _write(file: Path, text: str) -> None:
    """Whole or not at all, for its owner alone: the text may hold passwords of meters."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    Path(out.name).replace(file)
