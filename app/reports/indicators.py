"""The indicators beside PUE over any period: the functions that fill the report, without the report."""

from __future__ import annotations

from app.domain.evidence import PERIOD, Basis
from app.domain.limits import bands_on
from app.domain.targets import declared_on
from app.reports.document import Indicators, Score
from app.reports.energies import RATIO
from app.reports.judgements import IT_LOAD, it_load_ratio, targeted
from app.reports.money import indicators, money, savings
from app.reports.rounding import energy_decimals, instant, number, rounded


def build(e: Basis) -> Indicators:
    """WUE, CUE, REF, ERF, CER, ITEUsv, cost, saving potential, targets and points of a period."""
    d, cash = e.pue[PERIOD], money(e)
    places = energy_decimals(d.facility_kwh)
    return Indicators(
        site=e.site.id,
        start=instant(e.known.start),
        end=instant(e.known.end),
        currency=e.site.currency,
        pue=rounded(d.pue, RATIO),
        facility_kwh=number(d.facility_kwh, places),
        it_kwh=number(d.it_kwh, places),
        coverage_ratio=number(d.coverage_ratio, RATIO),
        it_load_ratio=it_load_ratio(e),
        indicators=indicators(e),
        money=cash,
        savings=savings(e, cash),
        targets=targeted(e, e.last_day),
        scores=_scores(e),
    )


def _scores(e: Basis) -> list[Score]:
    values = {
        **{i.name: i.value for i in indicators(e)},
        **{name: one.value for name, one in declared_on(e.site.declared, e.last_day).items()},
        "pue": e.pue[PERIOD].pue,
        IT_LOAD: it_load_ratio(e),
        "racks_used_ratio": _racks_used(e),
    }
    rows = []
    for name, band in bands_on(e.reference.scoring_bands, e.last_day).items():
        value = values.get(name)
        rows.append(
            Score(
                indicator=name,
                value=rounded(value, RATIO),
                none_at=band.none_at,
                full_at=band.full_at,
                score_ratio=None if value is None else number(band.score(value), RATIO),
                valid_from=band.valid_from.isoformat(),
                source=band.source,
                verified=band.verified,
            )
        )
    return rows


def _racks_used(e: Basis) -> float | None:
    """Declared racks in use by the racks of the design."""
    used, total = declared_on(e.site.declared, e.last_day).get("racks_in_use"), e.site.design.racks_total
    return None if used is None or not total else used.value / total
