"""Ask an address what it is, in every protocol that may be spoken there: one probe for all who ask."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from app.domain.quantity import ReadingKind, Role
from app.errors import CollectError, ConfigError
from collectors.found import Outcome, Target
from collectors.network import refusal
from collectors.profiles.profile import broken_profiles, load_profile
from collectors.registry import KINDS, require_packages

PATIENCE_S = 30.0
"""Longest time that a probe takes. [s]"""
BOTH = "both"
"""The protocols that any address may speak, each on its usual port."""

PROTOCOLS: dict[str, str] = {name: kind.title for name, kind in KINDS.items() if kind.probe}
"""Name of a kind that can be probed -> its name for people."""


async def probe(target: Target, *, patience_s: float | None = None) -> Outcome:
    """What answers at an address, by reading only; what does not answer is a problem of the outcome.

    Parameters
    ----------
    patience_s : float or None
        Longest time in all. None: 30 s, or ten times the wait for one answer. [s]

    Raises
    ------
    ConfigError
        If the protocol or profile is not known or broken, or what is said of the access is not understood.
    """
    patience_s = patience_s or max(PATIENCE_S, 10 * (target.timeout_s or 0))
    chosen = _protocols(target)
    patient = [asyncio.wait_for(_asked(name, target), patience_s) for name in chosen]
    outcomes = await asyncio.gather(*patient, return_exceptions=True)
    own = tuple(f"own profile left out: {error}" for error in broken_profiles())
    parts = [_part(*one, target, patience_s) for one in zip(chosen, outcomes, strict=True)]
    return joined([Outcome((), own), *parts])


def joined(outcomes: Iterable[Outcome]) -> Outcome:
    """Several outcomes as one."""
    parts = list(outcomes)
    return Outcome(
        tuple(one for part in parts for one in part.found),
        tuple(one for part in parts for one in part.problems),
        tuple(one for part in parts for one in part.unknown),
    )


def allowed(protocol: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the collector that somebody from elsewhere says, without empty ones.

    Raises
    ------
    ConfigError
        If one may be said by the operator of this machine only.
    """
    may_say = KINDS[protocol].options if protocol in KINDS else ()
    for key in options:
        if key not in may_say:
            which = ", ".join(may_say) or "none"
            raise ConfigError(f"is not an option of {protocol} here; allowed are {which}", key=key)
    return {key: value for key, value in options.items() if value != ""}


def _protocols(target: Target) -> list[str]:
    """The protocols that a target is asked in."""
    if target.protocol != BOTH and target.protocol not in PROTOCOLS:
        allowed = ", ".join((BOTH, *PROTOCOLS))
        raise ConfigError(f"{target.protocol!r} is not known; allowed are {allowed}", key="protocol")
    if target.protocol == BOTH and "://" in target.host:
        return [_of_address(target.host)]
    if not target.profile:
        return [
            n for n in PROTOCOLS if n == target.protocol or (target.protocol == BOTH and KINDS[n].is_tried)
        ]
    protocol = load_profile(target.profile).protocol
    return [protocol] if target.protocol in (BOTH, protocol) else []


def _of_address(url: str) -> str:
    """The kind that an address is of, by how it begins."""
    scheme = url.partition("://")[0].partition("+")[0].lower()
    found = next((name for name, kind in KINDS.items() if scheme in kind.schemes), None)
    if found is None:
        raise ConfigError(f"{scheme}:// is of several kinds; name one with --protocol", key="host")
    return found


def _asked(name: str, target: Target) -> Awaitable[Outcome]:
    kind = KINDS[name]
    require_packages(name)
    ask: Callable[[Target, int], Awaitable[Outcome]] = importlib.import_module(kind.probe).answers
    return ask(target, kind.port)


def _part(name: str, outcome: Outcome | BaseException, target: Target, patience_s: float) -> Outcome:
    if isinstance(outcome, BaseException):
        return Outcome((), (_problem(PROTOCOLS[name], outcome, patience_s),))
    if outcome.found or outcome.problems:
        return outcome
    return Outcome((), (_no_profile(PROTOCOLS[name], target),), outcome.unknown)


def _no_profile(protocol: str, target: Target) -> str:
    if target.profile:
        return f"{protocol}: the device answers, but has nothing of profile {target.profile}"
    return f"{protocol}: the device answers, but matches no profile"


