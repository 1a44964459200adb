"""The store within one transaction, as one caller may see it: what every action begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.domain.access import Duty, Principal, Role
from app.domain.site import Institution, Meter, Site
from app.errors import Forbidden, NotFound
from app.store import audit, receipts
from app.store.audit import Actor
from app.store.engine import Connection
from app.store.site_moves import elsewhere
from app.store.sites import Stored


@dataclass(frozen=True)
class View:
    """The store within one transaction, as one caller may see it."""

    connection: Connection
    stored: Stored
    """Nothing in it but the caller's sites."""
    principal: Principal
    source: str
    """Address the request came from, or the command that was run."""
    now: datetime

    def site(self, site_id: str, role: Role = Role.VIEWER) -> Site:
        """The site, if the caller may act on it as `role`.

        Raises
        ------
        NotFound
            If there is no such site, or the caller may not know of it.
        Forbidden
            If the caller has only a lower role there.
        SiteMoved
            If another cell has it.
        StoreUnavailable
            If it is on its way there.
        """
        site = self.stored.fleet.site.get(site_id)
        if site is None:
            if site_id in self.stored.moved:
                raise elsewhere(self.stored.moved[site_id])
            raise NotFound(f"there is no site {site_id!r}")
        self._require(site, role)
        return site

    def meter(self, meter_id: str, role: Role = Role.VIEWER) -> tuple[Site, Meter]:
        """The meter and its site; raises as :meth:`site`."""
        found = self.stored.fleet.meter.get(meter_id)
        if found is None:
            raise NotFound(f"there is no meter {meter_id!r}")
        self._require(found[0], role)
        return found

    def institution(self, key: str) -> Institution:
        """The institution, if the caller may see all of its sites.

        Raises
        ------
        NotFound
            If there is none, or the caller may not know of it.
        """
        reaches = any(grant.reaches_institution(key) for grant in self.principal.grants)
        found = self.stored.fleet.institution.get(key)
        if found is None or not reaches:
            raise NotFound(f"there is no institution {key!r}")
        return found

    def _require(self, site: Site, role: Role) -> None:
        own = self.principal.role_at(site)
        if own is None or own.rank < role.rank:
            raise Forbidden(f"this needs the role {role} on site {site.id}; contact an administrator")

    def require_everywhere(self, role: Role) -> None:
        """Refuse callers without `role` on the whole deployment.

        Raises
        ------
        Forbidden
            If the caller has only a lower role, or only some sites.
        """
        own = self.principal.role_everywhere
        if own is None or own.rank < role.rank:
            raise Forbidden(f"this needs the role {role} on the whole deployment")

    def require_duty(self, duty: Duty) -> None:
        """Refuse callers who do not administer that.

        Raises
        ------
        Forbidden
            If it is not among their duties.
        """
        if duty not in self.principal.duties and self.principal.is_local:
            raise Forbidden(f"this needs the role {duty}; name the file of its key in WATTLINE_KEY_FILE")
        if duty not in self.principal.duties:
            raise Forbidden(f"this needs the role {duty} or admin on the whole deployment")

    def require(self, site_id: str, role: Role) -> None:
        """Refuse callers without `role` on a site, or on the whole deployment where the name is empty.

        Raises
        ------
        NotFound
            If there is no such site, or the caller may not know of it.
        Forbidden
            If the caller has only a lower role.
        """
        if site_id:
            self.site(site_id, role)
        else:
            self.require_everywhere(role)

    def may(self, site_id: str, role: Role) -> bool:
        """Whether :meth:`require` lets the caller through."""
        try:
            self.require(site_id, role)
        except (NotFound, Forbidden):
            return False
        return True

    @property
    def actor(self) -> Actor:
        """The caller, as the audit log names it."""
        return Actor(self.principal.name, self.source, self.principal.key_id)

    def audit(self, action: str, target: str, detail: Mapping[str, Any] | None = None) -> None:
        """Write down what the caller did, in this transaction; call it last, it takes a short lock."""
        audit.append(self.connection, self.actor.did(action, target, detail), self.now)

    def audit_readings(self, sites: str, accepted: int, digest: int) -> None:
        """Write down a batch of readings that the caller sent, in this transaction; call it last."""
        receipts.add(self.connection, self.actor, sites, accepted, digest, self.now)
