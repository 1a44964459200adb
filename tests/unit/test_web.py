"""Parts of the pages that need no server: texts, numbers, charts, uploads that wait."""

from __future__ import annotations

import ast
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

import app.web
from app.charts import live as charts
from app.charts.live import Axis, Bar, ChartFrame, Span
from app.domain.alarms.alarm import State
from app.domain.data.alarm_rules import ALARM_RULES
from app.domain.energy import EventKind
from app.domain.period import WINDOWS
from app.domain.quality.finding import FindingKind, Severity
from app.domain.quantity import OVERHEAD_ROLES, ReadingKind, Role
from app.domain.site import Stage
from app.errors import NotFound
from app.web import format, svg, words
from app.web.cache import TimedCache
from app.web.pages import signin
from app.web.pages.imports import _choose
from app.web.uploads import LIFE_S, MOST_PER_OWNER, Uploads
from collectors.probe import composed

HERE = Path(app.web.__file__).parent
START = datetime(2026, 3, 1, tzinfo=UTC)


def used_texts() -> set[str]:
    found: set[str] = set()
    for file in (HERE / "templates").glob("*.html"):
        text = file.read_text(encoding="utf-8")
        found |= set(re.findall(r'\b_\(\s*"([^"]*)"\s*[,)]', text))
        found |= set(re.findall(r"\b_\(\s*'([^']*)'\s*[,)]", text))
    for file in (HERE / "pages").glob("*.py"):
        found |= set(re.findall(r'\bwords\(\s*"([^"]*)"', file.read_text(encoding="utf-8")))
    return found


def test_every_text_has_a_chinese_one_with_the_same_values() -> None:
    chinese = words.texts("zh")
    assert not {text for text in used_texts() if text not in chinese}
    for english, text in chinese.items():
        if not re.match(r"[a-z_]+:\S", english):
            assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", text)), english


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_value_of_an_enumeration_has_a_name(language: str) -> None:
    named = words.texts(language)
    wanted = [f"class:{r.value}" for r in Role] + [f"reading:{k.value}" for k in ReadingKind]
    wanted += [f"finding:{k.value}" for k in FindingKind] + [f"event:{k.value}" for k in EventKind]
    wanted += [f"window:{w}" for w in WINDOWS] + [f"stage:{s.value}" for s in Stage]
    wanted += [f"severity:{s.value}" for s in Severity]
    wanted += [f"rule:{rule.id}" for rule in ALARM_RULES] + [f"alarm:{s.value}" for s in State]
    assert not [key for key in wanted if key not in named]


SPEAKING = (
    "app/web/*.py app/web/pages/*.py app/api/context.py app/api/auth.py app/api/oidc.py app/api/rate.py "
    "app/api/single_sign_on.py app/domain/asked.py app/domain/period.py app/domain/alarms/observation.py "
    "app/domain/attribution.py app/store/usage.py app/store/alarms.py app/store/findings.py "
    "app/store/pue.py app/domain/pue.py collectors/modbus/link.py"
)
"""Files whose errors and reasons reach a page."""
ERRORS = {"NotFound", "SeriesError", "Forbidden", "NotAuthenticated", "TooBusy", "CoverageTooLow"}
DEVICE_ERRORS = {"DeviceUnreachable", "DeviceRefused", "ModbusRefused", "DecodeError"}


def sentences() -> Iterator[str]:
    """Every sentence of an error or a reason, with something for each value in it."""
    for pattern in SPEAKING.split():
        for file in sorted(HERE.parent.parent.glob(pattern)):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef) and node.name == "_reason":
                    yield from (
                        sentence_of(n.value) for n in ast.walk(node) if isinstance(n, ast.Return) and n.value
                    )
                if isinstance(node, ast.Call):
                    name = node.func.id if isinstance(node.func, ast.Name) else ""
                    said = [sentence for one in node.args if (sentence := sentence_of(one))]
                    reasons = [sentence_of(k.value) for k in node.keywords if k.arg == "reason"]
                    yield from said if name in ERRORS else ()
                    yield from (f"10.0.0.1:502: {one}" for one in said if name in DEVICE_ERRORS)
                    yield from filter(None, reasons if name == "Observation" else ())


