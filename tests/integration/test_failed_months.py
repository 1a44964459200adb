"""A month whose findings fail keeps no other waiting, is shown, and is tried again."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from app.domain.period import Period
from app.jobs import site_findings
from app.store import failed_months, progress
from app.telemetry import Telemetry
from app.web import router as pages
from tests.integration.api_helpers import NOW, START, a_day, client


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("division of nothing")

    monkeypatch.setattr(site_findings, "flow_findings", fail)


def test_a_month_that_fails_again_and_again_is_shown_until_it_succeeds(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = a_day(engine)
    spans = {stored.site_id[name]: Period(START, START + timedelta(hours=20)) for name in ("sh1", "bj1")}
    with monkeypatch.context() as patched:
        broken(patched)
        assert site_findings.look_at_months(engine, spans, NOW) == 2
        site_findings.try_failed_months(engine, NOW)
    with engine.begin() as connection:
        assert failed_months.of_sites(connection) == {"sh1": ["2026-03"], "bj1": ["2026-03"]}
        assert failed_months.record(connection, "sh1", date(2026, 3, 1), "x", NOW) == 3
        assert progress.look(connection).failed_months == {"sh1": 1, "bj1": 1}
    telemetry = Telemetry()
    telemetry.look_at_progress(engine)
    assert b'wattline_findings_failed_months{site="sh1"} 1.0' in telemetry.exposition()
    with client(engine, clock=lambda: NOW, extra=(pages.router,)) as http:
        page = http.get("/sites/sh1")
        assert "The check for findings failed for 2026-03" in page.text
        assert "division of nothing" not in page.text

        site_findings.try_failed_months(engine, NOW)
        assert "The check for findings failed" not in http.get("/sites/sh1").text
    telemetry.look_at_progress(engine)
    assert b'wattline_findings_failed_months{site="sh1"} 0.0' in telemetry.exposition()
