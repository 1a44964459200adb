"""How much room is left: the site, its halls, UPS, PDU and racks, and when they will be full."""

from __future__ import annotations

from grafana.kit import Board, Cell, Column, Panel, Row
from grafana.marks import OF_SITE
from grafana.queries import database, noon, prometheus
from grafana.words import Text

IT_LOAD = Panel(
    "stat",
    Text("IT load now", "当前 IT 负载率"),
    Text(
        "IT power of the latest 15 minutes relative to design IT capacity; red above 100 %.",
        "最近 15 分钟 IT 设备功率除以设计容量；超过设计容量时显示红色。",
    ),
    [
        prometheus('wattline_site_it_load_ratio{site="$site"}', "load"),
        prometheus("vector(1)", "full", instant=True),
    ],
    unit="percentunit",
    decimals=1,
    limit="full",
    fill=10,
)
_IT = "FROM v_capacity WHERE site = ${site:sqlstring} AND kind = 'it'"
PEAK = Panel(
    "stat",
    Text("IT peak, 30 days", "IT 峰值，30 天"),
    Text("Highest 15-minute mean in the last 30 days.", "近 30 天内 15 分钟平均功率的最大值。"),
    [database(f"SELECT peak_kw {_IT}")],
    unit="kwatt",
    decimals=2,
)
DESIGN = Panel(
    "stat",
    Text("Design IT capacity", "IT 设计容量"),
    Text("As configured for the site.", "配置中声明的设计容量。"),
    [database("SELECT it_capacity_kw FROM v_site WHERE site = ${site:sqlstring}")],
    unit="kwatt",
    decimals=2,
)
HEADROOM = Panel(
    "stat",
    Text("Headroom", "余量"),
    Text("Design IT capacity less the 30-day peak.", "设计容量减去 30 天峰值。"),
    [database(f"SELECT greatest(capacity_kw - peak_kw, 0) AS headroom {_IT}")],
    unit="kwatt",
    decimals=2,
)
STRANDED = Panel(
    "stat",
    Text("Unusable capacity", "不可用容量"),
    Text(
        "Headroom of downstream feeds that the upstream feeds cannot supply.",
        "下级节点的余量中上级无法供给的部分。",
    ),
    [database("SELECT sum(stranded_kw) AS stranded FROM v_capacity WHERE site = ${site:sqlstring}")],
    unit="kwatt",
    decimals=2,
)
TIGHT = Panel(
    "stat",
    Text("Feeds tight or over", "紧张或超限节点"),
    Text(
        "Feeds whose peak is close to, or above, the capacity that redundancy leaves usable.",
        "峰值接近或超过冗余允许值的供电节点数。",
    ),
    [
        database(
            """
            SELECT count(*) FILTER (WHERE state IN ('tight', 'over')) AS feeds
            FROM v_capacity WHERE site = ${site:sqlstring}
            """
        ),
        database("SELECT 1 AS too_many", legend="too_many"),
    ],
    unit="none",
    limit="too_many",
)

