"""Shapes of the answers, for the OpenAPI document and those who generate clients from it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.domain.pue import REASON_CODES
from app.reports.document import RegulationRow, SurchargeForecastRow

NO_NUL = r"^[^\x00]*$"
"""Text that PostgreSQL can hold."""


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(examples=["urn:wattline:problem:not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no site 'sh9'"])
    instance: str = Field(examples=["/api/v1/sites/sh9"])
    request_id: str
    errors: list[dict[str, str]] | None = Field(None, description="Each problem with the input")


class InstitutionOut(BaseModel):
    """A bank."""

    id: str
    name: str
    institution_class: str = Field(examples=["joint_stock"])


class SiteOut(BaseModel):
    """A data centre."""

    id: str = Field(examples=["sh1"])
    name: str
    institution: InstitutionOut
    region: str = ""
    time_zone: str = Field(examples=["Asia/Shanghai"])
    it_capacity_kw: float | None = Field(description="Design IT capacity [kW]")
    meters: int
    rooms: list[str]
    limits: dict[str, float] = Field(description="PUE limits that hold today, by profile")


class SitesOut(BaseModel):
    """Sites the caller may see."""

    sites: list[SiteOut]
    next_cursor: str | None = Field(
        None, description="To be given as cursor for the sites that follow; null at the end"
    )


class PointOut(BaseModel):
    """A measured series."""

    id: str
    name: str
    role: str
    kind: str
    unit: str = Field(description="Unit in which readings are sent")
    house_unit: str = Field(description="Unit in which readings are stored and given back")
    weight: float
    interval_s: int
    last_reading_at: datetime | None = None
    last_value: float | None = Field(None, description="In the house unit")


class MeterOut(BaseModel):
    """A device with its points."""

    id: str
    site: str
    name: str
    room: str
    stage: str
    fed_by: list[str]
    rated_power_kw: float | None
    redundancy: str
    accuracy_class_percent: float
    collector: str | None = Field(description="Kind of collector; null: files or this interface")
    valid_from: datetime | None = Field(None, description="From when the meter is there; null: always")
    valid_to: datetime | None = Field(None, description="Until when, not included; null: for ever")
    points: list[PointOut]


class MetersOut(BaseModel):
    """The meters of a site."""

    site: str
    meters: list[MeterOut]


class PointPowerOut(BaseModel):
    """Power of one point."""

    point: str
    meter: str
    role: str
    start: datetime | None = Field(description="Beginning of the quarter-hour; null: unknown")
    power_kw: float | None = Field(
        description="Mean power of the newest quarter-hour that has ended; null: less than half of every "
        "quarter-hour of the last hour is known"
    )
    coverage_ratio: float = Field(description="Part of the quarter-hour that is known")


class PowerOut(BaseModel):
    """Power now, by point."""

    site: str
    points: list[PointPowerOut]


class VerdictOut(BaseModel):
    """PUE against one limit."""

    profile: str
    limit: float
    verdict: str = Field(description="pass, fail or indeterminate, with regard to the uncertainty")
    plain: str = Field(description="The bare comparison")


class GradeOut(BaseModel):
    """Where the PUE stands on the scale of a profile with grades."""

    profile: str
    grade: str | None = Field(description="Best grade reached, ignoring uncertainty; null: none")
    is_certain: bool = Field(description="Whether every PUE within the uncertainty reaches the same one")


class ReportingDutyOut(BaseModel):
    """A duty to report that a profile of the site knows."""

    profile: str
    from_it_kw: float
    applies: bool | None = Field(description="null: the installed IT power is not declared")


class PueOut(BaseModel):
    """The PUE of a period with all that is needed to judge it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "site": "sh1",
                "start": "2026-10-01T00:00:00Z",
                "end": "2026-10-02T00:00:00Z",
                "pue": 1.42,
                "label": "PUE2",
                "category": 2,
                "kind": "interim",
                "facility_kwh": 34080.0,
                "it_kwh": 24000.0,
                "overhead_kwh": {
                    "cooling": 7200.0,
                    "power_distribution": 1900.0,
                    "lighting": 200.0,
                    "other": 0.0,
                },
                "unmetered_kwh": 780.0,
                "apart_kwh": {
                    "generator": 0.0,
                    "renewable": 0.0,
                    "non_dc": 0.0,
                    "heat_reuse": 0.0,
                    "export": 0.0,
                },
                "coverage_ratio": 0.998,
                "estimated_ratio": 0.002,
                "uncertainty": 0.02,
                "verdicts": [{"profile": "cbrc_13fyp", "limit": 1.5, "verdict": "pass", "plain": "pass"}],
                "grades": [{"profile": "gb40879_2021", "grade": "3", "is_certain": True}],
                "reporting_duties": [{"profile": "eu_2024_1364", "from_it_kw": 500.0, "applies": True}],
            }
        }
    )
    site: str
    start: datetime
    end: datetime
    pue: float | None = Field(description="null, with a reason, where it is unavailable")
    label: str | None
    category: int | None
    kind: str = Field(description="interim, or annual from 12 months on")
    facility_kwh: float
    it_kwh: float
    overhead_kwh: dict[str, float]
    unmetered_kwh: float
    apart_kwh: dict[str, float]
    coverage_ratio: float
    estimated_ratio: float
    uncertainty: float | None
    verdicts: list[VerdictOut]
    grades: list[GradeOut] = Field([], description="Of the site's profiles with grades; a room has none")
    reporting_duties: list[ReportingDutyOut] = []
    pending: int | None = Field(
        None, description="Stretches whose figures are still those of an earlier definition; absent: none"
    )
    waits_for: list[str] | None = Field(
        None, description="Open findings that keep the PUE from being said: meter and kind; absent: none"
    )
    reason: str | None = None
    reason_code: str | None = Field(None, description=f"The reason in one word: {', '.join(REASON_CODES)}")
    room: str | None = None