def sentence_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    parts = node.values if isinstance(node, ast.JoinedStr) else ()
    return "".join(str(p.value) if isinstance(p, ast.Constant) else "X1" for p in parts)


def test_errors_and_reasons_are_translated() -> None:
    found = {s for s in sentences() if re.search("[a-z]{2}", s) and s != "X1"}
    assert len(found) > 40
    translated = words.Words("zh").message
    assert not [s for s in found if not re.search("[\u4e00-\u9fff]", translated(s))]
    assert words.Words("en").message("there is no site 'x'") == "there is no site 'x'"


def test_a_message_within_a_message_is_translated() -> None:
    said = "Modbus: 10.0.0.1:502 unit 1: unit 1 at 10.0.0.1:502 gave no answer within 1 s"
    translated = words.Words("zh").message
    assert translated(said) == "Modbus：10.0.0.1:502 unit 1：10.0.0.1:502 的从站 1 在 1 秒内无应答"
    assert translated("bms.csv:1: cooling: not a number") == "bms.csv:1：cooling：不是数值"
    assert translated("Time: 12: 30") == "Time: 12: 30"
    low = "coverage 12.0 % is below the minimum of 90.0 %: a.kwh 0.0 %, b.kwh 50.0 % and 2 more"
    assert translated(low) == "覆盖率 12.0% 低于规定的最低值 90.0%：a.kwh 0.0%、b.kwh 50.0%，另有 2 个"


def test_every_pattern_carries_its_values_over() -> None:
    text = (HERE / "locale" / "messages.zh.yaml").read_text(encoding="utf-8")
    for english, chinese in yaml.safe_load(text).items():
        assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", chinese)), english
        sample = re.sub(r"{(\w+)}", "X1", english)
        assert words.Words("zh").message(sample) != sample, english


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_piece_of_evidence_has_a_name(language: str) -> None:
    keys: set[object] = set()
    for file in (HERE.parent / "domain" / "quality").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):
                keys |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                keys |= {node.slice.value} if isinstance(node.slice, ast.Constant) else set()
    assert {"hours", "suggested_kwh"} <= keys
    assert not [key for key in keys if f"evidence:{key}" not in words.texts(language)]


def test_codes_without_a_name_are_shown_as_they_are() -> None:
    assert words.Words("zh")("rule:my_own") == "my_own"
    assert words.Words("zh")("Something new") == "Something new"


@pytest.mark.parametrize(
    ("asked", "kept", "accepted", "expected"),
    [
        ("zh", "en", "en", "zh"),
        (None, "zh", "en", "zh"),
        (None, None, "zh-CN,zh;q=0.9", "zh"),
        ("xx", None, "de", "en"),
    ],
)
def test_the_language_is_the_asked_then_the_kept_then_the_accepted(
    asked: str | None, kept: str | None, accepted: str, expected: str
) -> None:
    assert words.chosen(asked, kept, accepted) == expected


def test_numbers_carry_their_unit_and_unknown_ones_a_dash() -> None:
    assert format.energy(2_310_000.0) == "2.31 GWh"
    assert format.energy(850.4) == "850 kWh"
    assert format.power(12.34) == "12.3 kW"
    assert format.energy(None) == format.number(float("nan")) == format.UNKNOWN
    assert format.signed(-0.0123) == "−0.012"


@pytest.mark.parametrize(
    ("indicator", "value", "english", "chinese"),
    [
        ("it_load_ratio", 0.91, "91.0 %", "91.0%"),
        ("coverage_ratio", 0.5, "50.0 %", "50.0%"),
        ("humidity_percent", 71.0, "71.0 %", "71.0%"),
        ("temperature_c", -2.0, "−2.0 °C", "−2.0 °C"),
        ("pue", 1.4704, "1.470", "1.470"),
        ("pue", None, "–", "–"),
    ],
)
def test_an_alarm_is_shown_in_the_unit_of_its_rule(
    indicator: str, value: float | None, english: str, chinese: str
) -> None:
    document = {"indicator": indicator}
    assert format.alarm(document, value, "en") == english
    assert format.alarm(document, value, "zh") == chinese


