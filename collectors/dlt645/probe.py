"""Find the DL/T 645 meters on a line, and propose their configuration; only reads.

A meter that is alone on its line tells its address. Several answer the wildcard all at once, which no one can
read: their addresses, which stand on their plates, are named then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.domain.quantity import TEMPERATURE, ReadingKind, Role
from app.domain.site import Point
from app.errors import CollectError, ConfigError, DeviceRefused, DeviceUnreachable
from collectors import registry
from collectors.base import Binding
from collectors.dlt645.codec import WILDCARD, NoValue, moment, number, request
from collectors.dlt645.collector import Dlt645Collector, Dlt645Config
from collectors.dlt645.link import LINKS, Link, Requester
from collectors.found import Found, Outcome, Target
from collectors.plausibility import contradictions, withheld
from collectors.profiles.profile import Channel

EDITIONS = {"dlt645_2007": "00010000", "dlt645_1997": "9010"}
"""Profile of each edition, and the identifier that every meter of it has: imported energy."""
_MAXIMUM = "01010000"
_DATE, _TIME, _CURRENT_RATIO, _VOLTAGE_RATIO = "04000101", "04000102", "04000306", "04000307"
_MOST_METERS = 64


@dataclass(frozen=True, slots=True)
class _Seen:
    """A meter that answered."""

    address: str
    profile: str


async def answers(target: Target, port: int) -> Outcome:
    """The meters on a line: those of ``options.address`` (commas between), else the one that is alone."""
    addresses, settings = _asked(target, port)
    found: list[Found] = []
    problems: list[str] = []
    for address in addresses:
        config = _config({**settings, "address": address})
        with LINKS.using(config.endpoint) as link:
            try:
                seen = await _seen(link, config)
                found.append(await _described(link, config, seen))
            except DeviceUnreachable as error:
                problems.append(_silence(error, link, address))
            except CollectError as error:
                problems.append(f"DL/T 645: {error}")
    return Outcome(tuple(found), tuple(problems))


def _asked(target: Target, port: int) -> tuple[list[str], dict[str, Any]]:
    """Addresses that are asked, and the other settings."""
    settings: dict[str, Any] = {"timeout_s": 1.0, "retries": 1, **target.collector("dlt645", port)}
    if settings.get("serial_port"):
        settings = {key: value for key, value in settings.items() if key not in ("host", "port")}
    addresses = [part.strip() for part in str(settings.pop("address", "") or WILDCARD).split(",")]
    if len(addresses) > _MOST_METERS:
        raise ConfigError(f"{len(addresses)} addresses; a probe may have {_MOST_METERS}", key="address")
    return addresses, settings


def _config(mapping: dict[str, Any]) -> Dlt645Config:
    config = registry.parse(mapping)
    assert isinstance(config, Dlt645Config)
    return config


def _silence(error: DeviceUnreachable, link: Link, address: str) -> str:
    if address == WILDCARD and link.heard_noise:
        return f"DL/T 645: {error}; if several meters answer at once, name their addresses (option address)"
    return f"DL/T 645: {error}"


def _requester(config: Dlt645Config) -> Requester:
    device = config.host or config.serial_port
    return Requester(device, config.address, config.timeout_s, config.retries, config.wake_up)


async def _seen(link: Link, config: Dlt645Config) -> _Seen:
    """Address and edition of the meter.

    Raises
    ------
    DeviceUnreachable
        If nothing answers in either edition.
    """
    requester = _requester(config)
    if config.address == WILDCARD:
        try:
            return await _edition(link, requester, await link.address(requester))
        except DeviceRefused:
            pass
        except DeviceUnreachable as error:
            if "cannot open" in error.problem or link.heard_noise:
                raise
    return await _edition(link, requester, config.address)


async def _edition(link: Link, requester: Requester, address: str) -> _Seen:
    """The edition in which a meter answers; an error is an answer too."""
    silence: DeviceUnreachable | None = None
    for profile, identifier in EDITIONS.items():
        try:
            said = await link.ask(requester, request(address, identifier))
        except DeviceUnreachable as error:
            silence = silence or error
            if "cannot open" in error.problem:
                break
        except DeviceRefused:
            if address != WILDCARD:
                return _Seen(address, profile)
        else:
            return _Seen(said.address, profile)
    raise silence or DeviceUnreachable(requester.device, f"meter {address} refuses to be read")


async def _described(link: Link, config: Dlt645Config, seen: _Seen) -> Found:
    """The meter's values through the profile, with what an installer should know."""
    update: dict[str, Any] = {"address": seen.address}
    if "profile" not in config.model_fields_set:
        update["profile"] = seen.profile
    known = config.model_copy(update=update)
    profile = known.device_profile()
    collector = Dlt645Collector(known, Binding(seen.address, tuple(map(_point, profile.channels))))
    try:
        poll = await collector.poll(datetime.now(UTC))
    finally:
        await collector.close()
    read = dict(zip(poll.points, poll.values, strict=True))
    contradicting = contradictions(read)
    values = {name: value for name, value in read.items() if name not in withheld(contradicting)}
    notes = [f"address {seen.address}", *(one.text for one in contradicting)]
    if len(profile.channels[0].identifier) == len(EDITIONS["dlt645_2007"]):
        notes += await _told(link, _requester(known))
    yaml = _meter_yaml(known, profile.name, values)
    return Found(profile.name, f"{profile.model} ({seen.address})", values, tuple(notes), yaml)


