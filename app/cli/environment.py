"""What the environment says and the site file it names: all that a command without a database needs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pydantic import ValidationError

from app import config
from app.config import Settings, SiteFile
from app.errors import ConfigError
from app.fleet import cells
from app.fleet.cells import Cell
from app.store import audit_key
from app.store.audit_key import AuditKey
from collectors import network
from collectors.profiles import folders


def settings() -> Settings:
    """The environment; what it says of the networks of the meters holds from now on.

    Raises
    ------
    ConfigError
        If a variable is not understood.
    """
    try:
        found = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "WATTLINE_" + "_".join(map(str, first["loc"])).upper()
        raise ConfigError(f"{first['msg']}, not {first['input']!r}", key=name) from None
    network.allow(found.collector_networks)
    audit_key.use(partial(_audit_key, found))
    beside = [] if found.config is None else [found.config.parent / "profiles"]
    folders.use([*filter(None, [found.profiles_dir]), *beside])
    return found


def _audit_key(environment: Settings) -> AuditKey:
    """The key of the environment, else that of the data folder."""
    file = environment.audit_key_file
    return audit_key.read(file) if file else audit_key.read_or_make(environment.data_dir / "audit.key")


def site_file(path: Path | None, environment: Settings) -> SiteFile | None:
    """The site file of ``--config``, else of ``WATTLINE_CONFIG``; None where neither names one.

    Raises
    ------
    ConfigError
        If anything in the file is not understood.
    """
    chosen = path or environment.config
    return None if chosen is None else config.load(chosen)


def cells_of(environment: Settings) -> tuple[Cell, ...]:
    """The other cells of the fleet.

    Raises
    ------
    ConfigError
        If anything in their file is not understood.
    """
    return () if environment.cells_file is None else cells.load(environment.cells_file)
