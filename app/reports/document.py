"""The report as data: what every renderer reads, and what is frozen.

Numbers are rounded once, when the document is built, so that parts add up to their totals to the printed
digit and every format shows the same figures. Texts of the document are names and codes; wording is the
renderers' business. The JSON form is published by :func:`schema`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter

SCHEMA = "wattline-report/1"


@dataclass(frozen=True, kw_only=True)
class Revision:
    """Which version of the report this is."""

    number: int
    """From 1; 0 for a report that is not frozen."""
    closed: bool
    """False: provisional, the figures may still change."""
    created_at: str
    changes: list[Change] = field(default_factory=list)
    """Figures that differ from the revision before."""
    causes: list[Cause] = field(default_factory=list)
    """Definitions that were changed since, and touch the period; none: late or corrected data."""
    audit_head: str = ""
    """Number and hash of the newest entry of the audit log when it was frozen; older ones have none."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A definition of the site file that was changed."""

    definition: str
    """``point KEY`` or ``site KEY``."""
    start: str | None
    end: str | None
    """The time whose figures it moves, half-open; null: without bound."""
    edited_at: str
    edited_by: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure that late or corrected data changed."""

    figure: str
    """Path in the document, e.g. ``pue.period.pue``."""
    before: float | str | bool | None
    after: float | str | bool | None


@dataclass(frozen=True, kw_only=True)
class InstitutionHead:
    """The bank."""

    id: str
    name: str
    institution_class: str


@dataclass(frozen=True, kw_only=True)
class SiteHead:
    """The data centre and what it was built for."""

    id: str
    name: str
    time_zone: str
    started_on: str | None
    currency: str
    it_capacity_kw: float | None
    designed_pue: float | None
    racks_total: int | None
    floor_area_m2: float | None
    computer_room_area_m2: float | None
    minimum_coverage_ratio: float


@dataclass(frozen=True, kw_only=True)
class Span:
    """The period reported on."""

    name: str
    start: str
    end: str
    """First instant after what is reported; before the period's own end while it runs."""
    whole: bool
    """Whether the period has ended."""
    days: int


@dataclass(frozen=True, kw_only=True)
class PueFigure:
    """PUE over one window, with what is needed to judge it."""

    start: str
    end: str
    pue: float | None
    reason: str | None
    """Code of why there is none."""
    label: str | None
    category: int | None
    kind: str
    facility_kwh: float
    it_kwh: float
    coverage_ratio: float
    estimated_ratio: float
    uncertainty: float | None
    waits_for: list[str] = field(default_factory=list)
    """Open findings that keep it from being said: meter and kind."""


@dataclass(frozen=True, kw_only=True)
class VerdictRow:
    """A window's PUE against one limit."""

    window: str
    profile: str
    source: str
    verified: bool
    grade: str
    reason: str
    limit: float
    pue: float | None
    verdict: str
    plain: str


@dataclass(frozen=True, kw_only=True)
class GradeRow:
    """Where a window's PUE stands on the scale of a profile with grades."""

    window: str
    profile: str
    pue: float | None
    grade: str | None
    """Best grade reached; None: none."""
    is_certain: bool


@dataclass(frozen=True, kw_only=True)
class DutyRow:
    """A duty to report, and whether it falls on the site."""

    profile: str
    from_it_kw: float
    applies: bool | None
    """None: the installed IT power is not declared."""


