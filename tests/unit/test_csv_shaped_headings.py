"""A second heading in an export that is reshaped while it is read: followed, never read by the first one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site
from app.errors import FileNotUnderstood
from collectors.csv.reader import Reject, read, understand

NOW = datetime(2026, 12, 1, tzinfo=UTC)
DAYS = ",".join(f"{n}日" for n in range(1, 31))


def site(kind: ReadingKind = ReadingKind.INTERVAL_ENERGY) -> Site:
    points = tuple(Point(id=p, role=Role.NONE, kind=kind, interval_s=3600) for p in ("a", "b"))
    return Site(id="s", institution="b", time_zone="UTC", meters=(Meter(id="m", points=points),))


def taken(
    folder: Path, text: str, kind: ReadingKind = ReadingKind.INTERVAL_ENERGY
) -> tuple[dict[str, dict[str, float]], list[Reject]]:
    path = folder / "f.csv"
    path.write_text(text, encoding="utf-8")
    values: dict[str, dict[str, float]] = {}
    rejects: list[Reject] = []
    for batch in read(path, understand(path, site(kind)), now=NOW):
        rejects += batch.rejects
        columns = batch.columns
        for n, us, value in zip(columns.point_id, columns.at_us, columns.value, strict=True):
            values.setdefault(batch.points[n], {})[f"{datetime.fromtimestamp(us / 1e6, UTC):%m-%d %H}"] = (
                value
            )
    return values, rejects


def month(title: str, first: int, heading: str = DAYS) -> str:
    row = ",".join(str(first + n) for n in range(30))
    return f"{title}\n回路名称,{heading}\na,{row}\n"


def test_a_report_of_two_months_in_one_file(tmp_path: Path) -> None:
    text = month("2026-04,单位：kWh", 100) + "\n" + month("2026-06,单位：MWh", 200)
    values, rejects = taken(tmp_path, text)
    assert len(values["a"]) == 30
    assert values["a"]["04-02 00"] == 100
    assert [r.reason for r in rejects][:1] == ["its unit is not the kwh of the point's other rows"]
    values, rejects = taken(tmp_path, text.replace("MWh", "kWh"))
    assert rejects == []
    assert (values["a"]["04-02 00"], values["a"]["06-02 00"], len(values["a"])) == (100, 200, 60)


def test_a_heading_that_is_repeated_on_a_page_keeps_its_month(tmp_path: Path) -> None:
    text = month("2026-04,单位：kWh", 100) + month("第 2 页", 200).replace("\na,", "\nb,")
    values, rejects = taken(tmp_path, text)
    assert rejects == []
    assert values["b"]["04-02 00"] == 200


def test_other_columns_without_a_month_are_refused_by_line(tmp_path: Path) -> None:
    other = ",".join(f"{n}日" for n in range(1, 29))
    with pytest.raises(FileNotUnderstood, match=r"f\.csv:6: neither the rows nor the lines above say"):
        taken(tmp_path, month("2026-04,单位：kWh", 100) + month("第 2 页", 200, other))


def test_a_meter_calendar_of_two_months(tmp_path: Path) -> None:
    def page(month: int) -> str:
        days = ",".join(map(str, range(1, 32)))
        return f"年,月,说明{',日' * 31}\n2026,{month},x,{days}\n1,a,x{',7' * 30},8\n"

    values, rejects = taken(tmp_path, page(3) + page(5))
    assert rejects == []
    assert sorted(values["a"].values()) == [7] * 60 + [8] * 2
    assert values["a"]["06-01 00"] == 8


def test_pairs_whose_series_change_places(tmp_path: Path) -> None:
    rows = "2026-04-30 0{0}:00,1{0},2026-04-30 0{0}:00,9{0}\n"
    text = "a,,b,\n" + "".join(map(rows.format, range(9))) + "b,,a,\n"
    text += "2026-05-01 04:00,94,2026-05-01 04:00,14\nTime,Value,Time,Value\n"
    text += "2026-05-01 05:00,95,2026-05-01 05:00,15\n2026-05-01 06:00,96,2026-05-01 06:00,16\n"
    values, rejects = taken(tmp_path, text, ReadingKind.REGISTER)
    assert rejects == []
    assert list(values["a"].values()) == [*range(10, 19), 14, 15, 16]
    assert list(values["b"].values()) == [*range(90, 99), 94, 95, 96]


def test_entities_with_a_second_heading_of_other_hours(tmp_path: Path) -> None:
    head = "entity_id,type,unit,2026-05-0{0}T00:00:00Z,2026-05-0{0}T01:00:00Z\na,energy,kWh,{0},{0}\n"
    values, rejects = taken(tmp_path, head.format(1) + head.format(2))
    assert rejects == []
    assert values["a"] == {"05-01 01": 1, "05-01 02": 1, "05-02 01": 2, "05-02 02": 2}


def test_statistics_whose_columns_move(tmp_path: Path) -> None:
    text = "statistic_id,unit,start,sum\n" + "".join(f"a,kWh,2026-05-01 0{n}:00:00,{n}\n" for n in range(3))
    text += "start,sum,statistic_id,unit\n" + "".join(f"2026-05-01 0{n}:00:00,{n},a,kWh\n" for n in (3, 4))
    values, rejects = taken(tmp_path, text, ReadingKind.REGISTER)
    assert rejects == []
    assert list(values["a"].values()) == [0, 1, 2, 3, 4]
