"""``wattline profiles``: the device models that can be read, and own descriptions of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from app.cli import devices
from app.cli.console import say, show, show_json, show_table
from app.cli.devices import Wanted
from app.cli.environment import settings
from app.errors import ConfigError
from collectors.profiles.profile import (
    AnyProfile,
    SnmpProfile,
    broken_profiles,
    load_profile,
    profile_file,
    profile_names,
    snmp_profile,
)
from collectors.snmp import recording
from collectors.snmp.probe import probe_agent


def listing(*, as_json: bool) -> None:
    """Print every profile, shipped and own; own ones that are broken with what is wrong; exits 1 then."""
    settings()  # says where own profiles lie
    names = profile_names()
    profiles = {name: load_profile(name) for name in names}
    broken = broken_profiles()
    if as_json:
        rows = [_document(name, profile) for name, profile in profiles.items()]
        show_json({"profiles": rows, "broken": [str(error) for error in broken]})
    else:
        head = ["profile", "protocol", "vendor", "model", "verified"]
        show_table(head, (_row(name, profile) for name, profile in profiles.items()))
        for error in broken:
            say(str(error))
    if broken:
        raise typer.Exit(1)


def _row(name: str, profile: AnyProfile) -> list[str]:
    return [name, profile.protocol, profile.vendor, profile.model, "yes" if profile.verified else "no"]


def _document(name: str, profile: AnyProfile) -> dict[str, Any]:
    return {
        "profile": name,
        "protocol": profile.protocol,
        "vendor": profile.vendor,
        "model": profile.model,
        "source": profile.source,
        "verified": profile.verified,
        "file": str(profile_file(name)),
        "channels": [channel.name for channel in profile.channels],
    }


def show_one(name: str, *, as_json: bool) -> None:
    """Print a profile as it stands in its file.

    Raises
    ------
    ConfigError
        If there is no such profile, or it is broken.
    """
    settings()
    profile = load_profile(name)
    if as_json:
        show_json(_document(name, profile))
    else:
        show(f"# {profile_file(name)}")
        show(profile_file(name).read_text(encoding="utf-8"))


def attempt(wanted: Wanted, *, as_json: bool) -> None:
    """Read a device through a profile, whether it fits or not; exits 1 where nothing comes.

    Raises
    ------
    ConfigError
        If there is no such profile, or it is broken.
    """
    devices.probe(wanted, as_json=as_json)


def check(file: Path, against: str | None, wanted: Callable[[str, str], Wanted], *, as_json: bool) -> None:
    """Check an own profile, and read a device or a recording through it; exits 1 where nothing comes.

    Parameters
    ----------
    against : str or None
        Address of a device, or a recording (``.snmprec``); None: the file alone is checked.
    wanted : callable
        From an address and a profile what is probed.

    Raises
    ------
    ConfigError
        If the profile or the recording is broken; with file, line and key.
    """
    settings()
    profile = load_profile(file)
    if against is None:
        show(f"{file}: {profile.vendor} {profile.model}, {len(profile.channels)} channels; nothing is wrong")
    elif Path(against).suffix == ".snmprec":
        _against_recording(file, Path(against), as_json=as_json)
    else:
        devices.probe(wanted(against, str(file)), as_json=as_json)


def _against_recording(file: Path, record: Path, *, as_json: bool) -> None:
    if not isinstance(load_profile(file), SnmpProfile):
        raise ConfigError("recordings are of SNMP devices; give the address of the meter", key="--against")
    snmp_profile(str(file))
    found = asyncio.run(probe_agent(recording.read(record), {"host": "192.0.2.1"}, str(file)))
    values = found[0].values if found else {}
    findings = found[0].findings if found else ("the recording has nothing of this profile",)
    if as_json:
        show_json({"profile": str(file), "recording": str(record), "values": values, "notes": list(findings)})
    else:
        for text in findings:
            show(f"note: {text}")
        show_table(["channel", ">value"], ([name, f"{value:,.3f}"] for name, value in values.items()))
    if not values:
        raise typer.Exit(1)