class PueBar(BaseModel):
    """PUE of one bar of a series."""

    start: datetime
    end: datetime
    pue: float | None
    facility_kwh: float
    it_kwh: float
    overhead_kwh: dict[str, float]
    coverage_ratio: float
    estimated_ratio: float


class PueSeriesOut(BaseModel):
    """PUE bar by bar; bars of which nothing is known are left out."""

    site: str
    room: str
    start: datetime
    end: datetime
    step: str
    bars: list[PueBar]


class EnergyRowOut(BaseModel):
    """Energy of one group over one bar."""

    start: datetime
    end: datetime
    name: str = Field(description="Load class, point or room")
    energy_kwh: float
    coverage_ratio: float
    estimated_ratio: float


class EnergyOut(BaseModel):
    """Energy of a site by load class, point or room."""

    site: str
    start: datetime
    end: datetime
    by: str
    step: str | None
    rows: list[EnergyRowOut]
    pending: int | None = Field(
        None, description="Stretches whose figures are still those of an earlier definition; absent: none"
    )
    reason: str | None = Field(None, description="Why figures are old; absent: they are not")


class LoadOut(BaseModel):
    """Use of a capacity."""

    capacity_kw: float | None
    mean_kw: float | None
    peak_kw: float | None
    peak_at: datetime | None
    mean_ratio: float | None
    peak_ratio: float | None
    headroom_kw: float | None
    coverage_ratio: float
    state: str


class UtilisationOut(BaseModel):
    """IT load against design capacity."""

    site: str
    start: datetime
    end: datetime
    it_load: LoadOut
    rooms: dict[str, LoadOut]


class FeedOut(BaseModel):
    """Meters that feed the same children, against what they may carry."""

    meters: list[str]
    children: list[str]
    stage: str
    redundancy: str
    rated_kw: float | None
    stranded_kw: float | None
    load: LoadOut


class CapacityOut(BaseModel):
    """Load of every feed, from the incomers to the racks."""

    site: str
    start: datetime
    end: datetime
    it_load: LoadOut
    feeds: list[FeedOut]


