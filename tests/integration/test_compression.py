"""What TimescaleDB says of its jobs becomes a state, a metric, an alarm.

Native TimescaleDB has a scheduler, the one in WebAssembly has not: failures of jobs are told here through the
views of ``timescaledb_information`` as versions 2.22 and 2.29 have them, on plain PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.jobs.alarms import judge
from app.jobs.alarms.watch import Cache
from app.store import alarms, compression, timescale
from app.store import engine as stores
from app.store.compression import Spans, State, spans_for
from app.telemetry import Telemetry
from app.web import router as pages
from app.web.words import Words
from tests.integration.api_helpers import client
from tests.integration.test_api_access import bearer, make_key
from tests.integration.test_sites import SITE, sync

MakeEngine = Callable[..., sa.Engine]
NOW = datetime.now(UTC)

VIEWS = """
CREATE SCHEMA timescaledb_information;
CREATE TABLE timescaledb_information.jobs (
    job_id integer, application_name name, schedule_interval interval, max_runtime interval,
    max_retries integer, retry_period interval, proc_schema name, proc_name name, owner regrole,
    scheduled boolean, fixed_schedule boolean, config jsonb, next_start timestamptz,
    initial_start timestamptz, hypertable_schema name, hypertable_name name, check_schema name,
    check_name name
);
CREATE TABLE timescaledb_information.job_stats (
    hypertable_schema name, hypertable_name name, job_id integer, last_run_started_at timestamptz,
    last_successful_finish timestamptz, last_run_status text, job_status text, last_run_duration interval,
    next_start timestamptz, total_runs bigint, total_successes bigint, total_failures bigint
);
CREATE TABLE timescaledb_information.chunks (
    hypertable_schema name, hypertable_name name, chunk_schema name, chunk_name name, primary_dimension name,
    primary_dimension_type regtype, range_start timestamptz, range_end timestamptz,
    range_start_integer bigint, range_end_integer bigint, is_compressed boolean, chunk_tablespace name,
    chunk_creation_time timestamptz
);
CREATE TABLE timescaledb_information.job_errors (
    job_id integer, proc_schema text, proc_name text, pid integer, start_time timestamptz,
    finish_time timestamptz, sqlerrcode text, err_message text
);
"""
POLICIES = {"2.22": "policy_compression", "2.29": "policy_compression", "a renamed one": "policy_columnstore"}
JOB = """
INSERT INTO timescaledb_information.jobs (job_id, proc_name, scheduled, config, hypertable_name)
VALUES (:job, :policy, :scheduled, '{"compress_after": "30 days"}', :table);
"""
RUN = """
INSERT INTO timescaledb_information.job_stats
    (job_id, hypertable_name, last_run_status, last_successful_finish, total_failures)
