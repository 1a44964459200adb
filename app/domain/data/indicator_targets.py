"""Targets of the indicators beside PUE. The shape of a row is :class:`app.domain.targets.Target`."""

from __future__ import annotations

from datetime import date

from app.domain.site import InstitutionClass
from app.domain.targets import Target

_GUIDELINE = "Supervisory guideline on information technology of banking institutions, 13th five-year plan"
_FROM = date(2016, 7, 15)

INDICATOR_TARGETS: tuple[Target, ...] = (
    Target(
        indicator="maturity_level",
        at_least=3,
        institution_classes=(InstitutionClass.STATE_OWNED, InstitutionClass.JOINT_STOCK),
        valid_from=_FROM,
        source=_GUIDELINE,
        verified=True,
    ),
    Target(
        indicator="maturity_level",
        at_least=2,
        institution_classes=(InstitutionClass.OTHER,),
        valid_from=_FROM,
        source=_GUIDELINE,
        verified=True,
    ),
    Target(
        indicator="automation_share_percent",
        at_least=75,
        valid_from=_FROM,
        source=_GUIDELINE,
        verified=True,
    ),
)
"""Large and medium banks of the guideline are taken to be the state-owned and joint-stock ones."""
