"""Use of the capacities, indicators beside PUE, cost and emissions, savings, room environment."""

from __future__ import annotations

from collections.abc import Iterable

from app.reports.document import HourlyEmissions, LoadRow
from app.reports.layout import Block, Facts, Prose, Table, Value
from app.reports.safe import line
from app.reports.sections import charges
from app.reports.words import RATIO_PLACES, SiteWords, own_source

MOST_LOADS = 150
_GAUGE_UNITS = {"c": "°C", "percent": "%"}
_INDICATOR_UNITS = {"wue": "L/kWh", "cue": "kgCO₂e/kWh", "iteu_sv_percent": "%"}
_INPUT_PLACES = {"water_m3": 3, "emissions_kg": 1}


def load(w: SiteWords) -> Iterable[Block]:
    """Use of the capacities, and when the IT load reaches its own."""
    rows = [_load_row(w, x) for x in w.report.loads]
    columns = [w.text("place", wide=True), w.text("stage"), w.text("redundancy")]
    columns += [w.number(k, 2, "kW") for k in ("capacity", "mean", "peak")]
    columns += [w.instant("peak_at"), w.share("mean_ratio"), w.share("peak_ratio")]
    columns += [w.number("stranded", 2, "kW"), w.text("state")]
    marks = [x.state for x in w.report.loads]
    yield Table(
        "load",
        "",
        columns,
        rows,
        marks=marks,
        most_rows=MOST_LOADS,
        more=w.t("rows_more", count="{count}"),
    )
    yield from _exhaustion(w)


def _load_row(w: SiteWords, x: LoadRow) -> list[Value]:
    figures = [x.capacity_kw, x.mean_kw, x.peak_kw, x.peak_at, x.mean_ratio, x.peak_ratio, x.stranded_kw]
    name = x.name or line(w.report.site.name)
    return [name, w.term("stage", x.kind), x.redundancy, *figures, w.term("load_state", x.state)]


def _exhaustion(w: SiteWords) -> Iterable[Block]:
    found = w.report.exhaustion
    if found is None:
        return
    capacity = w.language.number(found.capacity_kw, 2)
    if found.on is None:
        yield Prose(w.t("exhausted_not", capacity=capacity))
    elif found.reached:
        yield Prose(w.t("exhausted_reached", capacity=capacity, on=w.language.day(found.on)))
    else:
        days = [w.language.day(d) if d else w.t("open_end") for d in (found.on, found.earliest, found.latest)]
        on, earliest, latest = days
        yield Prose(w.t("exhausted_on", capacity=capacity, on=on, earliest=earliest, latest=latest))


def indicators(w: SiteWords) -> Iterable[Block]:
    """Indicators beside PUE, and those without data."""
    known = [i for i in w.report.indicators if i.value is not None]
    rows: list[list[Value]] = [
        [
            w.term("indicator", i.name),
            i.value,
            _INDICATOR_UNITS.get(i.name, "1"),
            w.t("semicolon").join(_input(w, n, v) for n, v in i.inputs.items()),
        ]
        for i in known
    ]
    columns = [w.text("indicator"), w.number("value", RATIO_PLACES), w.text("unit")]
    if rows:
        yield Table("indicators", "", [*columns, w.text("from_inputs", wide=True)], rows)
    missing = [w.term("indicator", i.name) for i in w.report.indicators if i.value is None]
    if missing:
        yield Prose(w.t("not_measured", names=w.t("comma").join(missing)))


def _input(w: SiteWords, name: str, value: float) -> str:
    if name.endswith("_ratio"):
        return f"{w.term('input', name)} {w.language.percent(value)}"
    places = _INPUT_PLACES.get(name, w.kwh)
    return f"{w.term('input', name)} {w.language.number(value, places)}"


def money(w: SiteWords) -> Iterable[Block]:
    """Cost and emissions, with the tariffs and the factor used."""
    m, currency = w.report.money, w.language.currency(w.report.site.currency)
    yield Facts(
        "money",
        [
            (w.energy("grid"), m.grid_kwh),
            (w.number("cost", 2, currency), m.cost),
            (w.number("mean_price", RATIO_PLACES, f"{currency}/kWh"), m.mean_price_per_kwh),
            (w.number("emissions", 1, "kgCO₂e"), m.emissions_kg),
        ],
    )
    if not m.tariffs:
        yield Prose(w.t("no_tariff"))
    for tariff in m.tariffs:
        values = {"from": w.language.day(tariff.valid_from), "currency": currency}
        price, bands = f"{tariff.price_per_kwh:g}", "".join(w.t("semicolon") + b for b in tariff.bands)
        about = w.t("tariff", **values, price=price, bands=bands, source=tariff.source)
        yield Prose(line(about), small=True)
    if m.tariffs and m.unpriced_kwh:
        yield Prose(w.t("priced_partly", kwh=w.language.number(m.unpriced_kwh, w.kwh)))
    yield _factor(w)
    if m.hourly is not None:
        yield _hourly(w, m.hourly)
    yield from charges.demands(w)
    yield from charges.surcharges(w)


def _hourly(w: SiteWords, h: HourlyEmissions) -> Prose:
    """Emissions by hourly factors, beside the figure of the year."""
    values = {
        "kg": w.language.number(h.emissions_kg, 1),
        "mean": w.language.number(h.mean_kg_per_kwh, 4),
        "share": w.language.percent(h.known_ratio),
        "source": line(w.t("semicolon").join(h.sources)),
        "checked": "" if h.verified else w.t("brackets", text=w.t("unverified_word")),
    }
    return Prose(
        w.t("hourly_factors" if h.emissions_kg is not None else "hourly_too_few", **values), small=True
    )


def _factor(w: SiteWords) -> Prose:
    f = w.report.money.factor
    if f is None:
        return Prose(w.t("no_factor"))
    value, basis = w.language.number(f.kg_per_kwh, 4), w.term("basis", f.basis)
    source = own_source(f.source) or w.language.known("factor_source", f"{f.region} {f.year}", f.source)
    source += "" if f.verified else w.t("brackets", text=w.t("unverified_word"))
    about = w.t("factor", value=value, region=f.region, basis=basis, year=f.year, source=source)
    return Prose(about, small=True)


def savings(w: SiteWords) -> Iterable[Block]:
    """What a lower PUE would have saved."""
    rows: list[list[Value]] = [
        [_against(w, s.against), s.comparable_month or "", s.pue, s.energy_kwh, s.cost]
        for s in w.report.savings
    ]
    money = w.number("money", 2, w.language.currency(w.report.site.currency))
    columns = [w.text("against", wide=True), w.day("comparable"), w.pue("target")]
    if rows:
        yield Table("savings", "", [*columns, w.energy("saving"), money], rows)
        yield Prose(w.t("savings_about"), small=True)


def _against(w: SiteWords, code: str) -> str:
    return w.language.known("against", code, w.term("profile", code))


def gauges(w: SiteWords) -> Iterable[Block]:
    """Temperature, humidity and utilisation."""
    rows: list[list[Value]] = [
        [
            g.name,
            g.room,
            w.term("class", g.role),
            g.mean,
            g.lowest,
            g.highest,
            _GAUGE_UNITS.get(g.unit, g.unit),
        ]
        for g in w.report.gauges
    ]
    columns = [w.text("point", wide=True), w.text("room"), w.text("role")]
    columns += [w.number(k, 2) for k in ("mean", "lowest", "top")]
    if rows:
        yield Table("gauges", "", [*columns, w.text("unit")], rows)