class AttributionOut(BaseModel):
    """Which part of the data centre moved the PUE."""

    site: str
    start: datetime
    end: datetime
    baseline_start: datetime
    baseline_end: datetime
    baseline_pue: float
    pue: float
    change: float = Field(description="pue - baseline_pue; the parts sum to it")
    parts: dict[str, float]
    share_change: dict[str, float]
    moved: str | None
    causes: dict[str, float] | None = Field(
        None, description="weather, it_load and plant (the plant itself), which sum to the change"
    )
    no_causes: list[dict[str, Any]] = Field(
        default_factory=list, description="Why the causes cannot be told apart: a code with its values"
    )


class ProjectionOut(BaseModel):
    """PUE of a calendar year: its measured days, and the others as the site's own history suggests."""

    pue: float | None
    low: float | None
    high: float | None
    level: float = Field(description="Probability that the interval from low to high is meant to have")
    measured_days: int
    projected_days: int
    facility_kwh: float | None
    it_kwh: float | None
    seasonal: bool
    reason: str | None = Field(description="Why there is no figure, where there is none")


class LimitBudgetOut(BaseModel):
    """What one limit leaves of the year's overhead energy."""

    profile: str
    limit: float
    used_kwh: float
    margin_kwh: float = Field(description="Allowed by the IT energy so far, less what was used")
    allowed_kwh: float | None
    left_kwh: float | None
    crossed_in: str | None = Field(description="Month in which the overhead passes what is allowed")
    chance_above_ratio: float | None


class BudgetOut(BaseModel):
    """How the year will end."""

    site: str
    year: int
    projection: ProjectionOut
    budgets: list[LimitBudgetOut]
    surcharges: list[SurchargeForecastRow] = Field(
        description="Expected surcharge of each rule for PUE above a limit that holds at the site in the year"
    )


class ComplianceOut(BaseModel):
    """What applies to a site on a day, how it stands, and when it changes."""

    site: str
    on: str = Field(description="Local day; limits, grades and duties are those of the PUE document")
    jurisdiction: str = Field(description="Place whose law applies; empty: the site file does not state it")
    pue: PueOut = Field(description="PUE of the 12 months before, with verdicts, grades and duties to report")
    regulations: list[RegulationRow]


class NodeOut(BaseModel):
    """Meters that feed the same children, and what is left between them."""

    meters: list[str]
    children: list[str]
    stage: str
    in_kwh: float | None
    out_kwh: float | None
    remainder_kwh: float | None = Field(description="Losses, or loads without a meter")
    tolerance_kwh: float | None = Field(description="Remainder that the accuracy of the meters explains")
    state: str
    coverage_ratio: float


class StageLossOut(BaseModel):
    """What is lost, or used without a meter, behind one stage."""

    stage: str
    in_kwh: float
    out_kwh: float
    efficiency_ratio: float | None


class BalanceOut(BaseModel):
    """The metering tree over a period."""

    site: str
    start: datetime
    end: datetime
    nodes: list[NodeOut]
    losses: list[StageLossOut]


class ExhaustionOut(BaseModel):
    """When a load reaches a capacity."""

    meters: list[str]
    stage: str
    capacity_kw: float
    on: date | None
    earliest: date | None
    latest: date | None
    level: float
    reason: str | None


class ExhaustionsOut(BaseModel):
    """Dates of full capacity: the site against its design, every feed against its rating."""

    site: str
    evaluated_at: datetime = Field(description="When they were worked out; once an hour")
    it: ExhaustionOut | None
    feeds: list[ExhaustionOut]


class FleetPueOut(BaseModel):
    """PUE of all the caller's sites together, by both averages in use."""

    window: str
    ratio_of_sums: float | None = Field(description="Sum of facility by sum of IT energy: the house figure")
    facility_weighted: float | None = Field(description="Mean of the sites' PUE weighted by facility energy")
    facility_kwh: float
    it_kwh: float
    sites: list[PueOut]
    counted: list[str] = Field(description="Sites that the totals are made of")
    left_out: list[str] = Field(description="Sites without a PUE in the period, or in two cells")
    cell_of: dict[str, str] = Field(description="Cell of each site")
    institution_of: dict[str, str] = Field(description="Institution of each site")
    in_two_cells: list[str] = Field(description="Sites that two cells have; no total counts them")
    missing: list[str] = Field(description="Cells that did not answer; the totals are without their sites")