@dataclass(frozen=True, kw_only=True)
class ClassEnergy:
    """Energy of one load class or source."""

    name: str
    energy_kwh: float
    share_of_it: float | None
    """E_c / E_IT; 1 plus the shares of the overhead is PUE."""


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy of the period by what used it and where it came from."""

    facility_kwh: float
    classes: list[ClassEnergy]
    """IT, the overhead classes and the unmetered rest; they sum to `facility_kwh`."""
    sources: list[ClassEnergy]
    """Grid, on-site renewables and generators less what is subtracted; they sum to `facility_kwh`."""
    apart: list[ClassEnergy]
    """Reported beside: reused heat."""


@dataclass(frozen=True, kw_only=True)
class DayRow:
    """One local day or month."""

    day: str
    facility_kwh: float
    it_kwh: float
    pue: float | None
    coverage_ratio: float


@dataclass(frozen=True, kw_only=True)
class HourRow:
    """Facility power by hour of the local day, for one day (of a month) or one month (of a year)."""

    of: str
    mean_kw: list[float | None]
    """24 values."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A load class and its part in a change of PUE."""

    name: str
    change: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changed against an earlier period."""

    against: str
    baseline_pue: float | None
    change: float | None
    parts: list[Part]
    moved: str | None
    causes: list[Part] = field(default_factory=list)
    """Weather, IT load and the plant itself, which sum to the change; empty where there is no baseline."""


@dataclass(frozen=True, kw_only=True)
class LoadRow:
    """Use of one capacity."""

    name: str
    kind: str
    """it, room, or the stage of a feed."""
    redundancy: str
    capacity_kw: float | None
    mean_kw: float | None
    peak_kw: float | None
    peak_at: str | None
    mean_ratio: float | None
    peak_ratio: float | None
    stranded_kw: float | None
    state: str
    coverage_ratio: float


@dataclass(frozen=True, kw_only=True)
class Exhausted:
    """When the IT load reaches the design capacity."""

    capacity_kw: float
    on: str | None
    earliest: str | None
    latest: str | None
    reached: bool


@dataclass(frozen=True, kw_only=True)
class Indicator:
    """An indicator beside PUE; `value` None where data is missing."""

    name: str
    value: float | None
    inputs: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Factor:
    """The emission factor that was used."""

    region: str
    basis: str
    year: int
    kg_per_kwh: float
    source: str
    verified: bool


@dataclass(frozen=True, kw_only=True)
class TariffRow:
    """A tariff that held in the period."""

    valid_from: str
    price_per_kwh: float
    bands: list[str]
    source: str
    demand_price_per_kw_month: float | None = None


@dataclass(frozen=True, kw_only=True)
class DemandRow:
    """Highest 15-minute mean power bought in a month, or on a tariff's days in it."""

    month: str
    first: str
    last: str
    power_kw: float | None
    at: str | None
    """Start of the interval with that power, local."""
    coverage_ratio: float
    is_whole: bool
    """Whether all of the tariff's days in the month are in it."""
    price_per_kw_month: float | None
    charge: float | None


@dataclass(frozen=True, kw_only=True)
class TierRow:
    """Price of a surcharge from a PUE on."""

    above_pue: float
    price_per_kwh: float


@dataclass(frozen=True, kw_only=True)
class SurchargeRow:
    """What a rule for PUE above a limit makes of the days of a window on which it holds."""

    window: str
    rule: str
    first: str
    last: str
    limit_pue: float
    tiers: list[TierRow]
    marginal: bool
    pue: float | None
    coverage_ratio: float
    excess_kwh: float | None
    """Facility energy above limit x IT energy."""
    amount: float | None
    low: float | None
    high: float | None
    """The amount at PUE less and plus its uncertainty."""
    currency: str
    reason: str
    """Code of why there is no amount; empty where there is one."""
    source: str
    verified: bool
    note: str


@dataclass(frozen=True, kw_only=True)
class SurchargeForecastRow:
    """Surcharge expected of a rule's days in the calendar year."""

    rule: str
    first: str
    last: str
    limit_pue: float
    pue: float | None
    excess_kwh: float | None
    amount: float | None
    low: float | None
    high: float | None
    """At the ends of the interval of the projected PUE."""
    chance: float | None
    """Probability that there is a surcharge at all."""
    currency: str
    reason: str
    source: str
    verified: bool