PEAKS = Panel(
    "timeseries",
    Text("IT power: daily mean and peak against capacity", "IT 设备功率：日平均与峰值对比容量"),
    Text(
        "By the site's own days, with imported history; the dashed line is the design capacity.",
        "按数据中心时区的自然日，含导入的历史；虚线为设计容量。",
    ),
    [
        database(
            f"""
            SELECT {noon("{day}")} AS time,
            avg(it_kwh / coverage_ratio) * 4 AS mean_kw, max(it_kwh / coverage_ratio) * 4 AS peak_kw,
            max(c.capacity_kw) AS capacity_kw
            FROM v_pue, (SELECT min(it_capacity_kw) AS capacity_kw FROM v_site
            WHERE site = ${{site:sqlstring}}) c
            WHERE site = ${{site:sqlstring}} AND room = '' AND coverage_ratio >= 0.5 AND {{in_days}}
            GROUP BY 1 ORDER BY 1
            """,  # noqa: S608 - constants
            time_series=True,
        )
    ],
    unit="kwatt",
    decimals=2,
    by_day=True,
    columns=[
        Column("mean_kw", Text("Mean", "平均值"), color="#37872d"),
        Column("peak_kw", Text("Peak", "峰值"), color="#e0b400"),
        Column("capacity_kw", Text("Design capacity", "设计容量"), color="red", dashed=True),
    ],
    soft_min=0,
)
USE = Panel(
    "bargauge",
    Text("Peak relative to usable capacity", "峰值占可用容量"),
    Text(
        "Racks, PDU, UPS and incomers with a rating, highest load first; redundancy leaves "
        "part of a rating unused.",
        "有额定值的机柜、PDU、UPS、进线，最满者在前；考虑冗余后仅部分额定值可用。",
    ),
    [
        database(
            """
            SELECT name, peak_ratio FROM v_capacity
            WHERE site = ${site:sqlstring} AND kind IN ('it', 'room', 'utility', 'ups', 'pdu', 'rack')
            AND peak_ratio IS NOT NULL ORDER BY peak_ratio DESC LIMIT 14
            """
        )
    ],
    unit="percentunit",
    decimals=0,
    columns=[
        Column("name", Text("Feed", "供电节点")),
        Column("peak_ratio", Text("Peak relative to usable capacity", "峰值占可用容量")),
    ],
)
FEEDS = Panel(
    "table",
    Text("Capacities and expected date of reaching them", "各级容量与预计到达日期"),
    Text(
        "Loads of the last 30 days. The date is where the trend of daily peaks meets the capacity, "
        "with its 90 % prediction interval. No date: not expected within the forecast period.",
        "近 30 天负荷。日期为日峰值趋势到达容量之日，两侧为 90% 区间。无日期表示在可预测范围内不会到达。",
    ),
    [
        database(
            """
            SELECT name, kind, redundancy, rated_kw, capacity_kw, mean_kw, peak_kw, mean_ratio, peak_ratio,
            stranded_kw, state, reached_on, earliest, latest FROM v_capacity
            WHERE site = ${site:sqlstring} ORDER BY peak_ratio DESC NULLS LAST
            """
        )
    ],
    unit="none",
    columns=[
        Column("name", Text("Feed", "供电节点")),
        Column("kind", Text("Kind", "类型"), words=True, width=80),
        Column("redundancy", Text("Redundancy", "冗余"), width=100),
        Column("rated_kw", Text("Rated", "额定"), unit="kwatt", decimals=2, width=85),
        Column("capacity_kw", Text("Usable", "可用"), unit="kwatt", decimals=2, width=85),
        Column("mean_kw", Text("Mean", "平均值"), unit="kwatt", decimals=2, width=85),
        Column("peak_kw", Text("Peak", "峰值"), unit="kwatt", decimals=2, width=85),
        Column("mean_ratio", Text("Mean load", "平均负载率"), unit="percentunit", decimals=0, width=95),
        Column("peak_ratio", Text("Peak load", "峰值负载率"), unit="percentunit", decimals=0, bar=True),
        Column("stranded_kw", Text("Unusable", "不可用"), unit="kwatt", decimals=2, width=85),
        Column("state", Text("Status", "状态"), states=True, width=90),
        Column("reached_on", Text("Reached by", "预计到达日期"), unit="dateTimeAsIso"),
        Column("earliest", Text("Earliest", "最早"), unit="dateTimeAsIso"),
        Column("latest", Text("Latest", "最晚"), unit="dateTimeAsIso"),
    ],
)
BY_ROOM = Panel(
    "timeseries",
    Text("IT power by room, last 60 days", "各机房 IT 设备功率，近 60 天"),
    Text("Mean power of the IT meters of each room.", "各机房 IT 设备仪表平均功率。"),
    [
        database(
            """
            SELECT to_timestamp(floor(extract(epoch FROM at) / 21600) * 21600) AS time, room AS metric,
            avg(it_kwh / coverage_ratio) * 4 AS value
            FROM v_pue WHERE site = ${site:sqlstring} AND room <> '' AND it_kwh > 0
            AND coverage_ratio >= 0.5 AND at < $__timeTo()::timestamptz
            AND at >= $__timeTo()::timestamptz - interval '60 days' GROUP BY 1, 2 ORDER BY 1
            """,
            time_series=True,
        )
    ],
    unit="kwatt",
    decimals=2,
    stacked=True,
    fill=30,
)
RACKS = Panel(
    "timeseries",
    Text("Power by PDU and rack, last 3 days", "各 PDU 与机柜功率，近 3 天"),
    Text("Mean power of the meters at PDUs and racks.", "PDU 与机柜仪表平均功率。"),
    [
        database(
            """
            SELECT date_trunc('hour', p.at) AS time, p.meter AS metric, avg(p.power_kw) AS value
            FROM v_power p JOIN v_meter m ON m.site = p.site AND m.meter = p.meter
            WHERE p.site = ${site:sqlstring} AND m.stage IN ('rack', 'pdu') AND p.load_class = 'it'
            AND p.at >= $__timeTo()::timestamptz - interval '3 days' AND p.at < $__timeTo()::timestamptz
            GROUP BY 1, 2 ORDER BY 1
            """,
            time_series=True,
        )
    ],
    unit="kwatt",
    decimals=2,
)

