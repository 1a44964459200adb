"""Whatever stands in a file that somebody wrote or exported: an answer or the declared error, in bounds."""

from __future__ import annotations

import gc
import io
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import xlsxwriter
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app import config
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site
from app.errors import ConfigError, FileNotUnderstood
from collectors.csv.mapping import parse_mapping
from collectors.csv.reader import read, understand
from collectors.profiles.profile import read_profile

PARSERS: dict[str, Callable[[str], object]] = {
    "site file": config.parse,
    "profile": read_profile,
    "mapping": parse_mapping,
}
GOOD = {
    "site file": """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    design: {it_capacity_kw: 1000}
    meters:
      - id: main
        collector: {kind: modbus, host: 10.0.0.1, profile: schneider_iem3000}
        points: [{id: main.kwh, role: facility, kind: register}]
alarms: {disabled: []}
notifications: {channels: [{id: hook, kind: webhook, url: "https://example.org/"}]}
""",
    "profile": """
model: M1
vendor: V
protocol: modbus
source: document 1
channels:
  - {name: energy_import_kwh, kind: register, unit: Wh, address: 10, type: uint32, modulus: 4294967296}
  - {name: "outlet_{n}_power_kw", kind: power, unit: W, address: 20, type: int16}
""",
    "mapping": """
encoding: utf-8
time: {column: t, format: "%Y-%m-%d", zone: UTC}
columns: {a: main.kwh, b: {point: ups.kwh, unit: MWh}}
footer: '^Total'
""",
}
PIECES = st.sampled_from(
    [
        *(
            "- ",
            ": ",
            "? ",
            "{",
            "}",
            "[",
            "]",
            ",",
            "&a ",
            "*a",
            "<<: ",
            "!!binary ",
            "!!python/object:os.x ",
            "\n",
        ),
        *(
            "!!set ",
            "!!omap ",
            "\n  ",
            "|",
            ">",
            "'",
            '"',
            "#",
            "---\n",
            "...\n",
            "%YAML 9.9\n",
            "\t",
            "~",
            "=",
            "\ufeff",
        ),
        *(
            "1_000",
            "0x",
            "0o9",
            "1:99:99",
            "9" * 5000,
            "1e999",
            ".inf",
            ".nan",
            "2026-02-31",
            "2026-13-45T99:99:99Z",
        ),
        *(
            "sites",
            "meters",
            "points",
            "id",
            "collector",
            "channels",
            "protocol: snmp\n",
            "columns",
            "time",
            "true",
        ),
    ]
)
TEXTS = st.one_of(st.lists(PIECES | st.text(max_size=5), max_size=30).map("".join), st.text(max_size=100))
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


def understood_or_refused(kind: str, text: str) -> None:
    with suppress(ConfigError):
        PARSERS[kind](text)


@pytest.mark.parametrize("kind", PARSERS)
@settings(max_examples=50)
@given(text=TEXTS)
@example(text="a: 2026-02-31")
@example(text="[" * 800)
@example(text="{a: " * 800)
@example(text="a: " + "9" * 5000)
@example(text="a: &x [*x]")
@example(text="a: &x {<<: *x}")
@example(text="? [a, b]\n: 1")
@example(text="? {a: b}\n: 1")
def test_any_text_is_understood_or_refused(kind: str, text: str) -> None:
    understood_or_refused(kind, text)


@pytest.mark.parametrize("kind", PARSERS)
@settings(max_examples=50)
@given(cut=st.tuples(st.floats(0, 1), st.floats(0, 0.1)), piece=PIECES | st.text(max_size=20))
def test_a_good_file_with_something_else_in_it_is_understood_or_refused(
    kind: str, cut: tuple[float, float], piece: str
) -> None:
    good = GOOD[kind]
    PARSERS[kind](good)
    start = int(cut[0] * len(good))
    understood_or_refused(kind, good[:start] + piece + good[start + int(cut[1] * len(good)) :])


@pytest.mark.parametrize("kind", PARSERS)
@settings(max_examples=50)
@given(path=st.lists(st.integers(0, 9), min_size=1, max_size=6), data=DATA)
def test_a_good_file_with_another_value_in_it_is_understood_or_refused(
    kind: str, path: list[int], data: object
) -> None:
    tree = parent = yaml.safe_load(GOOD[kind])
    *way, last = path
    for step in way:
        keys = list(parent) if isinstance(parent, dict) else range(len(parent))
        child = parent[keys[step % len(keys)]] if len(keys) else None
        if not isinstance(child, dict | list) or not child:
            break
        parent = child
    keys = list(parent) if isinstance(parent, dict) else range(len(parent))
    parent[keys[last % len(keys)]] = data
    understood_or_refused(kind, yaml.safe_dump(tree, allow_unicode=True))


