"""Who may see and do what: roles, on one site, on the sites of one institution, or everywhere.

A grant is written ``viewer``, ``operator:site/sh1`` or ``admin:institution/bank``. Where several
grants reach a site the highest role counts. Without any, the site does not exist for the caller.

Administration has three duties: of the system, of security, of the audit. ``admin`` has all three; with
separate administration (GB/T 22239-2019, level 3) it is not given, and nobody has more than one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.site import Site
from app.errors import SeriesError

KEY_COOKIE = "wattline_key"
"""Name under which a browser keeps a key: the pages set it, the HTTP interface reads it."""


def cookie_name(name: str, is_https: bool) -> str:
    """`name` as it is spoken of with a browser.

    Over https with the prefix that makes the browser keep other hosts and plain http away from it.
    """
    return f"__Host-{name}" if is_https else name


class Duty(StrEnum):
    """A part of administration; each is for the whole deployment."""

    SYSTEM = "system"
    """Run the service: its site file, jobs, database and backups; operate every site."""
    SECURITY = "security"
    """Keys, roles and sessions."""
    AUDIT = "audit"
    """The audit log: read, verify, export."""


class Role(StrEnum):
    """What a caller may do: on sites, and which duties of administration."""

    VIEWER = "viewer"
    """See figures, exports and reports."""
    OPERATOR = "operator"
    """Send readings, import files, declare events, acknowledge, too."""
    SYSTEM = "system"
    """System administration."""
    SECURITY = "security"
    """Security administration; sees no figures."""
    AUDIT = "audit"
    """Audit administration; sees no figures."""
    ADMIN = "admin"
    """All administration."""
    EDGE = "edge"
    """Send the readings of sites as their edge, and get their definitions; sees no figures."""

    @property
    def on_sites(self) -> Role | None:
        """What it may do on the sites that a grant reaches: viewer, operator or admin; None: nothing."""
        if self in (Role.SECURITY, Role.AUDIT, Role.EDGE):
            return None
        return Role.OPERATOR if self is Role.SYSTEM else self

    @property
    def duties(self) -> frozenset[Duty]:
        """What it administers, where the grant is for everything."""
        if self is Role.ADMIN:
            return frozenset(Duty)
        return frozenset(duty for duty in Duty if duty.value == self.value)

    @property
    def rank(self) -> int:
        """Place among the roles on sites, the highest last."""
        return (Role.VIEWER, Role.OPERATOR, Role.ADMIN).index(self)


_GRANT = re.compile(
    r"(?P<role>[a-z]+)(:(?P<kind>site|institution)/(?P<key>[A-Za-z0-9][A-Za-z0-9._:-]{0,99}))?"
)


@dataclass(frozen=True, slots=True)
class Grant:
    """A role on a site, on an institution, or (both empty) everywhere."""

    role: Role
    site: str = ""
    institution: str = ""

    @classmethod
    def parse(cls, text: str) -> Grant:
        """A grant from its text.

        Raises
        ------
        ValueError
            If it is none; the text says what is allowed.
        """
        match = _GRANT.fullmatch(text)
        if match is None or match["role"] not in list(Role):
            raise ValueError(
                f"{text!r} is no grant; write viewer, operator or admin, or system, security or audit, "
                "for one site operator:site/ID, for one institution operator:institution/ID"
            )
        role, where = Role(match["role"]), {match["kind"]: match["key"]} if match["kind"] else {}
        if where and role in (Role.SYSTEM, Role.SECURITY, Role.AUDIT):
            raise ValueError(f"{text!r} is no grant; {role} is for the whole deployment, write {role}")
        if role is Role.EDGE and "site" not in where:
            raise ValueError(f"{text!r} is no grant; an edge has sites, write edge:site/ID")
        return cls(role, **where)

    def __str__(self) -> str:
        if self.site:
            return f"{self.role}:site/{self.site}"
        return f"{self.role}:institution/{self.institution}" if self.institution else self.role.value

    @property
    def is_everywhere(self) -> bool:
        """Whether it is for the whole deployment."""
        return not self.site and not self.institution

    def reaches(self, site: Site) -> bool:
        """Whether the site is one of those it is about."""
        return self.reaches_ids(site.id, site.institution)

    def reaches_ids(self, site: str, institution: str) -> bool:
        """The same of a site that is known by its id and that of its institution."""
        if self.role.on_sites is None:
            return False
        own = (self.site, self.institution)
        return self.is_everywhere or (site, "") == own or ("", institution) == own

    def reaches_institution(self, key: str) -> bool:
        """Whether it reaches every site of an institution."""
        return self.role.on_sites is not None and not self.site and self.institution in ("", key)


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody, or some program, with a name for the audit log."""

    name: str
    grants: tuple[Grant, ...]
    key_id: str = ""
    """Id of the key that was shown; several keys may have one name."""
    is_local: bool = False
    """Whether it is somebody on this machine itself, who can read what the service can read."""

    @property
    def tenant(self) -> str:
        """Whose work it is, for fair shares: the institutions or sites of the grants; empty: everybody's."""
        if any(grant.is_everywhere for grant in self.grants):
            return ""
        return ",".join(sorted({grant.institution or grant.site for grant in self.grants}))

    def role_at(self, site: Site) -> Role | None:
        """The highest role on a site; None where the site does not exist for the caller."""
        return highest(g.role.on_sites for g in self.grants if g.reaches(site))

    @property
    def role_everywhere(self) -> Role | None:
        """The highest role that reaches every site."""
        return highest(g.role.on_sites for g in self.grants if g.is_everywhere)

    @property
    def may_send(self) -> bool:
        """Whether it is operator of anything."""
        return any(g.role.on_sites not in (None, Role.VIEWER) for g in self.grants)

    @property
    def edge_sites(self) -> frozenset[str]:
        """Sites for which it sends as an edge."""
        return frozenset(g.site for g in self.grants if g.role is Role.EDGE)

    @property
    def duties(self) -> frozenset[Duty]:
        """What it administers."""
        return duties_of(self.grants)


def highest(roles: Iterable[Role | None]) -> Role | None:
    """The highest of some roles on sites; None of none."""
    return max((role for role in roles if role is not None), key=lambda role: role.rank, default=None)


def duties_of(grants: Iterable[Grant]) -> frozenset[Duty]:
    """What somebody with these grants administers."""
    return frozenset(duty for grant in grants if grant.is_everywhere for duty in grant.role.duties)


def why_not_separate(grants: Iterable[Grant]) -> str:
    """Why nobody may have these grants under separate administration; empty where somebody may.

    Who runs the service or operates sites administers neither keys nor the log, and the other way round;
    everybody may view.
    """
    roles = {grant.role for grant in grants}
    if Role.ADMIN in roles:
        return "administration is separate, so nobody has the role admin; use system, security or audit"
    sides = {Role.SYSTEM if role is Role.OPERATOR else role for role in roles - {Role.VIEWER}}
    if len(sides) > 1:
        named = " and ".join(sorted(roles - {Role.VIEWER}))
        return f"administration is separate, so nobody has the roles {named} at once; use one key for each"
    return ""


def check_expiry(expires_at: datetime | None, now: datetime) -> None:
    """Refuse a key that would open nothing.

    Raises
    ------
    SeriesError
        If it would have expired already.
    """
    if expires_at is not None and expires_at <= now:
        raise SeriesError(f"expires_at: {expires_at.isoformat()} is over; give a later time, or none")
