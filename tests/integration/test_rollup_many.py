"""Many points in one rollup: the fast way is taken, and stores what the careful way stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from app import config
from app.domain import plain
from app.domain.reading import ReadingColumns
from app.errors import WorkTooLarge
from app.jobs import rollup
from app.store import partitions, reading_windows, readings, sites
from app.store.engine import begin, connect
from app.store.fleet_cache import FleetCache
from app.store.readings import to_us
from app.store.sites import Stored

POINTS = 40
KINDS = {"r": "register", "p": "power", "e": "interval_energy", "m": "interval_mean_power"}
START = datetime(2026, 3, 2, 23, 0, tzinfo=UTC)


def site_file(zone: str = "Asia/Shanghai") -> str:
    lines = ["institutions: [{id: b, institution_class: joint_stock}]", "sites:"]
    lines += ["  - id: s", "    institution: b", f"    time_zone: {zone}", "    meters:"]
    point = "{{id: {0}, role: {1}, kind: {2}, interval_s: 60}}"
    main = point.format("main.kwh", "facility", "register")
    lines.append(f"      - {{id: main, rated_power_kw: 2000, points: [{main}]}}")
    for n in range(POINTS):
        for letter, kind in KINDS.items():
            own = point.format(f"{letter}{n}", "it_pdu_output", kind)
            fed = f"rated_power_kw: 20, fed_by: [main], room: r{n % 2}"
            lines.append(f"      - {{id: {letter}{n}.m, {fed}, points: [{own}]}}")
    return "\n".join(lines) + "\n"


def declared(engine: sa.Engine, zone: str = "Asia/Shanghai") -> Stored:
    with begin(engine) as connection:
        sites.sync(connection, config.parse(site_file(zone)).fleet)
        return sites.load(connection)


def minutes(stored: Stored, first: int, count: int, odd: str = "") -> ReadingColumns:
    """A reading a minute of every point; the register `odd` falls in between."""
    points = list(stored.point_id.items())
    at_us = to_us(START) + 60_000_000 * np.arange(first, first + count)
    parts = []
    for n, (key, number) in enumerate(points):
        is_counter = stored.fleet.point[key][2].kind.value == "register"
        minute = np.arange(first, first + count)
        value = 1000 + n + minute * 0.07 if is_counter else np.full(count, 0.1 + n / 1e3)
        value = np.where((key == odd) & (np.arange(count) == count // 2), 3.0, value)
        length = np.full(count, 60 if key[0] in "em" and key != "main.kwh" else 0, np.int32)
        parts.append(ReadingColumns(np.full(count, number, np.int32), at_us, value, length, length))
    return ReadingColumns.concat(parts)


def add(engine: sa.Engine, columns: ReadingColumns) -> None:
    with begin(engine) as connection:
        readings.ingest(connection, columns)


def figures(engine: sa.Engine) -> dict[str, list[tuple[object, ...]]]:
    tables = {"energy_15m": "point_id, at", "energy_day": "point_id, day", "site_15m": "site_id, room, at"}
    with connect(engine) as connection:
        return {
            table: [tuple(row) for row in connection.execute(sa.text(f"TABLE {table} ORDER BY {key}"))]
            for table, key in tables.items()
        }


def test_both_ways_store_the_same_bits(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = declared(engine)
    columns, careful = minutes(stored, 0, 100, odd="r3"), 0
    for first in (0, 40, 41, 42, 60, 99):  # live minutes, a run of them, and some that come late
        until = {0: 40, 42: 60, 60: 99}.get(first, first + 1)
        rows = (columns.at_us - to_us(START)) // 60_000_000
        late = columns.point_id % 7 == 0
        add(engine, columns.take((rows >= first) & (rows < until) & ~late))
        careful += rollup.run(engine).careful
    add(engine, columns.take(columns.point_id % 7 == 0))
    careful += rollup.run(engine).careful
    assert careful <= 3, "only the register that falls is unusual"
    fast = figures(engine)
    assert len(fast["energy_15m"]) > POINTS * 4 * 6
    assert {row[1] for row in fast["site_15m"]} == {"", "r0", "r1"}

    monkeypatch.setattr(plain, "is_plain", lambda point, events: False)
    with begin(engine) as connection:
        connection.execute(sa.text("TRUNCATE energy_15m, energy_day, site_15m"))
    with begin(engine) as connection:
        readings.queue_rollups(connection, columns)
    assert rollup.run(engine).careful == POINTS * 4 + 1
    assert figures(engine) == fast


def test_a_live_minute_changes_only_what_is_open(engine: sa.Engine) -> None:
    stored = declared(engine)
    add(engine, minutes(stored, 0, 101))
    rollup.run(engine)
    add(engine, minutes(stored, 101, 1))
    result = rollup.run(engine)
    assert (result.stretches, result.careful) == (POINTS * 4 + 1, 0)
    assert result.changed_from == {"s": to_us(START + timedelta(minutes=90))}
    with connect(engine) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM rollup_queue")).scalar_one() == 0
    assert rollup.run(engine).stretches == 0


def test_a_new_time_zone_moves_the_days_though_no_interval_changes(engine: sa.Engine) -> None:
    add(engine, minutes(declared(engine, "Asia/Shanghai"), 0, 120))
    rollup.run(engine)
    before = figures(engine)
    declared(engine, "UTC")
    rollup.run(engine)
    after = figures(engine)
    assert after["energy_15m"] == before["energy_15m"]
    days = {row[1] for row in after["energy_day"]}
    assert days == {(START + timedelta(hours=h)).date() for h in (0, 2)}
    assert {row[1] for row in before["energy_day"]} == {START.date() + timedelta(days=1)}


def test_the_version_of_the_fleet_moves_with_it_and_only_then(engine: sa.Engine) -> None:
    cache = FleetCache()
    declared(engine, "UTC")
    with connect(engine) as connection:
        first = cache.current(connection)
    declared(engine, "UTC")
    with connect(engine) as connection:
        assert cache.current(connection) is first
    with begin(engine) as connection:
        sites.sync(connection, config.parse(site_file("Asia/Tokyo")).fleet)
        connection.rollback()
    with connect(engine) as connection:
        assert cache.current(connection) is first
    declared(engine, "Asia/Seoul")
    with connect(engine) as connection:
        assert cache.current(connection).fleet.site["s"].time_zone == "Asia/Seoul"


def test_what_is_too_much_for_one_transaction_is_done_in_smaller_ones(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(engine, minutes(declared(engine), 0, 20))
    with engine.begin() as connection:
        partitions.ensure_figures(connection, "energy_15m", np.array([to_us(START)]))
        connection.exec_driver_sql(
            """
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF (SELECT count(*) FROM fresh) > 100 THEN
                    RAISE 'tuple decompression limit exceeded by operation' USING ERRCODE = '53400';
                END IF;
                RETURN NULL;
            END $$;
            CREATE TRIGGER refuse AFTER INSERT ON energy_15m REFERENCING NEW TABLE AS fresh
            FOR EACH STATEMENT EXECUTE FUNCTION refuse()
            """
        )
    taken: list[int] = []
    monkeypatch.setattr(rollup, "TAKE_READINGS", 20_000)
    real = rollup.roll_up

    def roll_up(connection: sa.Connection, stored: Stored, work: rollup.Taken) -> rollup.RollupResult:
        taken.append(len(work.point_id))
        return real(connection, stored, work)

    monkeypatch.setattr(rollup, "roll_up", roll_up)
    assert rollup.run(engine).stretches == POINTS * 4 + 1
    assert taken[0] > max(taken[1:]) > 1
    with pytest.raises(WorkTooLarge), begin(engine) as connection:
        connection.exec_driver_sql("DO $$ BEGIN RAISE 'too much' USING ERRCODE = '53400'; END $$")


def test_readings_of_many_windows_are_those_that_a_query_for_each_finds(engine: sa.Engine) -> None:
    stored = declared(engine)
    add(engine, minutes(stored, 0, 90))
    numbers = sorted(stored.point_id.values())[:12]
    start_us = to_us(START) + 60_000_000 * (5 * np.arange(len(numbers), dtype=np.int64))
    end_us = start_us + 60_000_000 * 7
    end_us[3] = start_us[3]  # one is empty
    asked = "SELECT at, value FROM readings WHERE "
    with connect(engine) as connection:
        for found, query in (
            (reading_windows.within(connection, numbers, start_us, end_us), "at >= {0} AND at < {1}"),
            (
                reading_windows.beside(connection, numbers, start_us, 3, earlier=True),
                "at < {0} ORDER BY at DESC LIMIT 3",
            ),
            (
                reading_windows.beside(connection, numbers, end_us, 3, earlier=False),
                "at >= {1} ORDER BY at LIMIT 3",
            ),
        ):
            for row, number in enumerate(numbers):
                bounds = (f"'epoch'::timestamptz + interval '{us} us'" for us in (start_us[row], end_us[row]))
                where = f"point_id = {number} AND {query.format(*bounds)}"
                expected = {(to_us(at), value) for at, value in connection.exec_driver_sql(asked + where)}
                own = found.point_id == row
                assert set(zip(found.at_us[own].tolist(), found.value[own].tolist(), strict=True)) == expected
                assert int(own.sum()) == len(expected)


@pytest.mark.parametrize("count", [3, 12])
def test_long_windows_hold_readings_of_instants_and_of_intervals(engine: sa.Engine, count: int) -> None:
    stored = declared(engine)
    columns = minutes(stored, 0, 90)
    mixed = np.where(np.arange(len(columns)) % 7 == 0, 60, columns.interval_s).astype(np.int32)
    add(engine, ReadingColumns(columns.point_id, columns.at_us, columns.value, mixed, mixed // 2))
    numbers = np.array(
        [*sorted(stored.point_id.values())[: count - 1], 1_000_000]
    )  # the last has no readings
    start_us = to_us(START) + 60_000_000 * (5 * np.arange(count, dtype=np.int64)) - reading_windows.EACH_US
    end_us = start_us + 2 * reading_windows.EACH_US
    with connect(engine) as connection:
        found = reading_windows.within(connection, numbers.tolist(), start_us, end_us).by_point()
    asked = np.isin(columns.point_id, numbers)
    place = np.searchsorted(numbers, columns.point_id[asked])
    order = np.lexsort((columns.at_us[asked], place))
    assert found.point_id.tolist() == place[order].tolist()
    assert found.at_us.tolist() == columns.at_us[asked][order].tolist()
    assert found.value.tolist() == columns.value[asked][order].tolist()
    assert found.interval_s.tolist() == mixed[asked][order].tolist()
    assert found.valid_s.tolist() == (mixed // 2)[asked][order].tolist()