class FleetCell(BaseModel):
    """A cell: a Wattline with its own sites and database."""

    id: str
    url: str = Field(description="Where it is reached; empty for the one that answers")
    problem: str | None = Field(description="Why it is missing; null where it answers")
    took_s: float = Field(description="How long its answer took")
    version: str | None
    sites: list[str]
    figures_lag_s: float | None = Field(description="How long its oldest reading waits for its figures")
    at: datetime | None = Field(description="Its clock when it answered")


class FleetCellsOut(BaseModel):
    """All cells of the fleet."""

    cells: list[FleetCell]
    missing: list[str] = Field(description="Cells that did not answer")


class RejectedRow(BaseModel):
    """A row that was not stored."""

    row: int = Field(description="Counted from 0 in the order sent")
    reason: str


class ReadingsTaken(BaseModel):
    """Result of sending readings; what it states is committed."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "accepted": 2,
                "duplicate": 0,
                "rejected": [{"row": 2, "reason": "unknown point"}],
            }
        }
    )
    accepted: int
    duplicate: int
    rejected: list[RejectedRow]


class ReadingOut(BaseModel):
    """One reading as it is stored, in the house unit."""

    point: str
    at: datetime
    value: float
    interval_s: int
    valid_s: int


class ReadingsPage(BaseModel):
    """Readings in order of time; `next_start` is where the next page begins, null on the last one."""

    points: dict[str, str] = Field(description="House unit by point")
    readings: list[ReadingOut]
    next_start: datetime | None


class RejectOut(BaseModel):
    """A row or cell of a file that was rejected."""

    line: int
    column: str
    reason: str
    text: str


class ImportOut(BaseModel):
    """What became of a file."""

    id: str
    site: str
    file_name: str
    sha256: str
    status: str = Field(description="running, done or failed; nothing is stored unless done")
    started_at: datetime
    finished_at: datetime | None
    accepted: int
    duplicate: int
    conflicting: int
    rejected: int
    detail: dict[str, Any]
    rejects: list[RejectOut] = Field([], description="The first of what was rejected")


class EnergyChange(BaseModel):
    """Energy of a point in a local month, as it is and as a corrected export would make it."""

    point: str
    month: str = Field(examples=["2026-08"])
    before_kwh: float
    after_kwh: float


class ImportPreview(BaseModel):
    """How a file would be read; nothing was stored."""

    understood: str = Field(description="The mapping, as YAML, ready to be saved")
    points: list[str]
    unused_columns: list[str]
    warnings: list[str] = Field(description="What was assumed, and what to look at before importing")
    accepted: int = Field(description="Readings that would be stored")
    duplicate: int = Field(description="Readings that the file repeats or that are stored already")
    conflicting: int = Field(description="Readings of which another value is stored, or stands in the file")
    rejected: int = Field(description="Rows or cells")
    missing: dict[str, int] = Field(description="By column, cells that say nothing was measured")
    rejects: list[RejectOut] = Field(description="The first ones")
    changes: list[EnergyChange] | None = Field(
        None, description="With `replace`: months whose energy would change"
    )


class ImportsOut(BaseModel):
    """The newest imports of a site."""

    imports: list[ImportOut]


class FindingOut(BaseModel):
    """What is wrong, or remarkable, with the data."""

    id: int
    site: str
    point: str
    kind: str
    start: datetime
    end: datetime
    severity: str
    state: str
    effect_kwh: float | None
    evidence: dict[str, Any]
    first_seen_at: datetime
    last_seen_at: datetime


class DeploymentFindingOut(BaseModel):
    """A table of the database that is not compressed as it should be; it concerns every site."""

    kind: str = Field(examples=["compression_failing"], description="Also the rule of its alarm")
    severity: str = Field(examples=["warning"])
    table: str = Field(examples=["readings"])
    problem: str = Field(description="What is wrong, and what to do")
    last_success_at: datetime | None = Field(description="When its compression last ended well")


class FindingsOut(BaseModel):
    """Findings of a site, newest first."""

    site: str
    findings: list[FindingOut]
    deployment: list[DeploymentFindingOut] = Field(
        description="Found at this moment, for callers who see every site; gone when mended"
    )


class EventIn(BaseModel):
    """What somebody declares about a meter."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "kind": "replaced",
                "start": "2026-10-01T08:00:00+08:00",
                "old_value": 99120.5,
                "new_value": 0.0,
                "note": "meter replaced, protocol 118",
            }
        },
    )
    kind: str = Field(pattern="^(replaced|reset|test|maintenance|correction|estimate|confirmed)$")
    start: str = Field(json_schema_extra={"format": "date-time"})
    end: str | None = Field(None, json_schema_extra={"format": "date-time"}, description="Default: `start`")
    point: str | None = Field(None, max_length=100, description="Default: every point the event can be about")
    old_value: float | None = Field(None, ge=-1e12, le=1e12, allow_inf_nan=False)
    new_value: float | None = Field(None, ge=-1e12, le=1e12, allow_inf_nan=False)
    energy_kwh: float | None = Field(None, ge=-1e12, le=1e12, allow_inf_nan=False)
    note: str = Field(min_length=1, max_length=2000, pattern=NO_NUL)