async def _told(link: Link, requester: Requester) -> list[str]:
    """What a meter of 2007 says beside its values: transformer ratios, its clock, maximum demand."""
    notes = []
    try:
        ratios = [number(await link.read(requester, one)) for one in (_CURRENT_RATIO, _VOLTAGE_RATIO)]
        if max(ratios) > 1:
            notes.append(
                f"transformer ratios {ratios[0]} (current) and {ratios[1]} (voltage) are set: where the "
                f"display shows secondary values, multiplier is {ratios[0] * ratios[1]}"
            )
    except (CollectError, NoValue):
        pass
    try:
        date, time = await link.read(requester, _DATE), await link.read(requester, _TIME)
        notes.append(f"its clock says {moment(time + date[1:], '%y%m%d%H%M%S')}")
    except (CollectError, NoValue):
        pass
    try:
        data = await link.read(requester, _MAXIMUM)
        when = moment(data[3:], "%y%m%d%H%M")
        notes.append(f"maximum demand {number(data[:3]) * 1e-4:g} kW at {when:%Y-%m-%d %H:%M} by its clock")
    except (CollectError, NoValue):
        pass
    return notes


def _point(channel: Channel) -> Point:
    role = Role.NONE if channel.kind == "gauge" else Role.OTHER
    role = Role.TEMPERATURE if channel.quantity is TEMPERATURE else role
    return Point(id=channel.name, role=role, kind=ReadingKind(channel.kind), channel=channel.name)


def _meter_yaml(config: Dlt645Config, profile: str, channels: Iterable[str]) -> str:
    """The meter as the site file has it, with a point for its total energy and power."""
    there, name = set(channels), f"m{config.address}"
    place = (
        f'serial_port: "{config.serial_port}", baud_rate: {config.baud_rate}, parity: {config.parity}'
        if config.serial_port
        else f'host: "{config.host}", port: {config.port}'
    )
    offered = [one for one in (("energy_import_kwh", "register"), ("power_kw", "power")) if one[0] in there]
    return "\n".join(
        [
            f"- id: {name}",
            f"  name: DL/T 645 {config.address}",
            f'  collector: {{kind: dlt645, {place}, address: "{config.address}", profile: {profile}}}',
            "  points:  # role: facility, it_ups_output, it_pdu_output, cooling, lighting ..."
            if offered
            else "  points: []  # nothing here can be proposed; see the notes",
            *(
                f"  - {{id: {name}-{channel.split('_')[0]}, role: other, kind: {kind}, channel: {channel}}}"
                for channel, kind in offered
            ),
            "",
        ]
    )
