"""The file that lists the other cells of a fleet, and how each is reached."""

from __future__ import annotations

import ipaddress
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.config import secret_in, why_unreadable
from app.errors import ConfigError
from collectors.yaml_lines import YamlLines

_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_URL = r"^https?://[^/?#\s@]+(/[^?#\s]*)?$"


class Cell(BaseModel):
    """Another cell, and the key with which it is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=_ID)]
    """Name of the cell in answers, pages and metrics. E.g. ``north``."""
    url: Annotated[str, Field(pattern=_URL, max_length=2000)]
    """Address under which it is reached, without ``/api``. E.g. ``https://north.wattline.bank.example``."""
    key_file: Path
    """File with a viewer's key of that cell. E.g. ``/etc/wattline/keys/north``."""
    database_url_file: Path | None = None
    """File with the address of the cell's database, for ``wattline cells move`` alone. E.g.
    ``/etc/wattline/north.url``."""
    ca_file: Path | None = None
    """Certificates of the authorities that are trusted, in PEM, in place of the system's. E.g.
    ``/etc/wattline/ca.pem``."""

    @field_validator("url")
    @classmethod
    def _secured(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            raise ValueError("the key would be sent in the clear; write https://...")
        return url.rstrip("/")

    def key(self) -> str:
        """Its key.

        Raises
        ------
        ConfigError
            If the file cannot be read or is empty.
        """
        key = secret_in(self.key_file, f"key_file of cell {self.id}")
        if not key.isascii() or not key:
            raise ConfigError("holds no key", file=str(self.key_file), key=f"key_file of cell {self.id}")
        return key

    def database_url(self) -> str:
        """Where its database is.

        Raises
        ------
        ConfigError
            If the file of cells does not say, or its file cannot be read or is empty.
        """
        key = f"database_url_file of cell {self.id}"
        if self.database_url_file is None:
            raise ConfigError("is missing; name a file with the address of its database", key=key)
        url = secret_in(self.database_url_file, key)
        if not url:
            raise ConfigError("holds no address", file=str(self.database_url_file), key=key)
        return url

    def trust(self) -> ssl.SSLContext | bool:
        """What its certificate is verified against.

        Raises
        ------
        ConfigError
            If `ca_file` holds no certificates.
        """
        if self.ca_file is None:
            return True
        try:
            return ssl.create_default_context(cafile=str(self.ca_file))
        except OSError as error:
            raise ConfigError(
                f"no certificates in PEM: {error}", file=str(self.ca_file), key=f"ca_file of cell {self.id}"
            ) from None


def load(path: Path) -> tuple[Cell, ...]:
    """The cells that a file lists under ``cells``.

    Raises
    ------
    ConfigError
        If anything in the file, or a file that it names, is not understood; one line for each problem.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{why_unreadable(error)}; give a UTF-8 YAML file", file=str(path)) from None
    lines = YamlLines(text, str(path), "cells")
    problems = list(_unknown_keys(lines))
    cells = []
    for n, entry in enumerate(_entries(lines)):
        try:
            cells.append(Cell.model_validate(entry))
        except ValidationError as error:
            problems += [lines.error(("cells", n, *e["loc"]), _said(e)) for e in error.errors()]
    for name, count in Counter(cell.id for cell in cells).items():
        if count > 1:
            problems.append(lines.error(("cells",), f"{name!r} stands {count} times; ids are unique"))
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    for cell in cells:
        cell.key()
        cell.trust()
    return tuple(cells)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unknown_keys(lines: YamlLines) -> Iterator[ConfigError]:
    for key in lines.data:
        if key != "cells":
            yield lines.error((key,), "unknown key; a file of cells has `cells` only")


def _entries(lines: YamlLines) -> list[Any]:
    entries = lines.data.get("cells")
    if not isinstance(entries, list):
        raise lines.error(("cells",), "list the cells: id, url and key_file of each")
    return entries


def _said(error: Any) -> str:
    if error["type"] == "missing":
        return "is missing; add it"
    if error["type"] == "extra_forbidden":
        return "unknown key; a cell has id, url, key_file, ca_file and database_url_file"
    return f"{str(error['msg']).removeprefix('Value error, ')}, not {error['input']!r}"