def nest(last: str, of: str) -> str:
    """Twelve values, each of which stands for ten of the one before."""
    values = [last, *(of.format(", ".join([f"*x{i}"] * 10)) for i in range(11))]
    return "\n".join(f"x{i}: &x{i} {value}" for i, value in enumerate(values))


ALIASES, MERGES = nest("[1]", "[{}]"), nest("{a: 1}", "{{<<: [{}]}}")


@pytest.mark.parametrize("kind", ["profile", "mapping"])
@pytest.mark.parametrize("text", [ALIASES, MERGES], ids=["aliases", "merge keys"])
def test_a_nest_of_aliases_or_merge_keys_is_refused_in_flat_memory(kind: str, text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="aliases counted"):
            PARSERS[kind](text)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", PARSERS)
def test_nothing_of_a_file_is_kept_when_it_has_been_read(kind: str) -> None:
    tracemalloc.start()
    try:
        for n in range(40):
            understood_or_refused(kind, GOOD[kind] + f"# {n}\n")
            if n == 20:
                gc.collect()  # what waits for the collector is not kept
                early_bytes = tracemalloc.get_traced_memory()[0]
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - early_bytes < 20_000
    finally:
        tracemalloc.stop()


# -- CSV ---------------------------------------------------------------------------------------------

NOW = datetime(2027, 1, 1, tzinfo=UTC)
SITE = Site(
    id="dc",
    institution="bank",
    time_zone="Europe/Berlin",
    meters=(
        Meter(id="m", points=tuple(Point(id=p, role=Role.NONE, kind=ReadingKind.GAUGE) for p in ("a", "b"))),
    ),
)
CELLS = st.one_of(
    st.sampled_from(
        [
            *(
                "time",
                "a",
                "b",
                "t;a",
                "2024-01-01 00:00",
                "2024-01-01T00:00:00+01:00",
                "31.12.2023 24:00",
                "1704067200",
            ),
            *(
                "1",
                "1,5",
                "1.234,56",
                "-7",
                "1e308",
                "1e999",
                "NaN",
                "inf",
                "--",
                "=1+1",
                '"',
                '""',
                "'",
                "\x00",
            ),
            *(
                "9999-12-31 23:59",
                "0000-00-00",
                "2024-02-30 25:61",
                "９９",
                "١٢",
                "kWh",
                "总",
                "\ufeff",
                "x" * 5000,
                "9" * 400,
            ),
        ]
    ),
    st.text(max_size=6),
)
LINES = st.lists(
    st.tuples(
        st.lists(CELLS, max_size=6),
        st.sampled_from([",", ";", "\t", "|"]),
        st.sampled_from(["\n", "\r\n", "\r"]),
    ),
    max_size=12,
).map(lambda rows: "".join(mark.join(cells) + end for cells, mark, end in rows))
EXPORT = "".join(
    ["time,a,b\n", *(f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00,{i * 1.5},{100 - i}\n" for i in range(60))]
).encode()


def read_or_refused(content: bytes, name: str = "export.csv") -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        with suppress(FileNotUnderstood):
            for batch in read(path, understand(path, SITE), now=NOW, block_bytes=4096):
                assert len(batch.columns) <= len(content)


@settings(max_examples=40)
@given(LINES, st.sampled_from(["utf-8", "utf-16", "gb18030", "latin-1"]))
def test_any_table_is_read_or_refused(text: str, encoding: str) -> None:
    read_or_refused(text.encode(encoding, errors="replace"))


@settings(max_examples=40)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    read_or_refused(content)
    read_or_refused(b"\x1f\x8b\x08" + content)
    read_or_refused(b"PK\x03\x04" + content)


@settings(max_examples=40)
@given(st.floats(0, 1), st.floats(0, 0.2), st.binary(max_size=30))
def test_an_export_with_damage_in_it_is_read_or_refused(at: float, length: float, damage: bytes) -> None:
    start = int(at * len(EXPORT))
    read_or_refused(EXPORT[:start] + damage + EXPORT[start + int(length * len(EXPORT)) :])


SAMPLES = sorted(
    p
    for p in (Path(__file__).parents[1] / "golden" / "csv").glob("*/input.*")
    if p.stat().st_size < 20_000 and not p.suffix.startswith(".xls")
)
DAMAGE = st.binary(max_size=30) | st.sampled_from(
    [
        *(
            b'"',
            b"\n",
            b"\0",
            b",",
            b";",
            b"\t",
            b"<",
            b"</",
            b"&x;",
            b"{",
            b"[",
            b"]}",
            b"#datatype,",
            b"1e999",
        ),
        *(b"9" * 400, b"NaN", b"24:00", b"0001-01-01", b"9999-12-31", b"\xff\xfe", b"300,20260101,"),
    ]
)


@settings(max_examples=60)
@given(st.sampled_from(SAMPLES), st.floats(0, 1), st.floats(0, 0.2), DAMAGE, st.integers(1, 3))
def test_every_sample_with_damage_in_it_is_read_or_refused(
    sample: Path, at: float, length: float, damage: bytes, times: int
) -> None:
    content = sample.read_bytes()
    start = int(at * len(content))
    read_or_refused(content[:start] + damage * times + content[start + int(length * len(content)) :])


XML_SAMPLES = [sample for sample in SAMPLES if sample.suffix == ".xml"]
XML_DAMAGE = DAMAGE | st.sampled_from(
    [
        *(b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"<![CDATA[", b"]]>", b"<!--", b"<?xml version='9'?>"),
        *(b"&#0;", b" xmlns:x='y'"),
        *(
            b"<a>" * 300,
            b"<IntervalReading/>",
            b"<value>1e400</value>",
            b"<start>-9</start>",
            b" xmlns:x='y'",
        ),
    ]
)


@settings(max_examples=40)
@given(st.sampled_from(XML_SAMPLES), st.floats(0, 1), st.floats(0, 0.2), XML_DAMAGE, st.integers(1, 3))
def test_an_xml_file_with_damage_in_it_is_read_or_refused(
    sample: Path, at: float, length: float, damage: bytes, times: int
) -> None:
    content = sample.read_bytes()
    start = int(at * len(content))
    read_or_refused(content[:start] + damage * times + content[start + int(length * len(content)) :], "a.xml")


def a_workbook() -> dict[str, bytes]:
    """The files that a workbook with numbers, times, shared texts and a formula is made of."""
    written = io.BytesIO()
    with xlsxwriter.Workbook(written, {"in_memory": True}) as book:
        sheet, day = book.add_worksheet("能耗"), book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        sheet.write_row(0, 0, ["time", "a", "b"])
        for i in range(8):
            sheet.write_number(1 + i, 0, 45292 + i / 24, day)
            sheet.write_number(1 + i, 1, i * 1.5)
            sheet.write_formula(1 + i, 2, f"=B{2 + i}*2", value=i * 3)
    with zipfile.ZipFile(written) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


WORKBOOK = a_workbook()


@settings(max_examples=6)
@given(
    st.sampled_from(sorted(WORKBOOK)),
    st.floats(0, 1),
    st.floats(0, 0.2),
    XML_DAMAGE,
    st.booleans(),
)
def test_a_workbook_with_damage_in_it_is_read_or_refused(
    name: str, at: float, length: float, damage: bytes, is_outside: bool
) -> None:
    """Damage to one of its files, or to the archive itself."""

    def hurt(content: bytes) -> bytes:
        start = int(at * len(content))
        return content[:start] + damage + content[start + int(length * len(content)) :]

    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as packed:
        for own, content in WORKBOOK.items():
            packed.writestr(own, hurt(content) if own == name and not is_outside else content)
    read_or_refused(hurt(written.getvalue()) if is_outside else written.getvalue(), "a.xlsx")


WORKBOOKS = Path(__file__).parents[1] / "unit" / "workbooks"
BINARY_DAMAGE = DAMAGE | st.sampled_from(
    [b"\xff" * 8, b"\x00" * 512, b"\xff\xff\xff\x7f", b"\x09\x08\x10\x00", b"PK\x01\x02", b"\xd0\xcf\x11\xe0"]
)


@pytest.mark.parametrize("form", ["xls", "xlsb", "xlsx"])
@settings(max_examples=6)
@given(
    pick=st.integers(0, 9),
    at=st.floats(0, 1),
    length=st.floats(0, 0.1),
    damage=BINARY_DAMAGE,
    inside=st.booleans(),
)
def test_a_saved_workbook_with_damage_in_it_is_read_or_refused(
    form: str, pick: int, at: float, length: float, damage: bytes, inside: bool
) -> None:
    """Damage to the file, or to a part of a packed one, whose checksum is right again."""
    samples = sorted(WORKBOOKS.glob(f"*.{form}"))
    content = samples[pick % len(samples)].read_bytes()

    def hurt(part: bytes) -> bytes:
        start = int(at * len(part))
        return part[:start] + damage + part[start + int(length * len(part)) :]

    if not inside or not content.startswith(b"PK"):
        read_or_refused(hurt(content), f"a.{form}")
        return
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as packed, zipfile.ZipFile(written, "w") as again:
        names = packed.namelist()
        for name in names:
            part = packed.read(name)
            again.writestr(name, hurt(part) if name == names[pick % len(names)] else part)
    read_or_refused(written.getvalue(), f"a.{form}")
