"""Modbus/TCP Security (modbus.org, MB-TCP-Security v2.1): TLS below the frames, certificates on both sides.

The frames are those of Modbus TCP. The device is trusted only with a certificate of the configured
authority and of its name; it knows us by ours, and grants a role by what that says. There is no way back
to plain Modbus: a device that offers less is not read.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.errors import ConfigError

PORT = 802
"""Port of Modbus/TCP Security."""


class Tls(BaseModel):
    """``tls: {...}`` of a Modbus meter; files in PEM."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca_file: Path
    """Certificate of the authority that the device's certificate is from, or that certificate itself. E.g.
    ``/etc/wattline/ca.pem``."""
    cert_file: Path | None = None
    """Our certificate; the device grants a role by it. E.g. ``/etc/wattline/client.pem``."""
    key_file: Path | None = None
    """Its key; readable to the service alone. E.g. ``/etc/wattline/client.key``."""
    server_name: Annotated[str, Field(max_length=253)] = ""
    """Name in the device's certificate, where it is not the ``host``. E.g. ``pm-main.dc.example``."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together; give both")
        return self

    def context(self) -> ssl.SSLContext:
        """What connections are made with; the files are read anew, so that certificates may be renewed.

        Raises
        ------
        OSError
            If a file cannot be read, or is not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and name
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file, password=_refuse_password)
        return context

    def check(self) -> None:
        """See that the files are there and fit.

        Raises
        ------
        ConfigError
            If not.
        """
        for name in ("ca_file", "cert_file", "key_file"):
            path: Path | None = getattr(self, name)
            if path is not None and not path.is_file():
                raise ConfigError(f"{path} is no file; name one in PEM", key=f"tls.{name}")
        try:
            self.context()
        except OSError as error:
            raise ConfigError(
                f"certificate and key do not fit: {error}; give files in PEM", key="tls"
            ) from None


def _refuse_password() -> str:
    """Called for a key with a password; without this, it would be asked for on the terminal."""
    raise OSError("key_file has a password, which a service cannot type; keep the file readable to it alone")