@dataclass(frozen=True, kw_only=True)
class HourlyEmissions:
    """Emissions by hourly factors, beside those by the factor of the year."""

    region: str
    basis: str
    emissions_kg: float | None
    """None: too little of the energy has a factor, or generators ran whose factor is not known."""
    known_ratio: float
    """Share of the energy bought that has a factor; the rest is not in it."""
    mean_kg_per_kwh: float | None
    sources: list[str]
    verified: bool
    """Whether every source was compared with."""


@dataclass(frozen=True, kw_only=True)
class Money:
    """Cost and emissions of the electricity bought from the grid."""

    grid_kwh: float
    cost: float | None
    priced_kwh: float
    unpriced_kwh: float
    mean_price_per_kwh: float | None
    tariffs: list[TariffRow]
    emissions_kg: float | None
    factor: Factor | None
    generator_kg_per_kwh: float | None
    demands: list[DemandRow] = field(default_factory=list)
    demand_charge: float | None = None
    """Sum of the charges; None where no tariff has a price of demand, or one of them is not known."""
    surcharges: list[SurchargeRow] = field(default_factory=list)
    surcharge: float | None = None
    """Sum of the period's surcharges in the site's currency; None: no rule holds, or one is not known."""
    hourly: HourlyEmissions | None = None
    """None: no hourly factors were imported for the site's region and basis."""
    total: float | None = None
    """Cost with demand charge and surcharge; None where neither applies, or a part is not known."""


