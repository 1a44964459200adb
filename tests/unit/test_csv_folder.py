"""The watched folder: complete files only, done only after the ack."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site
from app.errors import CollectError, ConfigError, FileNotUnderstood
from collectors import registry
from collectors.base import Binding
from collectors.csv.folder import CsvFolder, FolderConfig, build, mark_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
POINT = Point(id="main", role=Role.FACILITY, kind=ReadingKind.REGISTER)
SITE = Site(id="dc", institution="bank", time_zone="UTC", meters=(Meter(id="m", points=(POINT,)),))
TEXT = "time,main\n2024-01-01 00:00,1\n2024-01-01 00:15,2\n"


@pytest.fixture
def folder(tmp_path: Path) -> CsvFolder:
    config = registry.parse({"kind": "csv_folder", "folder": str(tmp_path), "pattern": "*.csv"})
    collector = registry.build(config, Binding("bms"))
    assert isinstance(collector, CsvFolder)
    return collector


def _at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def test_a_file_is_taken_when_it_stood_still(folder: CsvFolder, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(TEXT[:20])
    assert folder.deliveries(_at(0)) == []
    path.write_text(TEXT)
    assert folder.deliveries(_at(11)) == []
    assert folder.deliveries(_at(15)) == []
    assert [d.path for d in folder.deliveries(_at(21))] == [path]


def test_a_clock_that_is_set_back_holds_no_file_up(folder: CsvFolder, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TEXT)
    assert folder.deliveries(_at(43_200)) == []
    assert folder.deliveries(_at(0)) == []
    assert len(folder.deliveries(_at(10))) == 1


def test_a_file_is_delivered_again_until_it_is_acknowledged(folder: CsvFolder, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(TEXT)
    folder.deliveries(_at(0))
    (first,) = folder.deliveries(_at(10))
    batches = list(first.batches(first.understand(SITE), now=T0))
    assert sum(len(b.columns) for b in batches) == 2
    (again,) = folder.deliveries(_at(20))
    assert again.ack()
    assert not path.exists()
    assert (tmp_path / "done" / "a.csv").read_text() == TEXT
    assert folder.deliveries(_at(30)) == []


def test_a_new_process_starts_where_the_old_one_died(folder: CsvFolder, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TEXT)
    folder.deliveries(_at(0))
    assert folder.deliveries(_at(10))
    reborn = build(FolderConfig(folder=tmp_path), Binding("bms"))
    assert reborn.deliveries(_at(20)) == []
    assert len(reborn.deliveries(_at(30))) == 1


def test_a_file_that_grew_meanwhile_comes_again(folder: CsvFolder, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(TEXT)
    folder.deliveries(_at(0))
    (delivery,) = folder.deliveries(_at(10))
    path.write_text(TEXT + "2024-01-01 00:30,3\n")
    assert not delivery.ack()
    assert path.exists()


def test_the_same_name_twice_keeps_both(folder: CsvFolder, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "a.csv").write_text(TEXT + f"2024-01-01 00:30,{number}\n")
        folder.deliveries(_at(100 * number))
        (delivery,) = folder.deliveries(_at(100 * number + 10))
        assert delivery.ack()
    assert sorted(p.name for p in (tmp_path / "done").iterdir()) == ["a.2.csv", "a.csv"]


def test_what_cannot_be_read_is_set_aside_with_the_reason(folder: CsvFolder, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("hello\n")
    folder.deliveries(_at(0))
    (delivery,) = folder.deliveries(_at(10))
    with pytest.raises(FileNotUnderstood) as caught:
        delivery.understand(SITE)
    place = delivery.refuse(str(caught.value))
    assert place == tmp_path / "refused" / "a.csv"
    assert "expected rows of a time" in place.with_name("a.csv.reason.txt").read_text()
    assert folder.deliveries(_at(20)) == []


@pytest.mark.parametrize("name", ["a.csv.tmp", "a.csv.part", ".a.csv", "~a.csv", "a.txt", "a.csv.filepart"])
def test_unfinished_and_foreign_names_are_left_alone(folder: CsvFolder, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TEXT)
    folder.deliveries(_at(0))
    assert folder.deliveries(_at(10)) == []


def test_links_out_of_the_folder_are_not_followed(folder: CsvFolder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(TEXT)
    (tmp_path / "a.csv").symlink_to(secret)
    folder.deliveries(_at(0))
    assert folder.deliveries(_at(10)) == []


def test_the_oldest_file_comes_first(folder: CsvFolder, tmp_path: Path) -> None:
    for age, name in enumerate(["b.csv", "a.csv", "c.csv"]):
        (tmp_path / name).write_text(TEXT)
        os.utime(tmp_path / name, (1_700_000_000 - age, 1_700_000_000 - age))
    folder.deliveries(_at(0))
    assert [d.path.name for d in folder.deliveries(_at(10))] == ["c.csv", "a.csv", "b.csv"]


async def test_a_folder_that_is_gone_is_a_failure_of_this_collector_only(tmp_path: Path) -> None:
    collector = build(FolderConfig(folder=tmp_path / "gone"), Binding("bms"))
    poll = await collector.poll(T0)
    assert poll.readings == ()
    assert "does not exist" in str(poll.failures[0])
    with pytest.raises(CollectError, match="bms"):
        collector.deliveries(T0)
    await collector.close()


def test_the_folder_of_done_files_is_no_watched_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        build(FolderConfig(folder=tmp_path / "done"), Binding("bms"))


def test_a_refused_file_is_read_again_when_mapping_or_points_change(tmp_path: Path) -> None:
    mapping = tmp_path / "map.yaml"
    mapping.write_text("columns: {nothing: main}\n")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.csv").write_text(TEXT.replace("main", "m"))
    folder = build(FolderConfig(folder=inbox, mapping=mapping), Binding("bms"))
    folder.site_mark = mark_of(SITE)
    seconds = iter(range(0, 2000, 20))

    def delivered(collector: CsvFolder) -> list[str]:
        collector.deliveries(_at(next(seconds)))
        return [d.path.name for d in collector.deliveries(_at(next(seconds)))]

    folder.deliveries(_at(next(seconds)))
    (first,) = folder.deliveries(_at(next(seconds)))
    first.refuse("no column nothing")
    assert [f.reason for f in folder.set_aside()] == ["no column nothing"]
    assert delivered(folder) == []
    reborn = build(FolderConfig(folder=inbox, mapping=mapping), Binding("bms"))
    reborn.site_mark = mark_of(SITE)
    assert delivered(reborn) == []
    mapping.write_text("columns: {m: main}  # another\n")
    assert delivered(reborn) == ["a.csv"]
    (again,) = reborn.deliveries(_at(next(seconds)))
    assert again.understand(SITE).points == ("main",)
    again.refuse("still not")
    assert delivered(reborn) == []
    reborn.site_mark = mark_of(replace(SITE, time_zone="Asia/Shanghai"))
    assert delivered(reborn) == ["a.csv"]


def test_a_mapping_that_is_no_longer_understood_is_named(tmp_path: Path) -> None:
    mapping = tmp_path / "map.yaml"
    mapping.write_text("columns: {main: main}\n")
    (tmp_path / "inbox").mkdir()
    folder = build(FolderConfig(folder=tmp_path / "inbox", mapping=mapping), Binding("bms"))
    assert folder.deliveries(_at(0)) == []
    mapping.write_text("colums: {main: main}\n")
    with pytest.raises(CollectError, match=r"map\.yaml:1: colums: unknown key"):
        folder.deliveries(_at(1))
