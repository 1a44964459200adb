"""Settings and the site file; no other module reads the environment.

The site file is YAML: ``institutions``, ``sites`` with their meters and points, and what belongs to
the deployment as a whole. Its shape is that of the dataclasses in ``domain/site.py``; unknown keys
are refused, and every problem is reported with its line.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.domain import formulas
from app.domain.alarms.alarm import Alarms
from app.domain.alarms.notification import Notifications
from app.domain.data.alarm_rules import ALARM_RULES
from app.domain.data.limit_profiles import LIMIT_PROFILES
from app.domain.emissions import EmissionFactor
from app.domain.limits import LimitProfile, ScoringBand, limit_problems, merged_profiles
from app.domain.overlap import source_of, undecided
from app.domain.reference import Reference
from app.domain.regulations import Regulation
from app.domain.site import Fleet, Institution, Meter, Site, overlaps
from app.domain.surcharge_rule import SurchargeRule
from app.domain.targets import Target
from app.domain.typical import PlantAssumption, PlantTypical
from app.errors import ConfigError
from app.garbage import unsearched
from app.site_dates import Dates
from collectors import network
from collectors.base import Binding
from collectors.profiles import folders
from collectors.yaml_lines import Where, YamlLines


class Settings(BaseSettings):
    """What the environment says (``WATTLINE_*``)."""

    model_config = SettingsConfigDict(env_prefix="WATTLINE_", frozen=True, extra="ignore")

    database_url: SecretStr | None = None
    """PostgreSQL to use; absent: an embedded one under the data folder. E.g.
    ``postgresql://wattline@db.example:5432/wattline``."""
    database_url_file: Path | None = None
    """File that holds the URL, for secrets mounted as files. E.g. ``/run/secrets/database_url``."""
    database_owner_url: SecretStr | None = None
    """The same database as its owner, for `wattline db upgrade` alone: the role of `database_url` is then
    made, and does not own the audit log. E.g. ``postgresql://owner@db.example:5432/wattline``."""
    database_owner_url_file: Path | None = None
    """File that holds that URL. E.g. ``/run/secrets/database_owner_url``."""
    data_dir: Path = Field(default_factory=lambda: Path.home() / ".local" / "share" / "wattline")
    """Folder for the spool, rejected rows and the embedded database; absent: ``~/.local/share/wattline``.
    E.g. ``/var/lib/wattline``."""
    config: Path | None = None
    """The site file; absent: the one the database holds. E.g. ``/etc/wattline/site.yaml``."""
    config_managed: bool = False
    """Whether the site file is managed from outside, e.g. by configuration management: pages then show it
    and do not edit it. One that the service may not write is not edited anyway. E.g. ``true``."""
    cell_id: str = Field(default="local", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """What this Wattline is called among the cells of a fleet. E.g. ``north``."""
    cells_file: Path | None = None
    """File that lists the other cells of the fleet; absent: there are none. E.g.
    ``/etc/wattline/cells.yaml``."""
    postgres_bin: Path | None = None
    """Folder of `initdb` and `postgres` for the embedded server, instead of the packaged one. E.g.
    ``/usr/lib/postgresql/17/bin``."""
    demo_days: int | None = Field(default=None, ge=1)
    """Days of history that the demo loads; absent: all 13 months, and in outline the year before the first
    energy saving measure. [d] E.g. ``30``."""
    profiles_dir: Path | None = None
    """Folder of own device profiles, which `wattline probe` tries too; those in a folder `profiles` beside
    the site file are found as well. E.g. ``/etc/wattline/profiles``."""
    collector_networks: str = ""
    """Networks of the meters, with commas between; empty: private networks, and this machine itself. E.g.
    ``10.0.4.0/24,10.0.5.0/24``."""
    require_keys: bool | None = None
    """Whether the HTTP interface asks for keys; absent: unless it is bound to loopback."""
    separate_administration: bool = False
    """Whether administration of the system, of security and of the audit is separated at the start, so that
    nobody has more than one of these duties; `wattline keys combine` ends it."""
    key_file: Path | None = None
    """File with the access key of whoever runs a command; with separate administration, `keys` and `audit`
    need one. E.g. ``/run/secrets/auditor``."""
    oidc_issuer: str = ""
    """Sign-in provider whose tokens are accepted beside keys; empty: none. E.g.
    ``https://login.bank.example``."""
    oidc_audience: str = ""
    """Audience that the provider writes for Wattline into tokens; needed with `oidc_issuer`. E.g.
    ``wattline-api``."""
    oidc_jwks_url: str = ""
    """Address of its signing keys; empty: as its discovery document says. E.g.
    ``https://login.bank.example/keys``."""
    oidc_grants_claim: str = "wattline_grants"
    """Claim of a token that lists the roles of its owner. E.g. ``wattline_grants``."""
    oidc_client_id: str = ""
    """Wattline's name at the provider, for signing in with a browser; empty: only tokens are accepted.
    E.g. ``wattline``."""
    oidc_client_secret_file: Path | None = None
    """File that holds its secret; absent: a public client. E.g. ``/run/secrets/oidc_client``."""
    session_idle_minutes: int = Field(default=30, ge=1, le=720)
    """A browser's session that is not used for so long is over; open pages use it. [min] E.g. ``10``."""
    first_key_file: Path | None = None
    """File into which the first administrator's key is written, once, where it is absent or empty; not set:
    the key is shown in the log. E.g. ``/var/lib/wattline/first_key``."""
    public_url: str = ""
    """Address under which browsers reach the service; empty: the one they ask for. E.g.
    ``https://wattline.bank.example``."""
    trusted_proxies: str = ""
    """Networks of the reverse proxies whose ``Forwarded`` and ``X-Forwarded-*`` headers are trusted, with
    commas between; empty: none. E.g. ``10.0.0.5/32``."""
    audit_retention_days: int = Field(default=365, ge=180)
    """How long the audit log is kept; at least 180. [d] E.g. ``730``."""
    audit_key_file: Path | None = None
    """File with the key that signs the audit log, at least 32 bytes, the same for all processes of a
    deployment; absent: `audit.key` in the data folder, made at the first entry. E.g.
    ``/run/secrets/audit_key``."""
    audit_syslog: str = ""
    """Syslog server (RFC 5424 over TLS) that gets the hash of the newest audit entry every 10 minutes;
    empty: none. E.g. ``siem.bank.example:6514``."""
    audit_syslog_ca_file: Path | None = None
    """Certificates of its authority; absent: those of the system. E.g. ``/etc/ssl/bank.pem``."""
    audit_webhook: str = ""
    """Address that gets the same as JSON; empty: none. E.g. ``https://siem.bank.example/wattline``."""
    retention_readings_days: int | None = Field(default=None, ge=1)
    """How long raw readings are kept, from their import if that was later; absent: 395 with TimescaleDB,
    else 90. [d] E.g. ``800``."""
    retention_intervals_days: int = Field(default=3653, ge=3653)
    """How long 15-minute figures are kept; at least 10 years. [d] E.g. ``7300``."""
    spool_days: float = Field(default=7.0, gt=0)
    """How long readings wait on disk for the store before the oldest are dropped. [d] E.g. ``14``."""
    spool_max_bytes: int | None = Field(default=None, ge=1_000_000)
    """Most that they may take on disk; absent: half of what is free there. [B] E.g. ``20000000000``."""
    centre_url: str = ""
    """Address of the centre to which an edge (`wattline serve --role edge`) sends. E.g.
    ``https://wattline.bank.example``."""
    centre_key_file: Path | None = None
    """File with the key of the edge, from `wattline edges create`. E.g. ``/etc/wattline/edge_key``."""
    centre_ca_file: Path | None = None
    """Certificates of the authority of the centre; absent: those of the system. E.g.
    ``/etc/ssl/bank.pem``."""
    centre_plain_http: bool = False
    """Whether an edge may send over ``http://`` to another machine: the key and the readings can be read on
    the way. E.g. ``true``."""
    centre_proxy: SecretStr = SecretStr("")
    """HTTP proxy through which an edge reaches its centre; absent: that of ``https_proxy``, unless
    ``no_proxy`` names the centre. E.g. ``http://proxy.bank.example:3128``."""
    centre_proxy_file: Path | None = None
    """File that holds its address, where that has a user and a password. E.g.
    ``/etc/wattline/centre_proxy``."""
    hub_url: str = ""
    """Hub through which edges send to this cell, and the id of the cell; absent: they send over HTTPS. E.g.
    ``nats://a.bank.example,b.bank.example,c.bank.example/north``."""
    hub_seed_file: Path | None = None
    """File with the NKey seed by which the hub knows this edge or cell; absent: it asks for none. E.g.
    ``/etc/wattline/hub.seed``."""
    hub_ca_file: Path | None = None
    """Certificates of the hub's authority, for a cell; absent: those of the system. E.g.
    ``/etc/ssl/bank.pem``."""
    hub_replicas: int = Field(default=3, ge=1, le=5)
    """On how many servers of the hub a batch lies until it is stored. E.g. ``1``."""
    page_key_file: Path | None = None
    """File with the key that the page and metrics of an edge ask for, as a bearer token or a browser's
    password; without it they are for this machine alone. E.g. ``/etc/wattline/page_key``."""
    edge_backlog_per_s: float = Field(default=5000.0, gt=0)
    """How many readings that waited at edges all of them together may send after an outage. [1/s] E.g.
    ``2000``."""
    late_days: int = Field(default=30, ge=1)
    """Readings may come this late without cost. [d] E.g. ``60``."""

    @field_validator("audit_syslog")
    @classmethod
    def _host_and_port(cls, text: str) -> str:
        if text and not re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", text):
            raise ValueError("write host:port")
        return text

    @field_validator("audit_webhook")
    @classmethod
    def _secured(cls, text: str) -> str:
        if text and not text.startswith("https://"):
            raise ValueError("write https://...")
        return text

    @field_validator("collector_networks", "trusted_proxies")
    @classmethod
    def _networks(cls, text: str) -> str:
        network.parse(text)
        return text

    def oidc_client_secret(self) -> str:
        """Wattline's secret at the sign-in provider; empty where there is none.

        Raises
        ------
        ConfigError
            If its file cannot be read.
        """
        if self.oidc_client_secret_file is None:
            return ""
        return secret_in(self.oidc_client_secret_file, "WATTLINE_OIDC_CLIENT_SECRET_FILE")

    def url(self) -> str | None:
        """The database URL from the environment or its file.

        Raises
        ------
        ConfigError
            If the file cannot be read.
        """
        if self.database_url_file is not None:
            return secret_in(self.database_url_file, "WATTLINE_DATABASE_URL_FILE")
        return self.database_url.get_secret_value() if self.database_url else None

    def owner_url(self) -> str | None:
        """The database URL of its owner; None where the service's own role is that.

        Raises
        ------
        ConfigError
            If the file cannot be read.
        """
        if self.database_owner_url_file is not None:
            return secret_in(self.database_owner_url_file, "WATTLINE_DATABASE_OWNER_URL_FILE")
        return self.database_owner_url.get_secret_value() if self.database_owner_url else None


def secret_in(file: Path, key: str) -> str:
    """Text of a file that holds a secret; `key` names the setting.

    Raises
    ------
    ConfigError
        If it cannot be read; where its rights are the reason, with the command that changes them.
    """
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(why_unreadable(error), file=str(file), key=key) from None


def why_unreadable(error: OSError | UnicodeDecodeError) -> str:
    """What is wrong with a file, and what to do about it."""
    if isinstance(error, PermissionError):
        return (
            f"user {os.geteuid()}, as whom Wattline runs, may not read it; on the machine that it comes "
            "from: chmod a+r FILE, and chmod a+rx FOLDER for a folder that is mounted"
        )
    return f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"


@dataclass(frozen=True, kw_only=True)
class SiteFile:
    """Root of the site file."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic as it is

    institutions: tuple[Institution, ...] = ()
    """The institutions; every site belongs to one."""
    sites: tuple[Site, ...] = ()
    """The data centres with their meters."""
    limit_profiles: tuple[LimitProfile, ...] = ()
    """PUE limits beside the built-in ones; one with the id of a built-in profile takes its place."""
    emission_factors: tuple[EmissionFactor, ...] = ()
    """Emission factors beside, or instead of, the built-in ones of the same region, basis and year."""
    indicator_targets: tuple[Target, ...] = ()
    """Targets of other indicators; the latest that holds counts."""
    scoring_bands: tuple[ScoringBand, ...] = ()
    """Ranges in which indicators earn points; the latest that holds counts."""
    plant_typicals: tuple[PlantTypical, ...] = ()
    """Typical values of plant indicators beside, or instead of, the built-in ones of the same day."""
    plant_assumptions: tuple[PlantAssumption, ...] = ()
    """Assumptions behind the estimated savings beside, or instead of, the built-in ones of the same day."""
    surcharges: tuple[SurchargeRule, ...] = ()
    """Surcharges on electricity above a PUE limit, beside, or instead of, the built-in ones."""
    regulations: tuple[Regulation, ...] = ()
    """Regulations that apply to sites, beside, or instead of, the built-in ones."""
    alarms: Alarms = field(default_factory=Alarms)
    """Alarm rules beside, or instead of, the built-in ones."""
    notifications: Notifications = field(default_factory=Notifications)
    """Recipients of alarms and finalised reports, and the channels used."""

    @cached_property
    def fleet(self) -> Fleet:
        """Everything that is measured."""
        return Fleet(institutions=self.institutions, sites=self.sites)

    @property
    def reference(self) -> Reference:
        """The operator's own dated data beside the limits."""
        return Reference(
            emission_factors=self.emission_factors,
            indicator_targets=self.indicator_targets,
            scoring_bands=self.scoring_bands,
            plant_typicals=self.plant_typicals,
            plant_assumptions=self.plant_assumptions,
            surcharges=self.surcharges,
            regulations=self.regulations,
        )


@cache
def _adapter() -> TypeAdapter[SiteFile]:
    return TypeAdapter(SiteFile)


def load(path: Path) -> SiteFile:
    """Read and check a site file.

    Raises
    ------
    ConfigError
        If anything in the file is not understood; one line for each problem.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{why_unreadable(error)}; give a UTF-8 YAML file", file=str(path)) from None
    folders.add(path.parent / "profiles")
    return parse(text, str(path))


def parse(text: str, name: str = "<text>") -> SiteFile:
    """Check the text of a site file; `name` stands in the messages."""
    with unsearched():
        return _parsed(text, name)


def _parsed(text: str, name: str) -> SiteFile:
    lines = YamlLines(text, name, "institutions and sites")
    dates = Dates(lines)
    try:
        file = _adapter().validate_python(dates.data)
    except ValidationError as error:
        found = [*map(str, dates.problems), *(_one_problem(e, lines, dates) for e in error.errors())]
        raise ConfigError("\n".join(found)) from None
    problems = dates.problems or list(_cross_checks(file, lines))
    if problems:
        raise ConfigError("\n".join(str(p) for p in problems))
    return _with_defaults(file, lines)


def dump(file: SiteFile) -> str:
    """What a site file says, with what the profiles of its meters know, as JSON: see :func:`restore`."""
    said = _adapter().dump_python(file, mode="json", exclude_defaults=True)
    return json.dumps(said, separators=(",", ":"), sort_keys=True)


def restore(text: str) -> SiteFile:
    """A site file from what :func:`dump` gave, on this machine or another one.

    Raises
    ------
    ConfigError
        If it is not understood, e.g. because a newer version wrote it.
    """
    try:
        with unsearched():
            return _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{first['msg']}; update this installation", key=where) from None


def fingerprint(file: SiteFile) -> str:
    """SHA-256 of what a site file says, in hexadecimal; layout, comments and order of keys do not count."""
    return hashlib.sha256(_adapter().dump_json(file)).hexdigest()


def _with_defaults(file: SiteFile, lines: YamlLines) -> SiteFile:
    """The file with what the meters' collectors and profiles know about their points."""
    stated = {file_id for path, file_id in _point_ids(file) if lines.stands((*path, "interval_s"))}

    def ready(meter: Meter) -> Meter:
        if meter.collector is None:
            return meter
        from collectors import registry  # models of every protocol: only where a site file is read

        points = registry.with_defaults(registry.parse(meter.collector), meter.read_points, stated)
        known = {p.id: p for p in points}
        return replace(meter, points=tuple(known.get(p.id, p) for p in meter.points))

    sites = tuple(replace(site, meters=tuple(map(ready, site.meters))) for site in file.sites)
    return replace(file, sites=sites)


def _point_ids(file: SiteFile) -> Iterator[tuple[Where, str]]:
    for path, meter in _meters(file):
        for n, point in enumerate(meter.points):
            yield (*path, "points", n), point.id


def _one_problem(error: Any, lines: YamlLines, dates: Dates) -> str:
    where = dates.written(tuple(error["loc"]))
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error" and isinstance(error.get("input"), dict):
        where += _culprit(message, error["input"])
    if error["type"] == "unexpected_keyword_argument":
        message = "unknown key; remove it, or see `wattline config-schema` for what is allowed"
    elif error["type"] == "missing":
        message = "is missing; add it"
    elif "input" in error and not isinstance(error["input"], dict | list | tuple):
        message = f"{message}, not {error['input']!r}"
    return str(lines.error(where, message))


def _culprit(message: str, mapping: dict[str, Any]) -> tuple[str, ...]:
    """The key of `mapping` that a message about the whole of it speaks of, by its name or its value."""
    words = re.findall(r"\w+", message)
    named = [key for key in mapping if key in words]
    quoted = [key for key, value in mapping.items() if isinstance(value, str) and repr(value) in message]
    return tuple((named or quoted)[:1])


def _cross_checks(file: SiteFile, lines: YamlLines) -> Iterator[ConfigError]:
    banks = sorted(i.id for i in file.institutions)
    for n, site in enumerate(file.sites):
        if site.institution not in banks:
            allowed = ", ".join(banks) or "none is listed under institutions"
            where = ("sites", n, "institution")
            yield lines.error(where, f"{site.institution!r} is not known; allowed: {allowed}")
    yield from _twice(_ids(file), lines)
    yield from _overlaps(file, lines)
    yield from _former_problems(file, lines)
    yield from _formula_problems(file, lines)
    for path, meter in _meters(file):
        yield from _collector_problems(path, meter, lines)
    yield from _undecided(file, lines)
    yield from _unknown_rooms(file, lines)
    yield from _one_device_twice(file, lines)
    yield from _limit_problems(file, lines)
    yield from _alarm_problems(file, lines)


def _unknown_rooms(file: SiteFile, lines: YamlLines) -> Iterator[ConfigError]:
    """Weights of rooms in which no meter stands: their cost would go nowhere."""
    for n, site in enumerate(file.sites):
        for k, one in enumerate(site.business_lines):
            for room in sorted(set(one.weights) - set(site.rooms)):
                where = ("sites", n, "business_lines", k, "weights", room)
                allowed = ", ".join(site.rooms) or "none; state `room` of the meters"
                yield lines.error(where, f"no meter stands in room {room!r}; allowed: {allowed}")


def _undecided(file: SiteFile, lines: YamlLines) -> Iterator[ConfigError]:
    """Meters of several stages that may measure the same energy."""
    for n, site in enumerate(file.sites):
        problem = next(filter(None, map(undecided, site.states)), None)
        if problem:
            yield lines.error(_place_of(file, n, problem), problem)


def _place_of(file: SiteFile, site: int, problem: str) -> Where:
    """The meter of the point that a problem names first."""
    for path, meter in _meters(file):
        if path[1] == site and any(problem.startswith(p.id) for p in meter.points):
            return path
    return ("sites", site)


def _one_device_twice(file: SiteFile, lines: YamlLines) -> Iterator[ConfigError]:
    """Meters that read the same value of the same device: each point counts what the other counts."""
    seen: dict[str, str] = {}
    for path, meter in _meters(file):
        for n, point in enumerate(meter.points):
            source = source_of(meter, point)
            if source is None:
                continue
            other = seen.setdefault(source, point.id)
            if other != point.id:
                problem = f"point {point.id} reads the same value of the same device as point {other}; "
                yield lines.error((*path, "points", n), problem + "change host, device_id, url or channel")


def _limit_problems(file: SiteFile, lines: YamlLines) -> Iterator[ConfigError]:
    profiles = merged_profiles(LIMIT_PROFILES, file.limit_profiles)
    banks = {i.id: i for i in file.institutions}
    for n, site in enumerate(file.sites):
        if site.institution in banks:
            today = datetime.now(site.zone).date()
            for problem in limit_problems(site, banks[site.institution], profiles, today):
                yield lines.error(("sites", n, *_culprit(problem, lines.data["sites"][n])), problem)


def _alarm_problems(file: SiteFile, lines: YamlLines) -> Iterator[ConfigError]:
    """Names in the sections of alarms and notifications that nothing has."""
    sites = {s.id for s in file.sites}
    rules = {r.id for r in (*ALARM_RULES, *file.alarms.rules)}
    parts: list[tuple[Where, str, Collection[str], Collection[str]]] = [
        (("alarms", "disabled"), "rule", file.alarms.disabled, rules)
    ]
    for n, rule in enumerate(file.alarms.rules):
        parts.append((("alarms", "rules", n, "sites"), "site", rule.sites, sites))
        parts.append((("alarms", "rules", n, "quiet_while"), "rule", rule.quiet_while, rules))
    for n, route in enumerate(file.notifications.routes):
        parts.append((("notifications", "routes", n, "sites"), "site", route.sites, sites))
        parts.append((("notifications", "routes", n, "rules"), "rule", route.rules, rules))
    for n, sent in enumerate(file.notifications.reports):
        path, banks = ("notifications", "reports", n), {i.id for i in file.institutions}
        parts.append(((*path, "sites"), "site", sent.sites, sites))
        parts.append(((*path, "institutions"), "institution", sent.institutions, banks))
    for where, kind, names, known in parts:
        for name in sorted(set(names) - set(known)):
            allowed = ", ".join(sorted(known)) or "none"
            yield lines.error(where, f"there is no {kind} {name!r}; known are {allowed}")


def _meters(file: SiteFile) -> Iterator[tuple[Where, Meter]]:
    for n, site in enumerate(file.sites):
        for m, meter in enumerate(site.meters):
            yield ("sites", n, "meters", m), meter


def _ids(file: SiteFile) -> Iterator[tuple[str, Where]]:
    """Kind and id of every institution and site, with its place."""
    yield from ((f"institution {i.id}", ("institutions", n, "id")) for n, i in enumerate(file.institutions))
    yield from ((f"site {s.id}", ("sites", n, "id")) for n, s in enumerate(file.sites))


def _twice(ids: Iterator[tuple[str, Where]], lines: YamlLines) -> Iterator[ConfigError]:
    seen: dict[str, Where] = {}
    for name, path in ids:
        if name in seen:
            yield lines.error(path, f"{name} is declared a second time; ids are unique in a deployment")
        seen.setdefault(name, path)


def _overlaps(file: SiteFile, lines: YamlLines) -> Iterator[ConfigError]:
    for found in overlaps(file.sites):
        point = () if found.point is None else ("points", found.point)
        yield lines.error(("sites", found.site, "meters", found.meter, *point, "id"), found.problem)


def _formula_problems(file: SiteFile, lines: YamlLines) -> Iterator[ConfigError]:
    for found in formulas.problems(file.sites):
        where = ("sites", found.site, "meters", found.meter, "points", found.point, "formula")
        yield lines.error(where, found.problem)


def _former_problems(file: SiteFile, lines: YamlLines) -> Iterator[ConfigError]:
    """Earlier ids that are still in use, or claimed by two points."""
    declared = {point_id for _, point_id in _point_ids(file)}
    claimed: dict[str, str] = {}
    for path, meter in _meters(file):
        for n, point in enumerate(meter.points):
            for former in point.formerly:
                where = (*path, "points", n, "formerly")
                if former in declared:
                    yield lines.error(where, f"{former!r} is still declared; use the new id everywhere")
                elif claimed.setdefault(former, point.id) != point.id:
                    yield lines.error(where, f"{former!r} is claimed by {claimed[former]!r}; keep one")


def _collector_problems(path: Where, meter: Meter, lines: YamlLines) -> Iterator[ConfigError]:
    if meter.collector is None:
        return
    try:
        from collectors import registry

        registry.build(registry.parse(meter.collector), Binding(meter.id, meter.read_points))
    except ConfigError as error:
        if error.file:  # the fault is in the profile that the meter names
            yield ConfigError(str(error))
        else:
            yield lines.error((*path, "collector", *filter(None, [error.key])), error.problem)