def test_a_share_just_below_the_whole_is_not_shown_as_the_whole() -> None:
    assert format.share(0.99999) == "99.9 %"
    assert format.share(1.0) == "100 %"


def test_times_are_the_sites_own_with_utc_beside() -> None:
    shown = format.moment(START, ZoneInfo("Asia/Shanghai"))
    assert ">2026-03-01 08:00</time>" in shown
    assert 'title="2026-03-01 00:00 UTC"' in shown


def bars(values: list[float | None]) -> list[Bar]:
    hour = timedelta(hours=1)
    return [Bar(START + i * hour, START + (i + 1) * hour, {"pue": v}) for i, v in enumerate(values)]


def test_a_line_breaks_where_nothing_is_known_and_names_are_escaped() -> None:
    span = Span(START, START + timedelta(hours=4))
    frame = ChartFrame("PUE <b>", names={"pue": "it's <b> & co"}, digits=3)
    drawn = charts.line(span, bars([1.4, None, 1.5, 1.5]), ["pue"], frame, limit=1.5)
    figure = ET.fromstring(drawn)
    said = json.loads(figure.attrib["data-plot"])
    assert said["s"] == [["it's <b> & co", [1.4, None, 1.5, 1.5]]]
    assert said["t"] == [0, 60, 120, 180]
    assert said["a"] == START.timestamp()
    path = re.search(r'class="line s-pue" d="([^"]*)"', drawn)
    assert path is not None
    assert path[1].count("M") == 2
    assert "<b>" not in drawn


def test_gaps_are_shown_up_to_now_and_estimates_below() -> None:
    hour = timedelta(hours=1)
    known = [Bar(START + hour, START + 2 * hour, {"pue": 1.4}, estimated_ratio=0.5)]
    texts = {"gap": "no data", "estimated": "estimated"}
    frame = ChartFrame("PUE", texts=texts, until=START + 3 * hour)
    drawn = charts.line(Span(START, START + 4 * hour), known, ["pue"], frame)
    gaps = re.findall(r'class="gap" x="([\d.]+)" width="([\d.]+)"', drawn)
    assert gaps == [("0", "250"), ("500", "250")]
    assert re.findall(r'class="estimated" x="([\d.]+)"', drawn) == ["250"]