def _problem(protocol: str, error: BaseException, patience_s: float) -> str:
    """What a failed probe means; raises what is no answer of a device."""
    if isinstance(error, TimeoutError):
        return f"{protocol}: the device answers too slowly, not finished after {patience_s:g} s"
    if not isinstance(error, CollectError):
        raise error  # a fault of ours, or of what was asked
    return f"{protocol}: {error}"


def composed(text: str, picks: Mapping[str, str]) -> str:
    """The proposed configuration with the picked channels as points; as it was where none is picked.

    Parameters
    ----------
    picks : mapping of channel to role
        What is to be read, and what it counts as.
    """
    meters = yaml.safe_load(text)
    if not picks or not isinstance(meters, list):
        return text
    for meter in meters:
        known = {p.get("channel"): p for p in meter["points"] or []}
        meter["points"] = [
            {**known.get(channel, _point(meter["id"], channel)), "role": str(role)}
            for channel, role in picks.items()
        ]
    return str(
        yaml.safe_dump(meters, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
    )


def _point(meter: str, channel: str) -> dict[str, str]:
    """A point for a channel, whose name ends in its unit."""
    unit = channel.rpartition("_")[2]
    kind = {"kwh": ReadingKind.REGISTER, "kw": ReadingKind.POWER}.get(unit, ReadingKind.GAUGE)
    return {"id": f"{meter}-{channel}", "role": Role.NONE.value, "kind": kind.value, "channel": channel}


@dataclass(frozen=True, slots=True)
class Answer:
    """An address of a range that answers, in a line."""

    host: str
    model: str
    """Empty: not known."""
    profile: str
    power_kw: float | None
    energy_kwh: float | None
    note: str
    """What to look at; of an unknown device what it says of itself."""

    @classmethod
    def of(cls, host: str, outcome: Outcome) -> Answer:
        """The likeliest profile of an outcome, with its totals."""
        if not outcome.found:
            descr = outcome.unknown[0].sys_descr if outcome.unknown else "; ".join(outcome.problems)
            return cls(host, "", "", None, None, descr)
        best = outcome.found[0]
        power_kw, energy_kwh = best.values.get("power_kw"), best.values.get("energy_import_kwh")
        note = best.notes[0] if best.notes else ""
        return cls(host, best.model, best.profile, power_kw, energy_kwh, note)


def is_range(text: str) -> bool:
    """Whether a text names a range of addresses, not one, nor a URL."""
    return "/" in text and "://" not in text


def answers(outcome: Outcome) -> bool:
    """Whether anything is at the address, known or not."""
    return bool(outcome.found or outcome.unknown) or any("answers" in p for p in outcome.problems)


MOST_ADDRESSES = 256
MOST_WHILE_WAITING = 64
"""Addresses of a range that is probed while somebody waits for a page or an answer."""
AT_ONCE = 16
"""Addresses of a range that are asked at the same time."""


async def probe_range(target: Target, *, most: int = MOST_WHILE_WAITING) -> dict[str, Outcome]:
    """What each address of the range ``target.host`` answers; those that do not are left out.

    Raises
    ------
    ConfigError
        If it is no range, too large, or outside of the networks that may be reached.
    """
    found = await each(addresses(target.host, most), lambda host: probe(replace(target, host=host)))
    return {host: outcome for host, outcome in found.items() if answers(outcome)}


def addresses(text: str, most: int = MOST_ADDRESSES) -> list[str]:
    """The hosts of a range such as ``10.0.4.0/28``.

    Raises
    ------
    ConfigError
        If it is no range, too large, or outside of the networks that may be reached.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ConfigError(f"{error}; give an address or a range such as 10.0.4.0/28", key="host") from None
    if network.num_addresses > most:
        problem = f"{network.num_addresses} addresses; a range may have {most} here"
        raise ConfigError(problem, key="host")
    hosts = [str(host) for host in network.hosts()]
    if refused := next(filter(None, map(refusal, hosts)), None):
        raise ConfigError(refused, key="host")
    return hosts


async def each(hosts: Sequence[str], ask: Callable[[str], Awaitable[Outcome]]) -> dict[str, Outcome]:
    """What each host answers; only some of them are asked at the same time."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(host: str) -> Outcome:
        async with limit:
            return await ask(host)

    return dict(zip(hosts, await asyncio.gather(*map(one, hosts)), strict=True))
