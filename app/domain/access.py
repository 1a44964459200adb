"""Who may see and do what: roles, on one site, on the sites of one institution, or everywhere.

A grant is written ``viewer``, ``operator:site/sh1`` or ``admin:institution/bank``. Where several
grants reach a site the highest role counts. Without any, the site does not exist for the caller.
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


class Role(StrEnum):
    """What a caller may do; each includes the ones before."""

    VIEWER = "viewer"
    """See figures, exports and reports."""
    OPERATOR = "operator"
    """Send readings, import files, declare events, acknowledge."""
    ADMIN = "admin"
    """Also keys and the audit log."""

    @property
    def rank(self) -> int:
        """Place among the roles, the highest last."""
        return list(Role).index(self)


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
                f"{text!r} is no grant; write viewer, operator or admin, for one site operator:site/ID, "
                "for one institution operator:institution/ID"
            )
        where = {match["kind"]: match["key"]} if match["kind"] else {}
        return cls(Role(match["role"]), **where)

    def __str__(self) -> str:
        if self.site:
            return f"{self.role}:site/{self.site}"
        return f"{self.role}:institution/{self.institution}" if self.institution else self.role.value

    @property
    def is_everywhere(self) -> bool:
        """Whether it reaches every site, also those to come."""
        return not self.site and not self.institution

    def reaches(self, site: Site) -> bool:
        """Whether the site is one of those it is about."""
        return self.is_everywhere or site.id == self.site or site.institution == self.institution


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody, or some program, with a name for the audit log."""

    name: str
    grants: tuple[Grant, ...]
    key_id: str = ""
    """Id of the key that was shown; several keys may have one name."""

    @property
    def tenant(self) -> str:
        """Whose work it is, for fair shares: the institutions or sites of the grants; empty: everybody's."""
        if any(grant.is_everywhere for grant in self.grants):
            return ""
        return ",".join(sorted({grant.institution or grant.site for grant in self.grants}))

    def role_at(self, site: Site) -> Role | None:
        """The highest role on a site; None where the site does not exist for the caller."""
        return highest(g.role for g in self.grants if g.reaches(site))

    @property
    def role_everywhere(self) -> Role | None:
        """The highest role that reaches every site."""
        return highest(g.role for g in self.grants if g.is_everywhere)


def highest(roles: Iterable[Role]) -> Role | None:
    """The highest of some roles; None of none."""
    return max(roles, key=lambda role: role.rank, default=None)


def check_expiry(expires_at: datetime | None, now: datetime) -> None:
    """Refuse a key that would open nothing.

    Raises
    ------
    SeriesError
        If it would have expired already.
    """
    if expires_at is not None and expires_at <= now:
        raise SeriesError(f"expires_at: {expires_at.isoformat()} is over; give a later time, or none")
