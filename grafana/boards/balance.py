"""Where the energy goes: the metering tree, its losses, and what no meter sees."""

from __future__ import annotations

from grafana.kit import Board, Cell, Column, Panel, Row, class_columns
from grafana.marks import OF_SITE
from grafana.queries import Query, database
from grafana.words import OVERHEAD, Text

_SUMS = """
    SELECT {what} FROM v_pue
    WHERE site = ${{site:sqlstring}} AND room = '' AND {{span}}
"""
_UNMETERED = "sum(facility_kwh - it_kwh << |- #_kwh>>) FILTER (WHERE coverage_ratio > 0)"


def _sum(what: str, name: str) -> Query:
    return database(_SUMS.format(what=f"{what} AS {name}"))


def _energy(title: Text, about: Text, what: str, unit: str = "kwatth") -> Panel:
    decimals = 2 if unit == "kwatth" else 1
    return Panel("stat", title, about, [_sum(what, "value")], unit=unit, decimals=decimals)


FACILITY = _energy(
    Text("Facility energy", "数据中心总耗电量"),
    Text("Energy of the data centre in the time range.", "所选时段的数据中心总耗电量。"),
    "sum(facility_kwh)",
)
IT = _energy(
    Text("IT energy", "IT 设备耗电量"),
    Text("Energy of the IT equipment in the time range.", "所选时段的 IT 设备耗电量。"),
    "sum(it_kwh)",
)
LOSSES = _energy(
    Text("Power distribution losses", "供配电损耗"),
    Text(
        "Transformers, UPS, cables: metered, or stated by the power monitoring system.",
        "变压器、UPS、线缆：计量值或由电力监控系统给出。",
    ),
    "sum(power_distribution_kwh)",
)
UNMETERED = _energy(
    Text("Unmetered", "未分项计量"),
    Text(
        "Facility energy less IT and all metered classes. If it is below zero beyond the accuracy of the "
        "meters, the metering tree is wrong.",
        "数据中心总耗电量减去 IT 与各已计量类别。若低于零且超出仪表准确度，说明计量关系有误。",
    ),
    _UNMETERED,
)
UNMETERED_SHARE = _energy(
    Text("Unmetered share", "未分项计量占比"),
    Text("Unmetered energy as a share of facility energy.", "未分项计量能耗占数据中心总耗电量的比例。"),
    f"{_UNMETERED} / nullif(sum(facility_kwh), 0)",
    "percentunit",
)
GENERATOR = _energy(
    Text("Generators", "发电机"),
    Text(
        "Energy of the generators, included in the facility energy.",
        "发电机发电量，已计入数据中心总耗电量。",
    ),
    "sum(generator_kwh)",
)

