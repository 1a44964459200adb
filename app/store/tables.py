"""The tables, for building queries; ``migrations/`` makes them and a test compares the two.

Every instant is ``timestamptz`` in UTC; every measured value is double precision in the house unit.
No key column may be NULL. The comments on columns live in the migrations.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.schema import SchemaItem

from app.domain.quantity import OVERHEAD_ROLES

metadata = MetaData()


def _instant(name: str, *, nullable: bool = False, now: bool = False) -> Column[object]:
    return Column(
        name, DateTime(timezone=True), nullable=nullable, server_default=func.now() if now else None
    )


def _number(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, Double, nullable=nullable)


def _text(name: str, default: str | None = None) -> Column[object]:
    return Column(name, Text, nullable=False, server_default=default)


def _id(kind: type[Integer] | type[BigInteger] = Integer) -> Column[object]:
    return Column("id", kind, Identity(always=True), primary_key=True)


def _key(name: str, kind: object) -> Column[object]:
    return Column(name, kind, primary_key=True, autoincrement=False)  # type: ignore[arg-type]


def _named() -> list[SchemaItem]:
    return [Column("key", Text, nullable=False, unique=True), Column("position", Integer, nullable=False)]


_at = DateTime(timezone=True)

institutions = Table("institutions", metadata, _id(), *_named(), _text("name"), _text("institution_class"))

sites = Table(
    "sites",
    metadata,
    _id(),
    *_named(),
    Column("institution_id", Integer, ForeignKey("institutions.id"), nullable=False),
    _text("name"),
    _text("time_zone"),
    Column("definition", JSONB, nullable=False),
    _text("definition_hash"),
    _instant("retired_at", nullable=True),
)

meters = Table(
    "meters",
    metadata,
    _id(),
    *_named(),
    Column("site_id", Integer, ForeignKey("sites.id"), nullable=False),
    _text("name"),
    _text("room", ""),
    Column("definition", JSONB, nullable=False),
    _instant("retired_at", nullable=True),
)

points = Table(
    "points",
    metadata,
    _id(),
    *_named(),
    Column("meter_id", Integer, ForeignKey("meters.id"), nullable=False),
    Column("site_id", Integer, ForeignKey("sites.id"), nullable=False),
    _text("role"),
    _text("kind"),
    _number("weight"),
    Column("definition", JSONB, nullable=False),
    _text("definition_hash"),
    _instant("retired_at", nullable=True),
)

readings = Table(
    "readings",
    metadata,
    _key("at", _at),
    _key("point_id", Integer),
    _number("value"),
    Column("interval_s", Integer, nullable=False, server_default="0"),
    Column("valid_s", Integer, nullable=False, server_default="0"),
)

reading_conflicts = Table(
    "reading_conflicts",
    metadata,
    _key("at", _at),
    _key("point_id", Integer),
    _key("value", Double),
    Column("interval_s", Integer, nullable=False, server_default="0"),
    Column("valid_s", Integer, nullable=False, server_default="0"),
    _number("stored_value"),
    _instant("received_at", now=True),
)

dropped_readings = Table(
    "dropped_readings",
    metadata,
    _id(BigInteger),
    _instant("dropped_at", now=True),
    Column("site_id", Integer),
    _text("collector"),
    _text("reason"),
    Column("readings", BigInteger, nullable=False),
    Column("detail", JSONB, nullable=False, server_default="{}"),
)

rollup_queue = Table(
    "rollup_queue",
    metadata,
    _id(BigInteger),
    Column("point_id", Integer, nullable=False),
    _instant("start_at"),
    _instant("end_at"),
    _instant("queued_at", now=True),
    Column("redefined", Boolean, nullable=False, server_default="false"),
)


def _interval_table(name: str, amount: str) -> Table:
    return Table(
        name,
        metadata,
        _key("point_id", Integer),
        _key("at", _at),
        _number(amount),
        _number("coverage_ratio"),
        _number("estimated_ratio"),
        Column("reading_interval_s", Integer, nullable=False),
        Column("tag", SmallInteger, nullable=False),
    )


energy_15m = _interval_table("energy_15m", "energy_kwh")
volume_15m = _interval_table("volume_15m", "volume_m3")

gauge_15m = Table(
    "gauge_15m",
    metadata,
    _key("point_id", Integer),
    _key("at", _at),
    _number("mean"),
    _number("lowest"),
    _number("highest"),
    Column("samples", Integer, nullable=False),
)

energy_day = Table(
    "energy_day",
    metadata,
    _key("point_id", Integer),
    _key("day", Date),
    _number("energy_kwh"),
    _number("covered_s"),
    _number("estimated_s"),
)

SITE_ENERGY_COLUMNS = (
    "facility_kwh",
    "it_kwh",
    *(f"{role.value}_kwh" for role in OVERHEAD_ROLES),
    "generator_kwh",
    "renewable_kwh",
    "non_dc_kwh",
    "heat_reuse_kwh",
    "export_kwh",
)
"""Energy columns of ``site_15m``: facility, and one per load class."""

site_15m = Table(
    "site_15m",
    metadata,
    _key("site_id", Integer),
    Column("room", Text, primary_key=True, server_default=""),
    _key("at", _at),
    *(Column(name, Double, nullable=False, server_default="0") for name in SITE_ENERGY_COLUMNS),
    _number("coverage_ratio"),
    _number("estimated_ratio"),
    Column("category", SmallInteger, nullable=False),
)

evaluations = Table(
    "evaluations",
    metadata,
    _key("site_id", Integer),
    _key("window", Text),
    _instant("evaluated_at"),
    Column("document", JSONB, nullable=False),
)

imports = Table(
    "imports",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("site_id", Integer, nullable=False),
    _text("file_name"),
    _text("sha256"),
    _instant("started_at", now=True),
    _instant("finished_at", nullable=True),
    _text("status"),
    *(
        Column(name, BigInteger, nullable=False, server_default="0")
        for name in ("accepted", "duplicate", "conflicting", "rejected")
    ),
    Column("detail", JSONB, nullable=False, server_default="{}"),
)

events = Table(
    "events",
    metadata,
    _id(BigInteger),
    Column("site_id", Integer, nullable=False),
    Column("meter_id", Integer),
    Column("point_id", Integer),
    _text("kind"),
    _instant("start_at"),
    _instant("end_at"),
    _number("old_value", nullable=True),
    _number("new_value", nullable=True),
    _number("energy_kwh", nullable=True),
    _text("author"),
    _text("note"),
    _instant("created_at", now=True),
    _instant("withdrawn_at", nullable=True),
    Column("withdrawn_by", Text),
    Column("corrected_readings", Integer, nullable=False, server_default="0"),
)

reading_corrections = Table(
    "reading_corrections",
    metadata,
    _key("event_id", BigInteger),
    _key("at", _at),
    _number("old_value", nullable=True),
    _number("new_value", nullable=True),
)

findings = Table(
    "findings",
    metadata,
    _id(BigInteger),
    Column("point_id", Integer, nullable=False, server_default="0"),
    Column("site_id", Integer, nullable=False),
    _text("kind"),
    _instant("start_at"),
    _instant("end_at"),
    _text("severity"),
    _text("state"),
    _number("effect_kwh", nullable=True),
    Column("evidence", JSONB, nullable=False, server_default="{}"),
    _instant("first_seen_at", now=True),
    _instant("last_seen_at", now=True),
    UniqueConstraint("site_id", "point_id", "kind", "start_at", name="findings_key"),
)


def _reports(name: str, of: str) -> Table:
    return Table(
        name,
        metadata,
        _key(of, Integer),
        _key("period", Text),
        _key("revision", Integer),
        Column("document", JSONB, nullable=False),
        _text("sha256"),
        _instant("created_at", now=True),
        Column("closed", Boolean, nullable=False),
    )


reports = _reports("reports", "site_id")
institution_reports = _reports("institution_reports", "institution_id")

alarms = Table(
    "alarms",
    metadata,
    _id(BigInteger),
    Column("site_id", Integer, nullable=False),
    _text("rule"),
    _text("severity"),
    _text("state"),
    _text("fingerprint"),
    _instant("started_at"),
    _instant("fired_at", nullable=True),
    _instant("resolved_at", nullable=True),
    _number("value", nullable=True),
    _number("limit_value", nullable=True),
    Column("document", JSONB, nullable=False, server_default="{}"),
    _text("subject", ""),
    _instant("acknowledged_at", nullable=True),
    Column("acknowledged_by", Text),
    _number("worst_value", nullable=True),
    _instant("worst_at", nullable=True),
)

alarm_memory = Table(
    "alarm_memory",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("site_id", Integer, nullable=False),
    _text("rule"),
    _text("subject"),
    Column("memory", JSONB, nullable=False),
    _instant("updated_at", now=True),
)

alarm_transitions = Table(
    "alarm_transitions",
    metadata,
    _id(BigInteger),
    Column("alarm_id", BigInteger),
    _text("fingerprint"),
    Column("site_id", Integer, nullable=False),
    _text("rule"),
    _text("subject"),
    _instant("at"),
    _text("before"),
    _text("after"),
    Column("severity", Text),
    _number("value", nullable=True),
    _number("threshold", nullable=True),
    _text("reason", ""),
)

alarm_comments = Table(
    "alarm_comments",
    metadata,
    _id(BigInteger),
    Column("alarm_id", BigInteger, nullable=False),
    _instant("at"),
    _text("author"),
    _text("text"),
)

silences = Table(
    "silences",
    metadata,
    _id(BigInteger),
    Column("site_id", Integer, nullable=False),
    _text("rule"),
    _text("subject"),
    _instant("start_at"),
    _instant("end_at"),
    _text("author"),
    _text("comment"),
)

outbox = Table(
    "outbox",
    metadata,
    _id(BigInteger),
    Column("dedup_key", Text, nullable=False, unique=True),
    _text("channel"),
    Column("site_id", Integer, nullable=False),
    Column("alarm_id", BigInteger),
    _text("what"),
    Column("payload", JSONB, nullable=False),
    _instant("created_at"),
    _instant("not_before"),
    _text("state", "waiting"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _instant("sent_at", nullable=True),
)

deliveries = Table(
    "deliveries",
    metadata,
    _id(BigInteger),
    _text("channel"),
    Column("message_ids", ARRAY(BigInteger), nullable=False),
    _instant("started_at"),
    _instant("finished_at", nullable=True),
    _text("outcome"),
    _text("detail", ""),
)

report_orders = Table(
    "report_orders",
    metadata,
    _key("id", Uuid),
    *(_text(name) for name in ("site", "institution", "period")),
    Column("revision", Integer),
    *(_text(name) for name in ("format", "lang", "asked_by")),
    _instant("asked_at"),
    _text("state", "waiting"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("steps_done", Integer, nullable=False, server_default="0"),
    Column("steps_total", Integer, nullable=False, server_default="1"),
    _instant("touched_at"),
    _instant("finished_at", nullable=True),
    *(_text(name, "") for name in ("problem", "file_name", "media_type")),
    Column("content", LargeBinary),
)

reading_receipts = Table(
    "reading_receipts",
    metadata,
    *(_key(name, Text) for name in ("actor", "source", "key", "target")),
    _key("hour", _at),
    *(Column(name, BigInteger, nullable=False) for name in ("batches", "accepted")),
    *(_instant(name) for name in ("first_at", "last_at")),
    Column("digest", Numeric, nullable=False),
)

horizons = Table("horizons", metadata, _key("kind", Text), _instant("dropped_before"))

locks = Table("locks", metadata, Column("name", Text, primary_key=True))
"""Made before any migration, by ``app.store.locks``."""

deployment = Table(
    "deployment",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", JSONB, nullable=False),
    _instant("updated_at", now=True),
)

check_queue = Table(
    "check_queue",
    metadata,
    Column("meter_id", Integer, primary_key=True, autoincrement=False),
    _instant("start_at"),
    _instant("end_at"),
)

fleet_version = Table(
    "fleet_version",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _text("writer"),
    Column("changes", BigInteger, nullable=False),
)

site_sources = Table(
    "site_sources",
    metadata,
    Column("site_id", Integer, ForeignKey("sites.id"), primary_key=True, autoincrement=False),
    _key("owner", Text),
    _instant("last_at"),
)

workers = Table(
    "workers",
    metadata,
    _key("id", Text),
    _text("name"),
    Column("sites", JSONB),
    *(_instant(name) for name in ("started_at", "seen_at")),
)

leases = Table(
    "leases",
    metadata,
    _key("subject", Text),
    _text("worker"),
    Column("epoch", BigInteger, nullable=False),
    *(_instant(name) for name in ("taken_at", "expires_at")),
)

site_months = Table(
    "site_months",
    metadata,
    Column("site_id", Integer, ForeignKey("sites.id"), primary_key=True, autoincrement=False),
    _key("month", Date),
    Column("computed", BigInteger, nullable=False),
)

site_hours = Table(
    "site_hours",
    metadata,
    Column("site_id", Integer, ForeignKey("sites.id"), primary_key=True, autoincrement=False),
    _key("day", Date),
    Column("version", BigInteger, nullable=False),
    Column("hours", ARRAY(BigInteger), nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    Column("public_id", Text, nullable=False, unique=True),
    _text("name"),
    _text("secret_sha256"),
    Column("grants", ARRAY(Text), nullable=False),
    _instant("created_at", now=True),
    _text("created_by"),
    _instant("expires_at", nullable=True),
    _instant("revoked_at", nullable=True),
    Column("revoked_by", Text),
    _text("parent", ""),
    _instant("last_used_at", nullable=True),
    _text("certificate_sha256", ""),
)

edges = Table(
    "edges",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("key_id", Text, nullable=False, unique=True),
    Column("sites", ARRAY(Text), nullable=False),
    _instant("created_at", now=True),
    _text("process", ""),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("lease_until", DateTime(timezone=True), nullable=False, server_default="epoch"),
    _instant("first_seen_at", nullable=True),
    _instant("last_seen_at", nullable=True),
    _instant("refused_at", nullable=True),
    _text("version", ""),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    _text("problem", ""),
    Column("newest_revision", BigInteger, nullable=False, server_default="0"),
    _text("newest_sha256", ""),
    _number("clock_offset_s", nullable=True),
    Column("clock_off_readings", BigInteger, nullable=False, server_default="0"),
    Column("waiting", BigInteger, nullable=False, server_default="0"),
    _instant("oldest_waiting_at", nullable=True),
    Column("set_aside", JSONB, nullable=False, server_default="[]"),
)

edge_unknown_readings = Table(
    "edge_unknown_readings",
    metadata,
    Column("edge_id", Integer, ForeignKey("edges.id"), primary_key=True, autoincrement=False),
    _key("point", Text),
    _key("at", _at),
    _number("value"),
    Column("interval_s", Integer, nullable=False),
    Column("valid_s", Integer, nullable=False),
    _instant("received_at", now=True),
)

audit = Table(
    "audit",
    metadata,
    _key("seq", BigInteger),
    _instant("at"),
    *(_text(name) for name in ("actor", "source", "action", "target", "detail", "previous_hash", "hash")),
    _text("key_id", ""),
)

site_file_texts = Table(
    "site_file_texts",
    metadata,
    _id(BigInteger),
    *(_text(name) for name in ("owner", "text", "sha256", "base_sha256")),
    _text("note", ""),
    _text("written_by"),
    _instant("written_at", now=True),
    Column("applied_by", Text),
    _instant("applied_at", nullable=True),
)

declarations = Table(
    "declarations",
    metadata,
    _id(BigInteger),
    Column("site_id", Integer, ForeignKey("sites.id"), nullable=False),
    _text("indicator"),
    _number("value"),
    Column("dated", Date, nullable=False),
    *(_text(name) for name in ("evidence", "author")),
    _instant("created_at", now=True),
    Column("withdrawn_by", Text),
    _instant("withdrawn_at", nullable=True),
)

measures = Table(
    "measures",
    metadata,
    _id(BigInteger),
    Column("site_id", Integer, ForeignKey("sites.id"), nullable=False),
    *(_text(name) for name in ("key", "what", "boundary")),
    *(Column(f"implementation_{end}", Date, nullable=False) for end in ("start", "end")),
    *(Column(f"baseline_{end}", Date, nullable=False) for end in ("start", "end")),
    Column("reporting_start", Date, nullable=False),
    Column("reporting_end", Date),
    _number("cost", nullable=True),
    _number("expected_kwh_per_year", nullable=True),
    *(_text(name) for name in ("evidence", "author")),
    _instant("created_at", now=True),
    Column("withdrawn_by", Text),
    _instant("withdrawn_at", nullable=True),
)

hourly_factors = Table(
    "hourly_factors",
    metadata,
    _id(BigInteger),
    *(_text(name) for name in ("region", "basis", "source")),
    Column("verified", Boolean, nullable=False),
    _instant("first_at"),
    Column("kg_per_kwh", ARRAY(Double), nullable=False),
    *(_text(name) for name in ("sha256", "author")),
    _instant("created_at", now=True),
    Column("withdrawn_by", Text),
    _instant("withdrawn_at", nullable=True),
)

measure_adjustments = Table(
    "measure_adjustments",
    metadata,
    _id(BigInteger),
    Column("measure_id", BigInteger, ForeignKey("measures.id"), nullable=False),
    Column("start_on", Date, nullable=False),
    Column("end_on", Date, nullable=False),
    _number("energy_kwh"),
    *(_text(name) for name in ("reason", "author")),
    _instant("created_at", now=True),
    Column("withdrawn_by", Text),
    _instant("withdrawn_at", nullable=True),
)

baselines = Table(
    "baselines",
    metadata,
    Column("site_id", Integer, ForeignKey("sites.id"), primary_key=True, autoincrement=False),
    _key("version", Integer),
    *(_text(name) for name in ("sha256", "document")),
    Column("rows", JSONB, nullable=False),
    _text("author"),
    _instant("created_at", now=True),
    UniqueConstraint("site_id", "sha256"),
)

site_moves = Table(
    "site_moves",
    metadata,
    _key("id", Uuid),
    *(_key("direction", Text), _text("site")),
    Column("site_id", Integer, nullable=False),
    _text("cell"),
    _text("url", ""),
    _text("state"),
    _instant("began_at", now=True),
    _instant("sealed_at", nullable=True),
    _instant("ended_at", nullable=True),
)

site_move_numbers = Table(
    "site_move_numbers",
    metadata,
    _key("move", Uuid),
    _key("kind", Text),
    _key("old_id", BigInteger),
    Column("new_id", BigInteger, nullable=False),
)

site_move_readings = Table(
    "site_move_readings",
    metadata,
    _key("point", Text),
    _key("at", _at),
    _number("value"),
    Column("interval_s", Integer, nullable=False),
    Column("valid_s", Integer, nullable=False),
    _instant("received_at", now=True),
)