TOP_RACKS = Panel(
    "bargauge",
    Text("Racks and PDUs by power, ten highest", "机柜与 PDU 功率前十"),
    Text("Mean IT power of the last hour of the time range.", "所选时段最后一小时的 IT 设备平均功率。"),
    [
        database(
            """
            SELECT p.meter AS name, avg(p.power_kw) AS power_kw
            FROM v_power p JOIN v_meter m ON m.site = p.site AND m.meter = p.meter
            WHERE p.site = ${site:sqlstring} AND m.stage IN ('rack', 'pdu') AND p.load_class = 'it'
            AND p.at >= $__timeTo()::timestamptz - interval '1 hour' AND p.at < $__timeTo()::timestamptz
            GROUP BY 1 ORDER BY 2 DESC LIMIT 10
            """
        )
    ],
    unit="kwatt",
    decimals=2,
    columns=[
        Column("name", Text("Feed", "供电节点")),
        Column("power_kw", Text("Power", "功率")),
    ],
)
_NEWEST = """
    (SELECT DISTINCT ON (point) meter, channel, mean FROM v_gauge WHERE site = ${site:sqlstring}
    AND at >= $__timeTo()::timestamptz - interval '1 hour' AND at < $__timeTo()::timestamptz
    ORDER BY point, at DESC) g
"""
_MEAN_A = "((l1_a + l2_a + l3_a) / 3)"
PHASES = Panel(
    "table",
    Text("Phase currents, newest of the last hour", "各相电流，最近一小时最新值"),
    Text(
        "Of meters whose profile gives the currents of the phases and whose points are gauges of them. "
        "Imbalance: the largest difference of a phase from the mean, by the mean. Peak load: of the feed's "
        "rating, over 30 days; for a breaker declare its rating as the rated power of the meter.",
        "取自档案提供各相电流且已配置为测点的仪表。不平衡度：单相与三相均值的最大差除以均值。"
        "峰值负载率：30 天内占该回路额定值；断路器请以仪表额定功率声明。",
    ),
    [
        database(
            f"""
            SELECT e.meter, e.l1_a, e.l2_a, e.l3_a, greatest(abs(l1_a - {_MEAN_A}), abs(l2_a - {_MEAN_A}),
            abs(l3_a - {_MEAN_A})) / nullif(CASE WHEN l1_a + l2_a + l3_a > 0 THEN {_MEAN_A} END, 0)
            AS imbalance, c.peak_ratio FROM (
            SELECT meter, regexp_replace(channel, 'current_l[123]_a$', '') AS part,
            max(mean) FILTER (WHERE channel ~ 'current_l1_a$') AS l1_a,
            max(mean) FILTER (WHERE channel ~ 'current_l2_a$') AS l2_a,
            max(mean) FILTER (WHERE channel ~ 'current_l3_a$') AS l3_a
            FROM {_NEWEST} WHERE channel ~ 'current_l[123]_a$' GROUP BY 1, 2) e
            LEFT JOIN v_capacity c ON c.site = ${{site:sqlstring}} AND c.name = e.meter
            ORDER BY imbalance DESC NULLS LAST LIMIT 50
            """  # noqa: S608 - constants of this file
        )
    ],
    unit="none",
    columns=[
        Column("meter", Text("Meter", "仪表")),
        Column("l1_a", Text("L1", "L1"), unit="amp", decimals=1, width=85),
        Column("l2_a", Text("L2", "L2"), unit="amp", decimals=1, width=85),
        Column("l3_a", Text("L3", "L3"), unit="amp", decimals=1, width=85),
        Column("imbalance", Text("Imbalance", "不平衡度"), unit="percentunit", decimals=1, bar=True),
        Column("peak_ratio", Text("Peak load", "峰值负载率"), unit="percentunit", decimals=0, bar=True),
    ],
)
UPS = Panel(
    "table",
    Text("UPS", "UPS"),
    Text(
        "Newest values of the last hour where a profile gives them: load, charge of the battery, time on "
        "battery. Efficiency over 30 days: outgoing by incoming energy, where both sides of a UPS are "
        "metered.",
        "最近一小时最新值（档案提供时）：负载率、电池电量、后备时间。"
        "30 天效率：UPS 两侧均有计量时，输出电量除以输入电量。",
    ),
    [
        database(
            f"""
            SELECT m.meter, g.load, g.battery, g.runtime_s, b.efficiency FROM v_meter m
            LEFT JOIN (SELECT meter,
            max(mean) FILTER (WHERE channel ~ '(^|_)load(_l[123])?_percent$') / 100 AS load,
            min(mean) FILTER (WHERE channel ~ '(battery|charge).*_percent$') / 100 AS battery,
            min(CASE WHEN channel ~ '_min$' THEN 60 ELSE 1 END * mean)
            FILTER (WHERE channel ~ '(runtime|autonomy).*_(s|min)$') AS runtime_s
            FROM {_NEWEST} GROUP BY meter) g USING (meter)
            LEFT JOIN (SELECT name, out_kwh / nullif(in_kwh, 0) AS efficiency FROM v_balance v
            WHERE site = ${{site:sqlstring}} AND stage = 'ups' AND out_kwh <= in_kwh
            AND EXISTS (SELECT FROM v_meter d WHERE d.site = v.site AND d.stage = 'ups'
            AND v.name = ANY(d.fed_by))) b ON b.name = m.meter
            WHERE m.site = ${{site:sqlstring}} AND m.stage = 'ups' ORDER BY m.meter
            """  # noqa: S608 - constants of this file
        )
    ],
    unit="none",
    columns=[
        Column("meter", Text("Meter", "仪表")),
        Column("load", Text("Load", "负载率"), unit="percentunit", decimals=0, bar=True),
        Column("battery", Text("Battery", "电池电量"), unit="percentunit", decimals=0, width=95),
        Column("runtime_s", Text("Time on battery", "后备时间"), unit="s", decimals=0, width=120),
        Column("efficiency", Text("Efficiency, 30 days", "效率，30 天"), unit="percentunit", decimals=1),
    ],
)

BOARD = Board(
    "capacity",
    Text("Wattline: capacity", "Wattline：容量"),
    Text("Remaining capacity and when it is expected to be used up.", "剩余容量与预计到达日期。"),
    [
        Row(4, [Cell(p, 4) for p in (IT_LOAD, PEAK, DESIGN, HEADROOM, STRANDED, TIGHT)]),
        Row(10, [Cell(PEAKS, 15), Cell(USE, 9)]),
        Row(11, [Cell(FEEDS, 24)]),
        Row(9, [Cell(BY_ROOM, 9), Cell(RACKS, 9), Cell(TOP_RACKS, 6)]),
        Row(9, [Cell(PHASES, 13), Cell(UPS, 11)]),
    ],
    ["site"],
    "now-12M",
    "5m",
    OF_SITE,
)
