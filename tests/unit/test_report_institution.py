"""The report of many sites: small enough to send, whole in the forms that are for machines."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from datetime import UTC, datetime

from app.domain.site import Institution, InstitutionClass
from app.reports import institution, output
from app.reports.document import InstitutionReport, SiteLine, Span
from app.reports.render.csv import lines
from tests.paper import pages_of

COUNT = 660


def site(number: int) -> SiteLine:
    return SiteLine(
        id=f"s{number}",
        name=f"站点 {number}",
        revision=1,
        sha256="0" * 64,
        pue=1.25 + number / 10_000,
        reason=None,
        label="PUE1",
        kind="annual",
        facility_kwh=1_250_000.0 + 100 * number,
        it_kwh=1_000_000.0,
        coverage_ratio=0.999,
        it_load_ratio=0.5,
        cost=None,
        currency="CNY",
        emissions_kg=1.0,
        limit=1.5,
        verdict="pass",
        plain="pass",
        breach_days=0,
        findings=0,
    )


def together() -> InstitutionReport:
    bank = Institution(id="bank", institution_class=InstitutionClass.JOINT_STOCK)
    span = Span(
        name="2025", start="2025-01-01T00:00:00+08:00", end="2026-01-01T00:00:00+08:00", whole=True, days=365
    )
    return institution.build(
        bank, span, map(site, range(COUNT)), datetime(2026, 1, 6, tzinfo=UTC), targets=()
    )


def test_a_year_of_660_sites_is_under_2_mb_on_paper() -> None:
    made = output.render(together(), "pdf", "zh")
    assert len(made) < 2_000_000
    text = "".join(pages_of(made))
    assert "(s499)" in text.replace(" ", "")
    assert "另有 160 行" in text


def test_every_one_of_660_sites_stands_in_the_other_forms() -> None:
    whole = together()
    last = f"s{COUNT - 1}"
    assert json.loads(output.render(whole, "json", "en"))["sites"][-1]["id"] == last
    rows = list(csv.DictReader(io.StringIO(b"".join(lines(whole.sites)).decode("utf-8-sig"))))
    assert [row["id"] for row in rows] == [f"s{n}" for n in range(COUNT)]
    with zipfile.ZipFile(io.BytesIO(output.render(whole, "xlsx", "en"))) as book:
        assert f"({last})" in book.read("xl/sharedStrings.xml").decode()