VALUES (:job, :table, :status, :at, :failures)
"""


@pytest.fixture
def told(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> sa.Engine:
    """A database that has the views, and stands for one with hypertables."""
    monkeypatch.setattr(timescale, "is_hypertable", lambda connection, table: True)
    with stores.begin(engine) as connection:
        connection.exec_driver_sql(VIEWS)
    return engine


def _job(
    engine: sa.Engine, table: str, *, job: int, policy: str = "policy_compression", **run: object
) -> None:
    values = {"job": job, "table": table, "policy": policy, "scheduled": True, "failures": 0, **run}
    with stores.begin(engine) as connection:
        connection.execute(sa.text(JOB), values)
        if "status" in values:
            connection.execute(sa.text(RUN), values)


def _state(engine: sa.Engine, table: str = "readings") -> compression.State:
    with stores.connect(engine) as connection:
        return next(one for one in compression.states(connection) if one.table == table)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_job_that_succeeds_is_in_order(told: sa.Engine, policy: str) -> None:
    _job(told, "readings", job=1000, policy=policy, status="Success", at=NOW)
    found = _state(told)
    assert (found.problem, found.after_days, found.last_success_at) == (None, 30.0, NOW)


def test_a_job_that_fails_is_named_with_what_it_said(told: sa.Engine) -> None:
    _job(told, "readings", job=1000, status="Failed", at="-infinity", failures=17)
    with stores.begin(told) as connection:
        connection.exec_driver_sql(
            "INSERT INTO timescaledb_information.job_errors (job_id, finish_time, err_message) "
            "VALUES (1000, now(), 'could not extend file: No space left on device')"
        )
    found = _state(told)
    assert (found.failures, found.last_success_at) == (17, None)
    assert "job 1000 failed: could not extend file: No space left on device; see" in str(found.problem)
    assert "CALL run_job(1000);" in str(found.problem)


def test_a_table_without_a_policy_and_a_paused_job_are_named(told: sa.Engine) -> None:
    _job(told, "energy_15m", job=1001, scheduled=False, status="Success", at=NOW)
    assert "no compression policy" in str(_state(told).problem)
    assert "alter_job(1001, scheduled => true)" in str(_state(told, "energy_15m").problem)


def test_a_scheduler_that_does_not_run_shows_in_chunks_that_are_overdue(told: sa.Engine) -> None:
    _job(told, "readings", job=1000)
    with stores.begin(told) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO timescaledb_information.chunks (hypertable_name, range_end, is_compressed) "
                "VALUES ('readings', :due, false), ('readings', :due, true), ('readings', :fresh, false)"
            ),
            {"due": NOW - timedelta(days=33), "fresh": NOW - timedelta(days=31)},
        )
    found = _state(told)
    assert found.overdue_chunks == 1
    assert "shared_preload_libraries" in str(found.problem)


def test_metrics_and_the_alarm_say_so(told: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sync(told, SITE)
    for number, table in enumerate(("readings", *compression.FIGURES)):
        status = "Failed" if table == "gauge_15m" else "Success"
        _job(told, table, job=1000 + number, status=status, at=NOW, failures=number)
    telemetry = Telemetry()
    telemetry.refresh(told, NOW)
    page = telemetry.exposition().decode()
    assert 'wattline_compression_broken{table="gauge_15m"} 1.0' in page
    assert 'wattline_compression_broken{table="readings"} 0.0' in page
    assert 'wattline_compression_failures_total{table="gauge_15m"} 3.0' in page
    assert (
        f'wattline_compression_last_success_timestamp_seconds{{table="readings"}} {NOW.timestamp()!r}' in page
    )

    cache = Cache()
    for minutes in range(0, 75, 5):
        judge.run(told, NOW + timedelta(minutes=minutes), cache=cache)
    with stores.connect(told) as connection:
        fired = connection.execute(
            sa.text("SELECT rule, severity, site_id FROM alarms WHERE fired_at IS NOT NULL")
        ).all()
    assert [tuple(row) for row in fired if row.rule == "compression_failing"] == [
        ("compression_failing", "warning", alarms.DEPLOYMENT)
    ]


def test_whoever_sees_the_deployment_finds_it_beside_the_findings_of_a_site(told: sa.Engine) -> None:
    sync(told, SITE)
    for number, table in enumerate(("readings", *compression.FIGURES)):
        _job(
            told,
            table,
            job=1000 + number,
            status="Failed" if table == "gauge_15m" else "Success",
            at=NOW,
            scheduled=table != "volume_15m",
        )
    authenticator = KeyAuthenticator(told, clock=lambda: NOW)
    with client(told, clock=lambda: NOW, authenticator=authenticator, extra=(pages.router,)) as http:

        def answer(path: str, grant: str, **query: str) -> httpx.Response:
            return http.get(path, params=query, headers=bearer(make_key(told, grant)))

        found = answer("/api/v1/sites/sh1/findings", "viewer").json()
        assert [(f["kind"], f["severity"], f["table"]) for f in found["deployment"]] == [
            ("compression_failing", "warning", "volume_15m"),
            ("compression_failing", "warning", "gauge_15m"),
        ]
        assert "alter_job(1002, scheduled => true)" in found["deployment"][0]["problem"]
        assert datetime.fromisoformat(found["deployment"][1]["last_success_at"]) == NOW
        of_site = answer("/api/v1/sites/sh1/findings", "admin:site/sh1").json()
        assert (of_site["site"], of_site["deployment"]) == ("sh1", [])

        page = answer("/sites/sh1/findings", "viewer", lang="zh").text
        assert "数据库压缩失败" in page
        assert "作业 1003 失败；请查看" in page
        assert "作业 1002 已暂停" in page
        assert answer("/runbook", "viewer").text.count('id="wattlinecompressionfails"') == 1
        assert re.search('href="/runbook[^"]*#wattlinecompressionfails"', page)
        assert "gauge_15m" not in answer("/sites/sh1/findings", "viewer:site/sh1").text


def test_every_problem_is_said_in_chinese_too() -> None:
    broken = (
        State("readings", None),
        State("readings", 1, scheduled=False),
        State("readings", 1, last_status="Failed"),
        State("readings", 1, last_status="Failed", error="no space left"),
        State("readings", 1, overdue_chunks=3),
    )
    said = [Words("zh").message(str(state.problem)) for state in broken]
    assert not [one for one in said if not re.search("[\u4e00-\u9fff]", one)]
    assert "no space left" in said[3]


def test_plain_postgresql_says_nothing_of_compression(engine: sa.Engine) -> None:
    with stores.connect(engine) as connection:
        assert compression.states(connection) == []
    telemetry = Telemetry()
    telemetry.refresh(engine, NOW)
    assert b"wattline_compression" not in telemetry.exposition()


@pytest.mark.parametrize(
    ("interval_s", "spans"),
    [
        (15, Spans(7, 7)),
        (60, Spans(7, 7)),
        (300, Spans(7, 168)),
        (600, Spans(14, 168)),
        (900, Spans(28, 168)),
        (3600, Spans(28, 168)),
    ],
)
def test_chunks_are_as_long_as_the_readings_want_it(interval_s: int, spans: Spans) -> None:
    assert spans_for(86_400 / interval_s) == spans
    assert spans.merged_days % spans.chunk_days == 0


def test_the_interval_is_that_of_the_readings_themselves(engine: sa.Engine) -> None:
    sync(engine, SITE)
    with stores.begin(engine) as connection:
        assert compression.readings_per_day(connection) is None
        connection.execute(
            sa.text(
                "CREATE TABLE readings_20260302 PARTITION OF readings "
                "FOR VALUES FROM ('2026-03-02 00:00+00') TO ('2026-03-09 00:00+00')"
            )
        )
        connection.execute(
            sa.text(
                "INSERT INTO readings "
                "SELECT timestamptz '2026-03-02 00:00+00' + n * interval '15 min', p.id, n "
                "FROM generate_series(1, 600) n, points p"
            )
        )
        assert compression.readings_per_day(connection) == 96.0
