"""``wattline hub``: keys by which the servers of a hub know edges and cells."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from app.cli.console import say, show, show_json
from app.errors import ConfigError


def make_key(file: Path, *, as_json: bool) -> None:
    """Write a new seed to a file, and print the public key that goes into ``users.conf``.

    Raises
    ------
    ConfigError
        If the file exists or cannot be written, or the extra ``wattline[hub]`` is not installed.
    """
    try:
        import nkeys  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError("a hub needs the extra: pip install 'wattline[hub]'") from None
    seed = bytes(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER))
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
            written.write(seed + b"\n")
    except OSError as error:
        raise ConfigError(f"cannot be made: {error.strerror}; name a new file", file=str(file)) from None
    if as_json:
        show_json({"public_key": public, "seed_file": str(file)})
    else:
        show(public)
        say(f"the seed is in {file}; name it in WATTLINE_HUB_SEED_FILE, and the key in users.conf of the hub")