def luminance(colour: str) -> float:
    text = colour.lstrip("#")
    text = "".join(c * 2 for c in text) if len(text) == 3 else text
    parts = [int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_of_a_chart_stands_out_from_its_ground() -> None:
    """Neighbours are apart by a line in the colour of the ground, so this tells them apart, too."""
    text = (HERE / "static" / "style.css").read_text(encoding="utf-8")
    themes = re.findall(r"color-scheme: (?:light|dark);(.*?)\n *}", text, re.DOTALL)
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--([\w-]+): (#\w+)", theme))
        for name in (*(r.value for r in OVERHEAD_ROLES), "it", "unmetered", "limit"):
            light, dark = sorted((luminance(colours[name]), luminance(colours["sheet"])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, name
    assert re.search(r"path\.s-it,.*path\.s-unmetered \{ stroke: var\(--sheet\)", text)


def test_a_chart_stands_alone_with_its_colours() -> None:
    hour = timedelta(hours=1)
    known = [Bar(START, START + hour, {"it": 5.0, "cooling": 2.0})]
    drawn = charts.stack(Span(START, START + hour), known, ["it", "cooling"], ChartFrame("kW"))
    alone = svg.alone(drawn, "Hall <1>", [("it", "IT"), ("cooling", "Cooling")])
    ET.fromstring(alone)
    assert "var(" not in alone
    assert re.search(r"\.s-cooling \{ ?fill: #\w{6}", alone)


def test_a_curve_is_not_drawn_across_a_gap() -> None:
    span, hour = Span(START, START + timedelta(hours=9)), timedelta(hours=1)
    points = [(START + i * hour, float(i)) for i in (0, 1, 2, 7, 8)]
    drawn = charts.curve(span, points, ChartFrame("kWh"), gap=2 * hour)
    path = re.search(r'class="line s-register" d="([^"]*)"', drawn)
    assert path is not None
    assert path[1].count("M") == 2


def test_a_stack_draws_nothing_where_nothing_is_known() -> None:
    span = Span(START, START + timedelta(hours=2))
    hour = timedelta(hours=1)
    known = [Bar(START, START + hour, {"it": 5.0, "cooling": 2.0}), Bar(START + hour, START + 2 * hour, {})]
    drawn = charts.stack(span, known, ["it", "cooling"], ChartFrame("kW"))
    ET.fromstring(drawn)
    assert 'class="s-cooling" d="M0 100V' in drawn


@pytest.mark.parametrize("values", [[], [1.0], [1.43, 1.44], [0.0, 5e6], [-3.0, 4.0]])
def test_an_axis_spans_its_values_on_round_numbers(values: list[float]) -> None:
    axis = Axis.around(values)
    assert axis.low < axis.high
    assert all(axis.low <= v <= axis.high for v in values)
    assert 2 <= len(axis.ticks) <= 7


def test_an_upload_is_given_back_to_its_owner_only_and_forgotten_after_an_hour(tmp_path: Path) -> None:
    now_s = [0.0]
    uploads = Uploads(monotonic_s=lambda: now_s[0])
    sources = [(io.BytesIO(b"a,b\n"), "../x.csv"), (io.BytesIO(b"c"), "y.csv")]
    upload = uploads.keep(sources, "ann", "sh1", tmp_path)
    kept = uploads.get(upload.ticket, "ann", "sh1").files
    assert [(f.name, f.path.read_bytes()) for f in kept] == [("x.csv", b"a,b\n"), ("y.csv", b"c")]
    assert upload.known_as(f"{kept[0].path}:3: no number") == "x.csv:3: no number"
    for owner, site in (("bob", "sh1"), ("ann", "bj1")):
        with pytest.raises(NotFound):
            uploads.get(upload.ticket, owner, site)
    now_s[0] = LIFE_S + 1
    uploads.keep([(io.BytesIO(b""), "y.csv")], "ann", "sh1", tmp_path)
    assert not upload.home.exists()


def test_one_owner_holds_only_so_many_uploads(tmp_path: Path) -> None:
    uploads = Uploads()
    names = [f"{i}.csv" for i in range(MOST_PER_OWNER + 1)]
    own = [uploads.keep([(io.BytesIO(b""), name)], "ann", "sh1", tmp_path) for name in names]
    other = uploads.keep([(io.BytesIO(b""), "x.csv")], "bob", "sh1", tmp_path)
    assert [u.home.exists() for u in (*own, other)] == [False, *[True] * (MOST_PER_OWNER + 1)]


def test_a_cache_computes_again_when_its_life_is_over() -> None:
    now_s = [0.0]
    cache = TimedCache(10, lambda: now_s[0])
    assert [cache.get("k", lambda: 1), cache.get("k", lambda: 2)] == [1, 1]
    now_s[0] = 11
    assert cache.get("k", lambda: 2) == 2


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "https://evil.example", "/a\nb"])
def test_the_way_back_after_the_sign_in_stays_here(path: str) -> None:
    assert signin._own_path(path) == "/"
    assert signin._own_path("/sites/sh1") == "/sites/sh1"


def test_a_choice_goes_under_its_key_of_the_mapping() -> None:
    data: dict[str, object] = {}
    assert _choose(data, "time: format", "'%d/%m/%Y'")
    assert data == {"time": {"format": "%d/%m/%Y"}}


def test_picked_channels_become_points_with_their_role() -> None:
    proposed = "- id: m1\n  points:\n  - {id: m1-energy, role: other, kind: register, channel: energy_kwh}\n"
    text = composed(proposed, {"energy_kwh": "cooling", "frequency_hz": "none"})
    assert "m1-energy, role: cooling, kind: register" in text
    assert "m1-frequency_hz, role: none, kind: gauge" in text
    assert composed(proposed, {}) == proposed
