"""Whether the plant uses more than its own frozen baseline, since when, and from which meter."""

from __future__ import annotations

from collections.abc import Iterable

from app.reports.document import Drift, DriftRow
from app.reports.layout import Block, Prose, Table, Value
from app.reports.safe import line
from app.reports.sections.savings import because
from app.reports.words import SiteWords

DRIFTING, LEARNING, NOT_ACCEPTED = "drifting", "learning", "not_accepted"


def drift(w: SiteWords) -> Iterable[Block]:
    """One sentence on the state, the drifts of the period, and the meters of the one that goes on."""
    found = w.report.drift
    if found is None:
        return
    yield Prose(_lead(w, found))
    if found.rows:
        head = [w.day("drift_since"), w.day("drift_found"), w.day("drift_over")]
        head += [w.text("drift_over_by"), w.share("drift_excess")]
        yield Table("drifts", "", head, [_row(w, one) for one in found.rows])
    if found.meters:
        rows: list[list[Value]] = [[m.meter, m.excess_kwh] for m in found.meters]
        columns = [w.text("meter", wide=True), w.number("drift_excess_kwh", 0, "kWh")]
        yield Table("drift_meters", w.language.title("drift_meters"), columns, rows)
    if found.baseline_sha256:
        days = {name: w.language.day(day) for name, day in _days(found).items()}
        yield Prose(w.t("drift_about", **days, sha256=found.baseline_sha256), small=True)


def _days(found: Drift) -> dict[str, str]:
    return {"start": found.baseline_first_day, "end": found.baseline_last_day}


def _lead(w: SiteWords, found: Drift) -> str:
    if found.state == DRIFTING and found.rows:
        return w.t("join").join(_drifting(w, found, found.rows[-1]))
    if found.state == LEARNING:
        cause = w.term("drift_cause", found.learning_cause)
        return w.t("drift_learning", day=w.language.day(found.learning_since), cause=cause)
    if found.state == NOT_ACCEPTED:
        reasons = w.t("semicolon").join(because(w, reason) for reason in found.reasons)
        return w.t("drift_not_accepted", reason=reasons)
    known_to = w.language.day(found.known_to)
    return w.t(
        f"drift_{found.state}", **{k: w.language.day(v) for k, v in _days(found).items()}, known_to=known_to
    )


def _drifting(w: SiteWords, found: Drift, going: DriftRow) -> Iterable[str]:
    excess = w.language.percent(going.excess_ratio)
    mostly = w.t("drift_mostly", meter=line(found.mostly)) if found.mostly else ""
    yield w.t("drift_drifting", onset=w.language.day(going.onset), excess=excess, mostly=mostly)
    if found.excess_kwh is not None:
        value, low, high = (
            w.language.number(v, 0)
            for v in (found.excess_kwh.value, found.excess_kwh.low, found.excess_kwh.high)
        )
        level, known_to = w.language.percent(found.level, 0), w.language.day(found.known_to)
        counts = {"counted": found.counted_days, "days": found.days}
        yield w.t("drift_energy", value=value, low=low, high=high, level=level, known_to=known_to, **counts)
    if found.weeks_to_limit:
        weeks = w.language.number(max(found.weeks_to_limit, 1), 0)
        yield w.t("drift_weeks", weeks=weeks, limit=w.language.number(found.limit_pue, 2))


def _row(w: SiteWords, one: DriftRow) -> list[Value]:
    going = w.t("drift_goes_on") if one.over_on is None else one.over_by or w.t("drift_back")
    return [one.onset, one.found_on, one.over_on, going, one.excess_ratio]