TREE = Panel(
    "nodeGraph",
    Text("Metering tree, 30 days", "计量关系图，30 天"),
    Text(
        "Energy that flowed into each meter in the last 30 days. The ring is the share of the site's largest "
        "flow. Meters that feed the same sub-meters are drawn beside each other.",
        "近 30 天流入各仪表的能量。圆环为占本数据中心最大流量的比例。",
    ),
    [
        database(
            """
            SELECT meter AS id, meter AS title, stage AS subtitle, energy_kwh AS mainstat,
            energy_kwh / max(energy_kwh) OVER () AS arc__flow,
            1 - energy_kwh / max(energy_kwh) OVER () AS arc__rest
            FROM v_flow WHERE site = ${site:sqlstring} AND energy_kwh > 0
            """
        ),
        database(
            """
            SELECT parent || '>' || f.meter AS id, parent AS source, f.meter AS target,
            f.energy_kwh AS mainstat FROM v_flow f CROSS JOIN LATERAL unnest(f.fed_by) AS parent
            JOIN v_flow p ON p.site = f.site AND p.meter = parent AND p.energy_kwh > 0
            WHERE f.site = ${site:sqlstring} AND f.energy_kwh > 0
            """
        ),
    ],
    unit="kwatth",
    decimals=2,
    columns=[
        Column("arc__flow", Text("Flow", "流量"), color="#37872d"),
        Column("arc__rest", Text("Remainder", "其余"), color="#d8d9da"),
    ],
)
BALANCES = Panel(
    "table",
    Text("Incoming and outgoing energy, 30 days", "流入与流出，30 天"),
    Text(
        "Each feed compared with its sub-meters, over the time for which all have data. The tolerance "
        "follows from the accuracy of the meters.",
        "每一供电节点与其下级仪表之和对比（仅取全部有数据的时段）。容差为仪表准确度可解释的差值。",
    ),
    [
        database(
            """
            SELECT name, stage, in_kwh, out_kwh, remainder_kwh, remainder_kwh / nullif(in_kwh, 0) AS share,
            tolerance_kwh, coverage_ratio, state FROM v_balance WHERE site = ${site:sqlstring}
            ORDER BY in_kwh DESC NULLS LAST
            """
        )
    ],
    unit="none",
    columns=[
        Column("name", Text("Feed", "供电节点")),
        Column("stage", Text("Stage", "环节"), words=True, width=80),
        Column("in_kwh", Text("Incoming", "流入"), unit="kwatth", decimals=2, width=100),
        Column("out_kwh", Text("Outgoing", "流出"), unit="kwatth", decimals=2, width=100),
        Column("remainder_kwh", Text("Remainder", "差值"), unit="kwatth", decimals=2, width=100),
        Column("share", Text("Share", "占比"), unit="percentunit", decimals=1, width=75),
        Column("tolerance_kwh", Text("Tolerance", "容差"), unit="kwatth", decimals=2, width=100),
        Column("coverage_ratio", Text("Coverage", "覆盖率"), unit="percentunit", decimals=1, width=90),
        Column("state", Text("Status", "状态"), states=True, width=180),
    ],
)
BY_CLASS = Panel(
    "barchart",
    Text("Daily energy including unmetered", "逐日能耗（含未分项计量）"),
    Text(
        "Stacked to facility energy, by the site's own days: those that the time range touches, whole.",
        "各类叠加为数据中心总耗电量；按数据中心时区的自然日，时段触及的每一日均为整日。",
    ),
    [
        database(
            f"""
            SELECT {{day}}::text AS day, sum(it_kwh) AS it, <<, |sum(#_kwh) AS #>>,
            {_UNMETERED} AS unmetered
            FROM v_pue WHERE site = ${{site:sqlstring}} AND room = '' AND {{in_days}}
            GROUP BY 1 ORDER BY 1
            """  # noqa: S608 - a constant of this file
        )
    ],
    unit="kwatth",
    decimals=2,
    stacked=True,
    by_day=True,
    columns=class_columns("it", *OVERHEAD, "unmetered"),
)
SOURCES = Panel(
    "barchart",
    Text("Energy sources and energy reported separately", "能源来源与单独列示的能耗"),
    Text(
        "Generators, on-site renewables, subtracted non-data-centre load, reused heat.",
        "发电机、现场可再生能源、扣除的非数据中心负荷、余热回收。",
    ),
    [
        database(
            """
            SELECT {day}::text AS day, sum(generator_kwh) AS generator,
            sum(renewable_kwh) AS renewable, sum(non_dc_kwh) AS non_dc, sum(heat_reuse_kwh) AS heat_reuse
            FROM v_pue WHERE site = ${site:sqlstring} AND room = '' AND {in_days}
            GROUP BY 1 ORDER BY 1
            """
        )
    ],
    unit="kwatth",
    decimals=2,
    by_day=True,
    stacked=True,
    columns=class_columns("generator", "renewable", "non_dc", "heat_reuse"),
)
METERS = Panel(
    "table",
    Text("Energy by point", "逐测点能耗"),
    Text(
        "Energy of each point in the selected rooms over the site's own days that the time range touches, "
        "with the estimated share.",
        "所选机房各测点能耗与估算占比；按数据中心时区的自然日，时段触及的每一日均为整日。",
    ),
    [
        database(
            """
            SELECT meter, point, room, load_class, weight, sum(energy_kwh) AS energy_kwh,
            sum(estimated_s) / nullif(sum(covered_s), 0) AS estimated
            FROM v_energy_day WHERE site = ${site:sqlstring}
            AND coalesce(nullif(room, ''), '-') IN (${room:sqlstring})
            AND {of_days}
            GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC
            """
        )
    ],
    unit="none",
    columns=[
        Column("meter", Text("Meter", "仪表")),
        Column("point", Text("Point", "测点")),
        Column("room", Text("Room", "机房")),
        Column("load_class", Text("Load class", "负荷类别"), words=True),
        Column("weight", Text("Share counted", "计入比例"), unit="percentunit", decimals=0),
        Column("energy_kwh", Text("Energy", "能耗"), unit="kwatth", decimals=2),
        Column("estimated", Text("Estimated", "估算"), unit="percentunit", decimals=2),
    ],
)

BOARD = Board(
    "balance",
    Text("Wattline: energy balance", "Wattline：能量平衡"),
    Text("The metering tree, its losses, and unmetered energy.", "计量关系、损耗与未分项计量能耗。"),
    [
        Row(4, [Cell(p, 4) for p in (FACILITY, IT, LOSSES, UNMETERED, UNMETERED_SHARE, GENERATOR)]),
        Row(15, [Cell(TREE, 9), Cell(BALANCES, 15)]),
        Row(9, [Cell(BY_CLASS, 14), Cell(SOURCES, 10)]),
        Row(11, [Cell(METERS, 24)]),
    ],
    ["site", "room"],
    "now-30d",
    "5m",
    OF_SITE,
)