class MeasureIn(BaseModel):
    """An energy saving measure. Days are local days of the site; every end is the first day after."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "key": "fans-2026",
                "what": "Fans of hall 1 exchanged for EC fans",
                "where": "class:cooling",
                "implementation_start": "2026-09-14",
                "implementation_end": "2026-09-21",
                "cost": 180000,
                "expected_kwh_per_year": 95000,
                "evidence": "Acceptance record 42",
            }
        },
    )
    key: str = Field(max_length=60, description="Short name: small letters, digits, `.`, `_` and `-`")
    what: str = Field(min_length=1, max_length=500, pattern=NO_NUL)
    where: str = Field(
        max_length=120, description="Measurement boundary: `facility`, `class:CLASS` or `meter:ID`"
    )
    implementation_start: date
    implementation_end: date | None = Field(
        None, description="First day on which it is done. Default: the next"
    )
    baseline_start: date | None = Field(None, description="Default: 365 days before `baseline_end`")
    baseline_end: date | None = Field(None, description="Default: `implementation_start`")
    reporting_start: date | None = Field(None, description="Default: `implementation_end`")
    reporting_end: date | None = Field(None, description="Default: until further notice")
    cost: float | None = Field(None, ge=0, le=1e12, allow_inf_nan=False, description="Currency of the site")
    expected_kwh_per_year: float | None = Field(None, ge=-1e12, le=1e12, allow_inf_nan=False)
    evidence: str = Field(min_length=1, max_length=2000, pattern=NO_NUL)


class AdjustmentIn(BaseModel):
    """A non-routine adjustment of a measure's saving."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "start": "2026-10-01",
                "end": "2026-11-01",
                "energy_kwh": 1200,
                "reason": "Building works powered from the cooling board, protocol 7",
            }
        },
    )
    start: date
    end: date = Field(description="First day after")
    energy_kwh: float = Field(
        ge=-1e12,
        le=1e12,
        allow_inf_nan=False,
        description="Over the whole span; above zero: used for another reason, so the baseline rises",
    )
    reason: str = Field(min_length=1, max_length=2000, pattern=NO_NUL)


class AdjustmentOut(BaseModel):
    """A non-routine adjustment, with who wrote it and who took it back."""

    id: int
    start: date
    end: date
    energy_kwh: float
    reason: str
    author: str
    created_at: datetime
    withdrawn_by: str | None
    withdrawn_at: datetime | None


class MeasureOut(BaseModel):
    """A measure, with who declared it and who took it back."""

    id: int
    key: str
    what: str
    where: str
    ipmvp_option: str = Field(description="`B`: equipment with meters of its own; `C`: whole facility")
    implementation_start: date
    implementation_end: date
    baseline_start: date
    baseline_end: date
    reporting_start: date
    reporting_end: date | None
    cost: float | None
    expected_kwh_per_year: float | None
    evidence: str
    author: str
    created_at: datetime
    withdrawn_by: str | None
    withdrawn_at: datetime | None
    adjustments: list[AdjustmentOut]


