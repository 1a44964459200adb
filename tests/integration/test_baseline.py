"""The baseline of a site over HTTP and on the command line, and weather that comes from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.domain.access import Grant
from app.domain.baseline import Baseline, Conditions, fit
from app.domain.period import Period
from app.domain.weather import Provenance, wet_bulb_c
from app.store import audit, baselines, conditions, identity
from app.store.sites import Stored, load
from tests.integration.api_helpers import client
from tests.integration.conftest import Wattline
from tests.integration.test_conditions import FIRST, fill, stored_site

SPAN = {"start": "2025-11-01", "end": "2026-01-20"}


@pytest.fixture
def stored(engine: sa.Engine) -> Stored:
    """80 days of a site with an own sensor, with some noise."""
    found, _ = stored_site(engine)
    fill(engine, found)
    noise = (
        "UPDATE site_15m SET facility_kwh = facility_kwh * (1 + 0.01 * sin(extract(epoch FROM at) / 4e5 + 3))"
    )
    with engine.begin() as connection:
        connection.execute(sa.text(noise))
    return found


@pytest.fixture
def http(engine: sa.Engine) -> Iterator[httpx.Client]:
    with client(engine, authenticator=KeyAuthenticator(engine)) as found:
        yield found


def asked(engine: sa.Engine, http: httpx.Client, method: str, grant: str, **params: object) -> httpx.Response:
    with engine.begin() as connection:
        key = identity.create(connection, "li", [Grant.parse(grant)], created_by="test")
    headers = {"Authorization": f"Bearer {key}"}
    return http.request(method, "/api/v1/sites/s/baseline", params=params, headers=headers)  # type: ignore[arg-type]


def test_what_the_model_says(engine: sa.Engine, http: httpx.Client, stored: Stored) -> None:
    answer = asked(engine, http, "GET", "viewer", **SPAN)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    model = found["model"]
    assert (found["accepted"], found["reasons"], found["row_count"]) == (True, [], 80)
    assert model["weather"] == {"provenance": "measured", "source": "roof.t, roof.rh"}
    names = {c["name"]: c for c in model["coefficients"]}
    assert names["base_kw"]["unit"] == "kW"
    assert all(c["standard_error"] >= 0 for c in model["coefficients"])
    assert model["cv_rmse_ratio"] < model["cv_rmse_limit_ratio"] == 0.3
    assert model["monthly_cv_rmse_limit_ratio"] == 0.15
    canonical = json.dumps(found["document"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(canonical.encode()).hexdigest() == found["sha256"]
    assert (found["version"], found["frozen"]) == (None, [])


def test_too_little_history_is_no_baseline_and_the_reason(
    engine: sa.Engine, http: httpx.Client, stored: Stored
) -> None:
    short = {"start": "2025-11-01", "end": "2025-12-01"}
    found = asked(engine, http, "GET", "viewer", **short).json()
    assert (found["model"], found["accepted"], found["sha256"]) == (None, False, None)
    assert found["reasons"] == [{"code": "too_little_history", "text": "30 days of history; 60 are needed"}]
    refused = asked(engine, http, "POST", "operator", **short)
    assert refused.status_code == 422
    assert "30 days of history; 60 are needed" in refused.text


def test_an_operator_freezes_it_and_it_stays(engine: sa.Engine, http: httpx.Client, stored: Stored) -> None:
    assert asked(engine, http, "POST", "viewer", **SPAN).status_code == 403
    frozen = asked(engine, http, "POST", "operator", **SPAN)
    assert frozen.status_code == 201, frozen.text
    one = frozen.json()
    assert one["version"] == 1
    assert one["frozen"][0]["sha256"] == one["sha256"]
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE site_15m SET facility_kwh = facility_kwh * 1.2"))
        trail = [(e.action, e.actor) for e in audit.listing(connection)[:1]]
    assert trail == [("baseline.freeze", "li")]
    again = asked(engine, http, "GET", "viewer", version=1).json()
    assert (again["document"], again["sha256"]) == (one["document"], one["sha256"])
    assert asked(engine, http, "GET", "viewer", **SPAN).json()["sha256"] != one["sha256"]
    assert asked(engine, http, "GET", "viewer", version=2).status_code == 404
    with engine.connect() as connection:
        kept = baselines.load(connection, stored.site_id["s"], 1)
    rows = Conditions.from_rows(kept.baseline.resolution, kept.rows, weather=kept.baseline.weather)
    assert fit(rows) == kept.baseline, "the rows that are kept with it give it again"


def test_on_the_command_line(wattline: Wattline, stored: Stored) -> None:
    span = ("--start", SPAN["start"], "--end", SPAN["end"])
    shown = wattline("baseline", "s", *span)
    assert shown.code == 0, shown.err
    for text in ("accepted, not frozen", "weather measured: roof.t, roof.rh", "CV(RMSE) of months", "sha256"):
        assert text in shown.out, text
    frozen = wattline("baseline", "s", *span, "--freeze", "--json").document
    assert frozen["version"] == 1
    assert wattline("baseline", "s", "--version", "1", "--json").document["sha256"] == frozen["sha256"]
    short = wattline("baseline", "s", "--start", SPAN["start"], "--end", "2025-11-20")
    assert "no baseline" in short.out
    assert "because 19 days of history; 60 are needed" in short.out
    assert wattline("baseline", "s", "--resolution", "week").code == 2


# -- weather from files ------------------------------------------------------------------------------

FILE_SITE = """\
institutions: [{{id: b, institution_class: other}}]
sites:
  - id: s
    institution: b
    time_zone: Asia/Shanghai
    meters:
      - {{id: grid, stage: utility, points: [{{id: grid.e, role: facility, kind: register}}]}}
      - {{id: ups, stage: ups, fed_by: [grid], points: [{{id: ups.e, role: it_ups_output, kind: register}}]}}
      - id: station
        {mark}
        points:
          - {{id: station.t, role: outdoor_dry_bulb, kind: gauge, interval_s: 3600}}
          - {{id: station.rh, role: outdoor_relative_humidity, kind: gauge, interval_s: 3600}}
