"""Surcharges on electricity above a PUE limit. The shape of a row is in :mod:`app.domain.surcharge_rule`."""

from __future__ import annotations

from datetime import date

from app.domain.surcharge_rule import SurchargeRule, SurchargeTier

SURCHARGES: tuple[SurchargeRule, ...] = (
    SurchargeRule(
        id="cn_bj_2021",
        jurisdictions=("CN-BJ",),
        limit_pue=1.4,
        valid_from=date(2021, 7, 27),
        valid_to=date(2026, 1, 1),
        source="Beijing, provisions on the energy review of data centres, 2021",
        verified=False,
        note="The prices of this rule are not on file, so no amount is said.",
    ),
    SurchargeRule(
        id="cn_bj_2026",
        jurisdictions=("CN-BJ",),
        limit_pue=1.35,
        tiers=(
            SurchargeTier(above_pue=1.35, price_per_kwh=0.2),
            SurchargeTier(above_pue=2.7, price_per_kwh=0.5),
        ),
        valid_from=date(2026, 1, 1),
        source="Beijing, work plan for existing data centres 2024-2027, published 2024-11-15",
        verified=True,
        note="The number of the document was not compared with its source.",
    ),
)
"""A site lies in a place of `jurisdictions` by its own key of that name."""