class MeasuresOut(BaseModel):
    """The measures ledger of a site, withdrawn entries too, by the start of the implementation."""

    site: str
    currency: str
    measures: list[MeasureOut]


class CorrectionOut(BaseModel):
    """A reading that a corrected export states otherwise; both values in the point's house unit."""

    at: datetime
    old_value: float | None
    new_value: float | None


class EventOut(BaseModel):
    """An entry of the ledger."""

    id: int
    meter: str | None
    point: str | None
    kind: str
    start: datetime
    end: datetime
    old_value: float | None
    new_value: float | None
    energy_kwh: float | None
    author: str
    note: str
    created_at: datetime
    withdrawn_at: datetime | None
    withdrawn_by: str | None
    corrected_readings: int = Field(0, description="Readings that a corrected export states otherwise")
    corrections: list[CorrectionOut] = Field(default=[], description="The first of these readings")


class EventsOut(BaseModel):
    """The ledger of a site, oldest first."""

    site: str
    events: list[EventOut]


class HealthOut(BaseModel):
    """Whether the process is alive."""

    status: str = Field(examples=["ok"])
    version: str


class ReadyOut(BaseModel):
    """Whether it can work."""

    status: str = Field(examples=["ready"])
    database: dict[str, Any]


class CodeOut(BaseModel):
    """A reason: its code, and in words."""

    code: str
    text: str


class LeftOutOut(CodeOut):
    """Days or hours that are not in the model, and why."""

    rows: int


class CoefficientOut(BaseModel):
    """A coefficient of a baseline."""

    name: str
    value: float
    standard_error: float
    unit: str


class WeatherOut(BaseModel):
    """Where the weather of a baseline comes from."""

    provenance: str = Field(description="`measured` at the site, or `imported`")
    source: str


class BaselineModelOut(BaseModel):
    """Overhead power by IT load, wet bulb and day type, and how well it predicts."""

    form: str
    resolution: str
    coefficients: list[CoefficientOut]
    cv_rmse_ratio: float = Field(description="Of rows that were predicted from the others")
    cv_rmse_limit_ratio: float = Field(description="Hourly limit of ASHRAE Guideline 14")
    monthly_cv_rmse_ratio: float = Field(description="The same of the energies of calendar months")
    monthly_cv_rmse_limit_ratio: float = Field(description="Monthly limit of ASHRAE Guideline 14")
    nmbe_ratio: float = Field(description="Mean error by the mean: measured less predicted")
    nmbe_limit_ratio: float
    coverage_ratio: float = Field(description="Share of the time between the first and the last row")
    first_day: str
    last_day: str
    it_range_kw: tuple[float, float] = Field(description="IT load that was seen")
    wet_bulb_range_c: tuple[float, float] | None = Field(description="Weather that was seen; null: none")
    weather: WeatherOut | None
    residual_sd_kw: float
    autocorrelation: float = Field(description="Of the errors of neighbouring rows")


class FrozenOut(BaseModel):
    """A frozen baseline in the list of all."""

    version: int
    sha256: str
    author: str
    created_at: datetime
    first_day: str
    last_day: str
    form: str
    accepted: bool


class BaselineOut(BaseModel):
    """The baseline of a site: fitted to a period, or frozen; without `model` the reasons say why."""

    site: str
    start: datetime | None = Field(description="Null for a frozen one: its days stand in `model`")
    end: datetime | None
    version: int | None = Field(description="Of the frozen baseline; null: fitted now, not frozen")
    accepted: bool = Field(description="Whether it may carry a saving (ASHRAE Guideline 14, coverage)")
    reasons: list[CodeOut] = Field(description="Why it is not accepted, or why there is none")
    row_count: int
    left_out: list[LeftOutOut]
    model: BaselineModelOut | None
    sha256: str | None = Field(description="Of the canonical JSON of `document`")
    document: dict[str, Any] | None = Field(description="All that a figure follows from, as it is frozen")
    frozen: list[FrozenOut] = Field(description="Frozen baselines of the site, the newest first")