@dataclass(frozen=True, kw_only=True)
class SavingRow:
    """Energy and money that a lower PUE would have saved."""

    against: str
    comparable_month: str | None
    pue: float
    energy_kwh: float
    cost: float | None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with the interval that is meant to hold the truth."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Because:
    """Why there is no figure: a code, and what it is about."""

    code: str
    values: dict[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MeasureRow:
    """An energy saving measure."""

    key: str
    what: str
    where: str
    """Measurement boundary: ``facility``, ``class:CLASS`` or ``meter:ID``."""
    implementation_start: str
    implementation_end: str
    cost: float | None
    expected_kwh_per_year: float | None


@dataclass(frozen=True, kw_only=True)
class AdjustmentRow:
    """A non-routine adjustment of a saving."""

    measure: str
    start: str
    end: str
    energy_kwh: float
    """Over the whole span, evenly by day."""
    reason: str
    author: str


@dataclass(frozen=True, kw_only=True)
class VerifiedDay:
    """A day of a verified saving, with all that its expected energy is computed from."""

    day: str
    hours: float
    it_kw: float
    wet_bulb_c: float | None
    day_off: bool
    """Saturday or Sunday."""
    actual_kwh: float
    expected_kwh: float | None
    """By the coefficients of the baseline. None: not counted, weather or load had not been seen."""
    adjustment_kwh: float


@dataclass(frozen=True, kw_only=True)
class MonthSaving:
    """The verified saving of a calendar month."""

    month: str
    result: str
    energy_kwh: Interval | None
    days: int
    counted_days: int


@dataclass(frozen=True, kw_only=True)
class VerifiedSaving:
    """What measures saved in some days, against the baseline of the earliest of them."""

    measures: list[MeasureRow]
    """Several overlap in time and are stated jointly."""
    where: str
    ipmvp_option: str
    in_total: bool
    """Whether it counts in the total; else a wider statement of the same days has it in it."""
    spans: list[list[str]]
    """Local days, each from its first to the first after."""
    baseline_start: str
    baseline_end: str
    result: str
    """saved, used_more, not_distinguishable or unknown"""
    level: float
    """Probability that the intervals are meant to have."""
    days: int
    counted_days: int
    left_out: dict[str, int]
    expected_kwh: float | None
    adjustment_kwh: float | None
    actual_kwh: float | None
    energy_kwh: Interval | None
    """Expected and adjustment less actual."""
    share: Interval | None
    money: Interval | None
    emissions_kg: Interval | None
    reasons: list[Because]
    adjustments: list[AdjustmentRow]
    baseline: dict[str, Any] | None
    """The frozen baseline, with coefficients and their covariance; None: there is none."""
    baseline_sha256: str
    """Of its canonical JSON."""
    rows: list[VerifiedDay] = field(default_factory=list)
    """Of a month; empty for longer periods."""
    months: list[MonthSaving] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class NormalisedRow:
    """PUE of a period under the weather and the IT load of the baseline, beside the measured one."""

    period: str
    measured_pue: float | None
    pue: Interval | None
    level: float
    days: int
    counted_days: int
    reference_start: str
    reference_end: str
    reasons: list[Because]


@dataclass(frozen=True, kw_only=True)
class Savings:
    """The verified savings of a site up to a day."""

    site: str
    currency: str
    until: str
    """First local day of which nothing is said yet."""
    level: float
    total_kwh: Interval | None
    """All statements that count; the interval is the widest that it can be."""
    statements: list[VerifiedSaving]
    normalised_pue: list[NormalisedRow]
    """By calendar month."""
    baseline: dict[str, Any] | None
    """What the plant is held against where no measure is meant."""
    baseline_reasons: list[Because]
    """Why it is not accepted; empty: it is."""


@dataclass(frozen=True, kw_only=True)
class DriftRow:
    """A time in which the plant used more than its own baseline."""

    onset: str
    found_on: str
    """Day at whose end it could be known."""
    over_on: str | None
    """Null: it goes on."""
    over_by: str
    """Key of the measure that ended it; empty: the plant is back, or it goes on."""
    excess_ratio: float
    """Mean since the onset, by what was expected."""


@dataclass(frozen=True, kw_only=True)
class MeterExcess:
    """Energy of a meter beyond what its own past suggests."""

    meter: str
    excess_kwh: float


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How the plant stands against its own frozen baseline at the end of the period."""

    state: str
    """drifting, none, learning, no_baseline, not_accepted or no_days"""
    baseline_first_day: str
    """Empty: none is frozen."""
    baseline_last_day: str
    baseline_sha256: str
    known_to: str | None
    """Last day of which something is known."""
    excess_kwh: Interval | None
    """Of the drift that goes on, since its onset, on the days that count."""
    days: int
    counted_days: int
    """Days of it that are known."""
    level: float
    """Probability that the interval is meant to have."""
    mostly: str
    """Meter that most of it comes from; empty where no single one does."""
    meters: list[MeterExcess]
    """The largest first."""
    limit_pue: float | None
    weeks_to_limit: float | None
    """Until the PUE crosses its limit, where the excess clearly grows."""
    learning_since: str | None
    learning_cause: str
    """measure, load, site_file or replaced_meter"""
    rows: list[DriftRow]
    """Those that touch the period."""
    reasons: list[Because]
    """Why the baseline is not accepted."""


@dataclass(frozen=True, kw_only=True)
class Breach:
    """Consecutive days on which PUE was above the governing limit."""

    first_day: str
    last_day: str
    days: int
    limit: float
    pue: float
    highest_pue: float
    excess_kwh: float
    """Facility energy above limit x IT energy."""
    moved: str | None
    """Load class that rose most against the other days of the period."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """An alarm that fired."""

    rule: str
    severity: str
    started_at: str
    resolved_at: str | None
    value: float | None
    limit: float | None
    cause: str
    subject: str = ""
    """What of the site; empty for the site itself."""
    watched: str = ""
    """Indicator that its rule watches; empty in reports that were made before they named it."""


@dataclass(frozen=True, kw_only=True)
class FindingRow:
    """A finding about the data."""

    kind: str
    point: str
    start: str
    end: str
    severity: str
    state: str
    effect_kwh: float | None


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """A declared event, correction or estimate."""

    kind: str
    point: str
    start: str
    end: str
    author: str
    note: str
    withdrawn: bool


@dataclass(frozen=True, kw_only=True)
class TagShare:
    """Energy of the metering points by how it came about."""

    tag: str
    energy_kwh: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How good the data is."""

    coverage_ratio: float
    missing_h: float
    """Time in which facility and IT were not both known."""
    tags: list[TagShare]
    findings: list[FindingRow]
    ledger: list[LedgerRow]
    conflicting_readings: int


@dataclass(frozen=True, kw_only=True)
class PointRow:
    """A metering point."""

    point: str
    name: str
    meter: str
    room: str
    stage: str
    role: str
    kind: str
    counts: bool
    """Whether its energy enters facility or IT energy, or an overhead class."""
    weight: float
    accuracy_class_percent: float
    category: int | None
    interval_s: int
    energy_kwh: float | None
    coverage_ratio: float | None
    """None for water."""


@dataclass(frozen=True, kw_only=True)
class GaugeRow:
    """A room sensor or another gauge."""

    point: str
    name: str
    room: str
    role: str
    unit: str
    mean: float
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class Method:
    """What the figures rest on."""

    facility_is: str
    it_energy_at: list[str]
    points: list[PointRow]
    energy_decimals: int


@dataclass(frozen=True, kw_only=True)
class ComplianceRow:
    """One line of the compliance matrix."""

    indicator: str
    measured: bool
    """False: declared by the institution."""
    value: float | None
    at_least: float | None
    at_most: float | None
    standing: str
    dated: str | None
    evidence: str
    source: str


@dataclass(frozen=True, kw_only=True)
class ConditionRow:
    """A condition of a regulation, and how the site stands."""

    indicator: str
    at_least: float | None
    at_most: float | None
    value: float | None
    standing: str


@dataclass(frozen=True, kw_only=True)
class TurnRow:
    """A date to come at which something changes."""

    on: str
    """Day, or month or year where no more is known."""
    cause: str
    pue: float | None
    says: str
    says_zh: str


@dataclass(frozen=True, kw_only=True)
class RegulationRow:
    """A regulation that applies to the site, or may."""

    id: str
    name: str
    name_zh: str
    says: str
    says_zh: str
    status: str
    """in_force, adopted or draft, on the last day of the period."""
    missing: list[str]
    """Keys of the site file without which it is not known whether it applies."""
    announced_on: str | None
    valid_from: str | None
    next_review: str | None
    limit_pue: float | None
    profile: str
    is_judged: bool | None
    """Whether the site is judged by its limit profile; None: it has none."""
    conditions: list[ConditionRow]
    turns: list[TurnRow]
    source: str
    verified: bool


@dataclass(frozen=True, kw_only=True)
class Regulations:
    """What applies to the site, and when it changes."""

    on: str
    """Day of which it is told: the last of the period."""
    jurisdiction: str
    """Place whose law applies; empty: the site does not state it."""
    rows: list[RegulationRow]


@dataclass(frozen=True, kw_only=True)
class BudgetRow:
    """Overhead energy that a limit allows in the year."""

    profile: str
    limit: float
    used_kwh: float
    margin_kwh: float
    allowed_kwh: float | None
    left_kwh: float | None
    crossed_in: str | None


@dataclass(frozen=True, kw_only=True)
class YearEnd:
    """Projection of the PUE of the calendar year."""

    year: int
    measured_days: int
    projected_days: int
    pue: float | None
    low: float | None
    high: float | None
    level: float
    budgets: list[BudgetRow]
    surcharges: list[SurchargeForecastRow] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RegionRow:
    """Efficiency of a UPS over the time in which its load was within some bounds."""

    low_ratio: float
    high_ratio: float
    hours: float
    efficiency_ratio: float
    worst: bool


@dataclass(frozen=True, kw_only=True)
class PlantRow:
    """One plant indicator: a value with what it rests on, or why there is none."""

    name: str
    subject: str
    """Meters it is of, where there are several of a kind."""
    value: float | None
    unit: str
    uncertainty: float | None
    """By the accuracy classes of the meters, in the unit; null where none is stated."""
    standing: str | None
    """good, between or poor."""
    good: float | None
    poor: float | None
    source: str
    """Of the typical values; empty where there are none."""
    verified: bool
    coverage_ratio: float
    reason: str | None
    """Code of why there is no value."""
    missing: list[str]
    """Roles, kinds of equipment and keys of the site file that are not there."""
    waits_for: list[str]
    poorly_covered: list[str]
    meters: list[str]
    points: list[str]
    inputs: dict[str, float]
    regions: list[RegionRow]


@dataclass(frozen=True, kw_only=True)
class PlantIndicators:
    """The plant indicators of a site over a period."""

    site: str
    start: str
    end: str
    kind: str
    """``annual`` or ``interim``: ASHRAE 90.4 defines its components over a year."""
    indicators: list[PlantRow]


@dataclass(frozen=True, kw_only=True)
class AssumptionRow:
    """A quantity that the meters do not tell, with its range."""

    name: str
    low: float
    typical: float
    high: float
    source: str
    verified: bool


@dataclass(frozen=True, kw_only=True)
class OpportunityRow:
    """One way to save energy: how much a year, from what, or which meter would tell."""

    kind: str
    subject: str
    state: str
    """found, none or unknown."""
    kwh_per_year: float | None
    kwh_low: float | None
    kwh_high: float | None
    """Null beside a figure: not bounded, a part of the year is not known."""
    amount_per_year: float | None
    amount_low: float | None
    amount_high: float | None
    whole_year: bool
    """False: what was seen in the period, not scaled to a year."""
    reason: str | None
    missing: list[str]
    waits_for: list[str]
    poorly_covered: list[str]
    coverage_ratio: float
    meters: list[str]
    points: list[str]
    evidence: dict[str, float]
    assumptions: list[AssumptionRow]


@dataclass(frozen=True, kw_only=True)
class Opportunities:
    """What to do next at a site, the most valuable first; the savings overlap and do not add up."""

    site: str
    start: str
    end: str
    currency: str
    opportunities: list[OpportunityRow]


@dataclass(frozen=True, kw_only=True)
class EuField:
    """One energy field of Annex II of regulation (EU) 2024/1364."""

    field: str
    unit: str
    value: float | None
    partial: bool
    """Whether it covers less than the whole year."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The green-data-centre report of one site over one month or year."""

    schema: str = SCHEMA
    kind: str
    """month or year"""
    sha256: str
    """Of the canonical JSON of everything else."""
    institution: InstitutionHead
    site: SiteHead
    period: Span
    revision: Revision
    pue: dict[str, PueFigure]
    verdicts: list[VerdictRow]
    grades: list[GradeRow] = field(default_factory=list)
    reporting_duties: list[DutyRow] = field(default_factory=list)
    energy: Energy
    days: list[DayRow]
    """Days of a month; empty for a year."""
    hours: list[HourRow]
    months: list[DayRow]
    """The 12 months that end with the period; for a year its own months."""
    comparisons: list[Comparison]
    loads: list[LoadRow]
    exhaustion: Exhausted | None
    indicators: list[Indicator]
    plant: PlantIndicators | None = None
    """Absent where the site describes no plant."""
    opportunities: Opportunities | None = None
    """Of the 12 months that end with the period."""
    money: Money
    savings: list[SavingRow]
    verified_savings: list[VerifiedSaving] = field(default_factory=list)
    """Of the measures that are in force; documents from before them have none."""
    normalised_pue: list[NormalisedRow] = field(default_factory=list)
    """Of the period, then of the calendar months up to its end."""
    drift: Drift | None = None
    """Absent in documents from before it was told."""
    breaches: list[Breach]
    alarms: list[Alarm]
    gauges: list[GaugeRow]
    quality: Quality
    method: Method
    compliance: list[ComplianceRow]
    regulations: Regulations | None = None
    """None in reports that were made before they told it."""
    year_end: YearEnd
    eu_annex_ii: list[EuField]
    """Only in yearly reports."""


@dataclass(frozen=True, kw_only=True)
class SiteLine:
    """One site of an institution's report."""

    id: str
    name: str
    revision: int
    sha256: str
    """Of the site's own report; empty while that is provisional."""
    pue: float | None
    reason: str | None
    label: str | None
    kind: str
    facility_kwh: float
    it_kwh: float
    coverage_ratio: float
    it_load_ratio: float | None
    cost: float | None
    currency: str
    emissions_kg: float | None
    limit: float | None
    verdict: str | None
    plain: str | None
    breach_days: int
    findings: int


@dataclass(frozen=True, kw_only=True)
class FleetFigure:
    """All sites together, by both averages in use."""

    ratio_of_sums: float | None
    facility_weighted: float | None
    facility_kwh: float
    it_kwh: float
    emissions_kg: float | None
    counted: list[str]
    left_out: list[str]
    missing_cells: list[str] = field(default_factory=list)
    """Cells that did not answer: the sums are without their sites. Absent where there are none."""
    in_two_cells: list[str] = field(default_factory=list)
    """Sites that two cells have: the sums are without them. Absent where there are none."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """An indicator within the range in which a programme gives points."""

    indicator: str
    value: float | None
    none_at: float
    full_at: float
    score_ratio: float | None
    """Share of the points, linear between the ends."""
    valid_from: str
    source: str
    verified: bool


@dataclass(frozen=True, kw_only=True)
class Indicators:
    """The indicators beside PUE of a site over any period, by the formulas of its reports."""

    site: str
    start: str
    end: str
    """First instant after what is known of the period."""
    currency: str
    pue: float | None
    facility_kwh: float
    it_kwh: float
    coverage_ratio: float
    it_load_ratio: float | None
    indicators: list[Indicator]
    money: Money
    savings: list[SavingRow]
    targets: list[ComplianceRow]
    """Targets of measured indicators, and declared indicators with date and evidence."""
    scores: list[Score]


@dataclass(frozen=True, kw_only=True)
class InstitutionReport:
    """The green-data-centre report of all sites of an institution."""

    schema: str = SCHEMA
    kind: str
    sha256: str
    institution: InstitutionHead
    period: Span
    revision: Revision
    fleet: FleetFigure
    sites: list[SiteLine]
    compliance: list[ComplianceRow]


Document = Report | InstitutionReport


@cache
def _adapter(of_institution: bool) -> TypeAdapter[Any]:
    return TypeAdapter(InstitutionReport if of_institution else Report)


def as_data(document: Document) -> dict[str, Any]:
    """The document as JSON-ready data."""
    adapter = _adapter(isinstance(document, InstitutionReport))
    data: dict[str, Any] = adapter.dump_python(document, warnings=False)  # an int for a float is welcome
    if not data["revision"]["audit_head"]:
        del data["revision"]["audit_head"]  # documents from before keep their hash
    for name in ("missing_cells", "in_two_cells"):
        if not data.get("fleet", {}).get(name, True):
            del data["fleet"][name]
    for name in ("verified_savings", "normalised_pue"):
        if not data.get(name):
            data.pop(name, None)
    for comparison in data.get("comparisons", ()):
        if not comparison["causes"]:
            del comparison["causes"]
    for part in ("plant", "opportunities", "drift"):  # of a site without a described plant, or older
        if part in data and data[part] is None:
            del data[part]
    return data


def read(data: Any) -> Document:
    """The document of stored or received data.

    Raises
    ------
    pydantic.ValidationError
        If it is none.
    """
    document: Document = _adapter("sites" in data).validate_python(data)
    return document


def schema(*, of_institution: bool = False) -> dict[str, Any]:
    """JSON schema of the report of a site, or of an institution."""
    shape = _adapter(of_institution).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **shape}
