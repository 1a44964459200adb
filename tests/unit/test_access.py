"""Whom a grant reaches."""

from __future__ import annotations

import pytest

from app.domain.access import Grant, Principal, Role
from app.domain.site import Site

OURS = Site(id="s", institution="b", time_zone="UTC")
SISTER = Site(id="t", institution="b", time_zone="UTC")
FOREIGN = Site(id="x", institution="c", time_zone="UTC")


@pytest.mark.parametrize(
    ("text", "everywhere", "reached"),
    [
        ("viewer", True, "stx"),
        ("viewer:site/s", False, "s"),
        ("viewer:institution/b", False, "st"),
        ("viewer:institution/c", False, "x"),
        ("viewer:site/none", False, ""),
    ],
)
def test_a_grant_reaches_its_own_sites_only(text: str, everywhere: bool, reached: str) -> None:
    grant = Grant.parse(text)
    assert grant.is_everywhere is everywhere
    assert "".join(site.id for site in (OURS, SISTER, FOREIGN) if grant.reaches(site)) == reached
    assert str(grant) == text


def test_the_highest_of_several_grants_counts() -> None:
    someone = Principal("n", (Grant.parse("viewer"), Grant.parse("operator:site/s")))
    assert someone.role_at(OURS) is Role.OPERATOR
    assert someone.role_at(FOREIGN) is Role.VIEWER
    assert Principal("n", (Grant.parse("admin:site/s"),)).role_at(SISTER) is None
