"""Hard months: the document is as expected to the last digit, and every form and language holds it.

``expected.json`` of a case is written again with ``WATTLINE_WRITE_GOLDEN=1``; look at the difference.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app import config
from app.domain.data.emission_factors import EMISSION_FACTORS
from app.domain.energy import Event, EventKind
from app.jobs import rollup
from app.reports import canonical, output
from app.reports.build import build
from app.reports.document import Document, Factor, Report, as_data, read
from app.reports.language import codes, language
from app.reports.pages import layout_of
from app.reports.render import strings
from app.store import deployment, events, readings, sites
from app.store.readings import to_us
from app.store.reports import revisions
from tests.golden.reports.cases import CASES, HOSTILE, Case
from tests.paper import pages_of

FOLDER = Path(__file__).parent
SHIPPED = next(f.source for f in EMISSION_FACTORS if f.year == 2023)


def made(engine: sa.Engine, case: Case) -> Report:
    """The report of a case, over the real store."""
    with engine.begin() as connection:
        file = config.parse(case.site)
        sites.sync(connection, file.fleet)
        deployment.save_reference(connection, file.reference)
        stored = sites.load(connection)
        readings.ingest_readings(connection, list(case.readings()), dict(stored.point_id))
        if case.replaced_at is not None:
            us = to_us(case.replaced_at)
            events.add(
                connection,
                site_id=stored.site_id["s1"],
                meter_id=stored.meter_id["ups"],
                point_ids=[stored.point_id["ups.p"]],
                event=Event(EventKind.REPLACED, us, us, 1000 + 20 * 24 * 15, 0.0),
                start=case.replaced_at,
                end=case.replaced_at,
                author="installer",
                note="protocol 17",
            )
    rollup.run(engine)
    with engine.begin() as connection:
        return build(revisions.gather(connection, stored, stored.fleet.site["s1"], case.period, case.now))


@pytest.mark.parametrize("name", CASES)
def test_the_document_is_as_expected(engine: sa.Engine, name: str) -> None:
    report = made(engine, CASES[name])
    path = FOLDER / f"{name}.json"
    if os.environ.get("WATTLINE_WRITE_GOLDEN"):
        path.write_bytes(output.render(report, "json", "en"))
    assert as_data(report) == json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(params=CASES)
def report(request: pytest.FixtureRequest) -> Report:
    """The expected document of every case."""
    found = read(json.loads((FOLDER / f"{request.param}.json").read_text(encoding="utf-8")))
    assert isinstance(found, Report)
    return found


@pytest.mark.parametrize(("form", "lang"), [("pdf", "zh"), ("html", "en"), ("xlsx", "zh")])
def test_every_form_renders(report: Report, form: str, lang: str) -> None:
    content = output.render(report, form, lang)
    starts = {"pdf": b"%PDF-1.7", "html": b"<!doctype html>", "xlsx": b"PK"}
    assert content.startswith(starts[form])
    assert len(content) < 2_000_000


def test_parts_add_up_to_their_totals(report: Report) -> None:
    places = report.method.energy_decimals
    energy = report.energy
    for parts in (energy.classes, energy.sources):
        assert round(sum(p.energy_kwh for p in parts), places) == energy.facility_kwh
    assert round(sum(d.facility_kwh for d in report.days), places) == energy.facility_kwh
    assert round(sum(d.it_kwh for d in report.days), places) == report.pue["period"].it_kwh
    for change in report.comparisons:
        assert round(sum(p.change for p in change.parts), 6) == (change.change or 0.0)
        if change.baseline_pue is not None and change.change is not None:
            assert round(change.baseline_pue + change.change, 6) == report.pue["period"].pue


# -- every number that is shown stands in the document ------------------------------------------------


@pytest.mark.parametrize("lang", codes())
def test_every_number_shown_is_found_in_the_json(report: Report, lang: str) -> None:
    shown = set(_numbers_shown(report, lang))
    known = _known(as_data(report))
    assert {text for text in shown if not _is_known(text, known)} == set()


def _numbers_shown(report: Report, lang: str) -> Iterator[str]:
    data = strings.of(layout_of(report, language(lang)))
    for section in data["sections"]:
        for block in section["blocks"]:
            if block["type"] == "table":
                columns = block["columns"]
                yield from (
                    t for row in block["rows"] for c, t in zip(columns, row, strict=True) if c["number"]
                )
            elif block["type"] == "facts":
                yield from (t for _, t in block["rows"])
    yield from re.findall(r"\d\.\d+", data["headline"])


def _known(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [x for item in value.values() for x in _known(item)]
    if isinstance(value, list):
        return [x for item in value for x in _known(item)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def _is_known(text: str, known: list[float]) -> bool:
    plain = text.replace(",", "").replace("\u2212", "-").removeprefix("+")
    if plain in ("–", "—"):
        return True
    is_percent, bare = plain.endswith("%"), plain.rstrip("% ")
    number = float(bare) / (100 if is_percent else 1)
    places = len(bare.partition(".")[2]) + (2 if is_percent else 0)
    return any(abs(number - k) <= 0.5001 * 10**-places for k in known)


# -- versions ----------------------------------------------------------------------------------------


def test_every_page_says_whether_it_is_provisional() -> None:
    whole = read(json.loads((FOLDER / "more_cooling.json").read_text(encoding="utf-8")))
    pages = pages_of(output.render(whole, "pdf", "zh"))
    assert len(pages) > 5
    assert [number for number, text in enumerate(pages, 1) if "暂定数据" not in text] == []
    closed = output.render(canonical.revised(whole, 1, []), "pdf", "zh")
    assert "暂定" not in "".join(pages_of(closed))


def test_what_a_revision_changed_stands_in_every_form() -> None:
    before = read(json.loads((FOLDER / "more_cooling.json").read_text(encoding="utf-8")))
    assert isinstance(before, Report)
    figure = replace(before.pue["period"], pue=1.654321)
    after = replace(before, pue={**before.pue, "period": figure})
    changed = canonical.changes(as_data(before), as_data(after))
    revised = canonical.revised(after, 2, changed)
    facts = ("pue.period.pue", "1.612077", "1.654321")
    for form in ("json", "csv", "html"):
        assert all(fact in output.render(revised, form, "zh").decode() for fact in facts), form
    with zipfile.ZipFile(io.BytesIO(output.render(revised, "xlsx", "zh"))) as book:
        assert all(fact in book.read("xl/sharedStrings.xml").decode() for fact in facts)
    text = "".join(pages_of(output.render(revised, "pdf", "zh")))
    assert all(fact in text.replace("\u200b", "") for fact in facts)


# -- names that mean harm -----------------------------------------------------------------------------


@pytest.fixture
def hostile() -> Document:
    """The document of the site with hostile names."""
    return read(json.loads((FOLDER / "hostile_names.json").read_text(encoding="utf-8")))


def test_no_name_becomes_a_formula_or_a_line_in_csv(hostile: Document) -> None:
    text = output.render(hostile, "csv", "en").decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text)))
    assert {len(row) for row in rows} == {5}
    cells = [c for row in rows for c in row]
    assert not [c for c in cells if c.startswith(("=", "+", "@")) or re.match(r"-\D", c)]
    assert "'=HYPERLINK(1) +x" in {c.replace("  ", " ") for c in cells}


def test_no_name_becomes_a_formula_in_a_workbook(hostile: Document) -> None:
    with zipfile.ZipFile(io.BytesIO(output.render(hostile, "xlsx", "zh"))) as book:
        sheets = [book.read(n).decode() for n in book.namelist() if n.startswith("xl/worksheets/")]
    assert sheets
    assert not [s for s in sheets if "<f>" in s]


def test_no_name_becomes_markup(hostile: Document) -> None:
    page = output.render(hostile, "html", "en").decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert HOSTILE[3][:100] in page


@pytest.mark.parametrize("lang", codes())
def test_the_factor_is_named_with_its_own_source(hostile: Document, lang: str) -> None:
    assert isinstance(hostile, Report)
    factor = Factor(
        region="CN", basis="grid_average", year=2023, kg_per_kwh=0.4321, source="合同 7\r\n§3", verified=True
    )
    own = replace(hostile, money=replace(hostile.money, factor=factor))
    shipped = replace(hostile, money=replace(hostile.money, factor=replace(factor, source=SHIPPED)))
    page = output.render(own, "html", lang).decode()
    assert "0.4321 kgCO₂/kWh" in page
    assert "合同 7  §3" in page
    assert (
        language(lang).known("factor_source", "CN 2023", "") in output.render(shipped, "html", lang).decode()
    )


def test_a_site_of_2000_points_renders(hostile: Document) -> None:
    assert isinstance(hostile, Report)
    many = [replace(hostile.method.points[0], point=f"p-{n}") for n in range(2000)]
    loads = [replace(hostile.loads[0], name=f"m-{n}", kind="load") for n in range(2000)]
    whole = replace(hostile, method=replace(hostile.method, points=many), loads=loads)
    assert len(output.render(whole, "pdf", "en")) < 2_000_000
    with zipfile.ZipFile(io.BytesIO(output.render(whole, "xlsx", "en"))) as book:
        assert "p-1999" in book.read("xl/sharedStrings.xml").decode()