"""
IMPORTED = "imported_from: Hongqiao (ZSSS)"


def epw_lines(first: date, days: int) -> Iterator[str]:
    yield "LOCATION,Shanghai Hongqiao,SHA,CHN,AMY,583670,31.2,121.3,8.0,3.0"
    yield from ("DESIGN CONDITIONS,0", "TYPICAL/EXTREME PERIODS,0", "GROUND TEMPERATURES,0")
    yield from ("HOLIDAYS/DAYLIGHT SAVINGS,No,0,0,0", "COMMENTS 1,made up", "COMMENTS 2,")
    yield "DATA PERIODS,1,1,Data,Sunday, 1/ 1,12/31"
    for hour in range(24 * days):
        day = first + timedelta(days=hour // 24)
        dry_c, humidity = 10 + 8 * np.sin(hour / 200), 60 + hour % 24
        dry, rh = ("99.9", "999") if hour == 5 else (f"{dry_c:.3f}", f"{humidity}")
        yield f"{day.year},{day.month},{day.day},{hour % 24 + 1},60,?9?9,{dry},5.0,{rh},101325" + ",0" * 25


def site_file(folder: Path, mark: str = IMPORTED) -> Path:
    file = folder / "site.yaml"
    file.write_text(FILE_SITE.format(mark=mark))
    return file


def of_file(engine: sa.Engine, days: int) -> Conditions:
    with engine.connect() as connection:
        stored = load(connection)
        whole = Period(FIRST, FIRST + timedelta(days=days))
        return conditions.of_site(connection, stored, stored.fleet.site["s"], whole)


def test_an_epw_file_is_the_weather_of_a_site_without_a_sensor_and_marked(
    engine: sa.Engine, wattline: Wattline, tmp_path: Path
) -> None:
    file = tmp_path / "hongqiao.epw"
    file.write_text("\n".join(epw_lines(date(2025, 11, 1), 70)) + "\n")
    done = wattline("import", file, "--site", "s", "--config", site_file(tmp_path), "--json")
    assert done.code == 0, done.err
    assert done.document["files"][0]["accepted"] == 2 * (70 * 24 - 1)
    with engine.connect() as connection:
        stored = load(connection)
    fill(engine, stored, gauges=False)
    found = of_file(engine, 70)
    assert found.weather is not None
    assert found.weather.provenance is Provenance.IMPORTED
    assert found.weather.source == "Hongqiao (ZSSS) (station.t, station.rh)"
    hours = np.arange(24 * 70)
    by_hand = wet_bulb_c(10 + 8 * np.sin(hours / 200), 60.0 + hours % 24)
    assert np.isfinite(found.wet_bulb_c).all()
    ending = by_hand.reshape(70, 24)[:, :]  # the hour that ends at midnight counts for the day after
    shifted = np.concatenate([ending[1:-1, -1:], ending[2:, :-1]], axis=1).mean(axis=1)
    assert found.wet_bulb_c[2:] == pytest.approx(shifted, abs=2e-3)
    base = fit(found)
    assert isinstance(base, Baseline)
    assert base.as_dict()["weather"]["provenance"] == "imported"


def test_a_weather_file_does_not_fill_a_sensor_of_the_site(wattline: Wattline, tmp_path: Path) -> None:
    file = tmp_path / "hongqiao.epw"
    file.write_text("\n".join(epw_lines(date(2025, 11, 1), 3)) + "\n")
    mapping = tmp_path / "map.yaml"
    mapping.write_text("columns: {outdoor_dry_bulb: station.t, outdoor_relative_humidity: station.rh}\n")
    plain = site_file(tmp_path, "name: roof")
    refused = wattline("import", file, "--site", "s", "--config", plain, "--map", mapping)
    assert refused.code != 0
    assert "say imported_from at meter station" in refused.err


def test_a_typical_year_is_said_to_be_one(wattline: Wattline, tmp_path: Path) -> None:
    lines = list(epw_lines(date(2025, 1, 1), 90))
    years = {1: "1999", 2: "2004", 3: "2011"}
    typical = [*lines[:8], *(f"{years[int(r.split(',')[1])]},{r.split(',', 1)[1]}" for r in lines[8:])]
    file = tmp_path / "tmy.epw"
    file.write_text("\n".join(typical) + "\n")
    done = wattline("import", file, "--site", "s", "--config", site_file(tmp_path), "--json")
    assert done.code == 0, done.err
    warnings = " ".join(done.document["files"][0]["warnings"])
    assert "a typical year, made of months of 1999, 2004, 2011" in warnings


def test_hourly_csv_weather_needs_no_mapping(engine: sa.Engine, wattline: Wattline, tmp_path: Path) -> None:
    file = tmp_path / "weather.csv"
    start = datetime(2025, 10, 31, 16, tzinfo=UTC)
    rows = (
        f"{(start + timedelta(hours=h)).isoformat()},{10 + h % 24 / 2},{50 + h % 24}\n" for h in range(24 * 5)
    )
    file.write_text("time,temperature_2m (°C),relative_humidity_2m (%)\n" + "".join(rows))
    done = wattline("import", file, "--site", "s", "--config", site_file(tmp_path), "--json")
    assert done.code == 0, done.err
    with engine.connect() as connection:
        stored = load(connection)
    fill(engine, stored, gauges=False)
    found = of_file(engine, 5)
    hours = np.arange(24)
    assert found.wet_bulb_c == pytest.approx([wet_bulb_c(10 + hours / 2, 50.0 + hours).mean()] * 5)
    assert found.weather is not None
    assert found.weather.provenance is Provenance.IMPORTED


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (("LOCATION,Shanghai Hongqiao,SHA,CHN,AMY,583670,31.2,121.3,8.0,3.0", "LOCATION,Shanghai"), "UTC"),
        (("2025,11,1,2,60", "2025,13,1,2,60"), "year, month, day"),
    ],
)
def test_a_damaged_epw_file_is_refused_with_its_line(
    wattline: Wattline, tmp_path: Path, broken: tuple[str, str], words: str
) -> None:
    file = tmp_path / "broken.epw"
    file.write_text(("\n".join(epw_lines(date(2025, 11, 1), 3)) + "\n").replace(*broken))
    refused = wattline("import", file, "--site", "s", "--config", site_file(tmp_path))
    assert refused.code != 0
    assert words in refused.err
    assert "broken.epw:" in refused.err
