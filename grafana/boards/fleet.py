"""All sites against their limits."""

from __future__ import annotations

from grafana.kit import Board, Cell, Column, Panel, Row, class_columns
from grafana.marks import OF_ALL
from grafana.queries import PUE, database, noon, prometheus
from grafana.words import OVERHEAD, Text

SITE_URL = "board:site?var-site=${__data.fields.site}"
ALARM_URL = "${wattline}/alarms/${__data.fields.id}?lang={lang}"
COMPLIANCE_URL = "board:compliance?var-site=${__data.fields.site}"

FLEET_PUE = Panel(
    "stat",
    Text("Fleet PUE, $window", "整体 PUE，$window"),
    Text(
        "Facility energy of all sites divided by their IT energy in the window: a ratio of sums, not a "
        "mean of "
        "ratios. Sites whose coverage is too low are excluded.",
        "统计时段内全部数据中心的总耗电量除以 IT 设备耗电量：先求和再相除，不是比值的平均。"
        "覆盖率不足的数据中心不计入。",
    ),
    [
        database(
            """
            SELECT sum(facility_kwh) / sum(it_kwh) AS pue FROM v_pue_window
            WHERE "window" = ${window:sqlstring} AND pue IS NOT NULL
            """
        )
    ],
    unit="none",
    decimals=3,
)
ABOVE = Panel(
    "stat",
    Text("Sites above a limit", "超限数据中心"),
    Text(
        "Sites whose PUE in the window is above at least one of their limits.",
        "统计时段内 PUE 高于任一限值的数据中心数。",
    ),
    [
        prometheus(
            """
            count(wattline_site_pue_ratio{window="$window"}
              > on (site) min by (site) (wattline_site_pue_limit_ratio)) or vector(0)
            """,
            "sites",
            instant=True,
        ),
        prometheus("vector(1)", "too many", instant=True),
    ],
    unit="none",
    limit="too many",
)
POWER = Panel(
    "stat",
    Text("Facility power", "数据中心总功率"),
    Text("Mean power of the latest 15 minutes, all sites.", "最近 15 分钟平均功率，全部数据中心。"),
    [prometheus('sum(wattline_site_power_watts{load_class="facility"})', "facility")],
    unit="watt",
    decimals=1,
    fill=10,
)
IT_POWER = Panel(
    "stat",
    Text("IT power", "IT 设备功率"),
    Text(
        "Mean IT power of the latest 15 minutes, all sites.", "最近 15 分钟 IT 设备平均功率，全部数据中心。"
    ),
    [prometheus('sum(wattline_site_power_watts{load_class="it"})', "it")],
    unit="watt",
    decimals=1,
    fill=10,
)
SILENT = Panel(
    "stat",
    Text("Meters offline", "通信中断仪表"),
    Text(
        "Meters that do not respond, or whose latest reading is older than three intervals.",
        "无应答或读数超过三个周期未更新的仪表。",
    ),
    [
        prometheus("sum(1 - wattline_meter_up)", "silent"),
        prometheus("vector(1)", "too many", instant=True),
    ],
    unit="none",
    limit="too many",
    url="board:quality?",
)
ALARMS = Panel(
    "stat",
    Text("Active alarms", "当前告警"),
    Text("Alarms of all rules and severities.", "全部规则与级别的告警数。"),
    [
        prometheus("sum(wattline_alarms_active) or vector(0)", "alarms"),
        prometheus("vector(1)", "too many", instant=True),
    ],
    unit="none",
    limit="too many",
)

AGAINST_LIMITS = Panel(
    "table",
    Text("Sites and limits, $window", "各数据中心与限值对比，$window"),
    Text(
        "One row for each site and limit profile. The verdict takes the uncertainty of the meters and the "
        'coverage into account; the column "Ignoring uncertainty" does not. The last columns show the '
        "projection for the "
        "calendar year with its 90 % prediction interval.",
        "每个数据中心与限值各一行。判定考虑了仪表不确定度与覆盖率；“不计不确定度”一列为直接对比。"
        "末列为全年预测及 90% 区间。",
    ),
    [
        database(
            """
            SELECT v.site, s.name, s.institution_name, v.profile, v.pue, v.limit_pue,
            v.limit_pue - v.pue AS margin, v.verdict, v.plain, w.coverage_ratio, o.pue AS year_end,
            o.low, o.high, b.crossed_in, w.it_kwh
            FROM v_verdict v JOIN v_site s USING (site)
            JOIN v_pue_window w ON w.site = v.site AND w."window" = v."window"
            LEFT JOIN v_outlook o ON o.site = v.site
            LEFT JOIN v_budget b ON b.site = v.site AND b.profile = v.profile
            WHERE v."window" = ${window:sqlstring} ORDER BY margin NULLS FIRST, v.site
            """
        )
    ],
    unit="none",
    columns=[
        Column("site", Text("Site", "编号"), width=70, url=SITE_URL),
        Column("name", Text("Name", "名称"), url=SITE_URL),
        Column("institution_name", Text("Institution", "机构")),
        Column("profile", Text("Limit profile", "限值依据"), words=True, url=COMPLIANCE_URL),
        Column("pue", Text("PUE", "PUE"), decimals=3, width=75),
        Column("limit_pue", Text("Limit", "限值"), decimals=2, width=65),
        Column("margin", Text("Margin", "余量"), decimals=3, width=80),
        Column("verdict", Text("Verdict", "判定"), states=True, width=105),
        Column("plain", Text("Ignoring uncertainty", "不计不确定度"), states=True, width=150),
        Column("coverage_ratio", Text("Coverage", "覆盖率"), unit="percentunit", decimals=1, width=90),
        Column("year_end", Text("Year-end", "年末预测"), decimals=3, width=95),
        Column("low", Text("Low", "下限"), decimals=3, width=70),
        Column("high", Text("High", "上限"), decimals=3, width=70),
        Column("crossed_in", Text("Expected to exceed in", "预计超限月份"), unit="dateTimeAsIso", width=130),
        Column("it_kwh", Text("IT energy", "IT 设备耗电量"), unit="kwatth", decimals=2, width=110),
    ],
)

_DAY_S = (
    "extract(epoch FROM least(now(), $__timeTo()::timestamptz, (day + 1)::timestamp AT TIME ZONE time_zone) "
    "- day::timestamp AT TIME ZONE time_zone)"
)
_DAY_PUE = PUE.replace("{least}", "minimum_coverage_ratio").replace("{length}", _DAY_S)
HISTORY = Panel(
    "timeseries",
    Text("PUE by day and site", "各数据中心逐日 PUE"),
    Text(
        "Daily ratio of sums by each site's own days, including imported history.",
        "按各数据中心时区的自然日，逐日能耗之比，含导入的历史数据。",
    ),
    [
        database(
            f"""
            SELECT {noon("day")} AS time, site AS metric, {_DAY_PUE} AS value
            FROM (SELECT p.*, s.time_zone, s.minimum_coverage_ratio,
            (p.at AT TIME ZONE s.time_zone)::date AS day FROM v_pue p JOIN v_site s USING (site)
            WHERE p.room = ''
            AND p.at >= $__timeFrom()::timestamptz - interval '2 days'
            AND p.at >= date_trunc('day', $__timeFrom()::timestamptz AT TIME ZONE s.time_zone)
            AT TIME ZONE s.time_zone
            AND p.at < $__timeTo()::timestamptz) v_pue
            GROUP BY site, day, time_zone, minimum_coverage_ratio ORDER BY 1
            """,  # noqa: S608 - constants
            time_series=True,
        )
    ],
    unit="none",
    by_day=True,
    decimals=3,
    soft_min=1.0,
)
MARGINS = Panel(
    "bargauge",
    Text("Overhead energy budget used", "非 IT 能耗预算使用率"),
    Text(
        "Overhead energy used this year as a share of what the strictest limit allows for the projected IT "
        "energy of the year.",
        "本年已用的非 IT 能耗占最严限值下全年允许量的比例。",
    ),
    [
        database(
            """
            SELECT site, max(used_kwh / allowed_kwh) AS used FROM v_budget
            WHERE allowed_kwh > 0 GROUP BY site ORDER BY 2 DESC
            """
        )
    ],
    unit="percentunit",
    decimals=1,
    columns=[Column("site", Text("Site", "数据中心")), Column("used", Text("Used", "已用"))],
)
POWERS = Panel(
    "timeseries",
    Text("Facility power by site", "各数据中心总功率"),
    Text("15-minute mean power, from live metrics.", "最近 15 分钟平均功率，取自实时指标。"),
    [prometheus('wattline_site_power_watts{load_class="facility"}', "{{site}}")],
    unit="watt",
    stacked=True,
    fill=30,
    soft_min=0,
)
IT_LOAD = Panel(
    "bargauge",
    Text("IT load rate", "IT 负载率"),
    Text(
        "IT power of the latest 15 minutes relative to design IT capacity.",
        "最近 15 分钟 IT 设备功率除以设计容量。",
    ),
    [prometheus("sort_desc(wattline_site_it_load_ratio)", "{{site}}", instant=True)],
    unit="percentunit",
    decimals=1,
    url="board:capacity?var-site=${__field.labels.site}",
)
MONTHS = Panel(
    "barchart",
    Text("Energy by month and load class, all sites", "全部数据中心逐月分类能耗"),
    Text(
        "Energy of the months of each site's own time zone that the time range touches, whole; the current "
        "month is incomplete.",
        "按各数据中心时区的自然月统计，时段触及的每一月均为整月；当月未完。",
    ),
    [
        database(
            """
            SELECT to_char(date_trunc('month', p.at AT TIME ZONE s.time_zone), 'YYYY-MM') AS month,
            sum(it_kwh) AS it, <<, |sum(#_kwh) AS #>>
            FROM v_pue p JOIN v_site s USING (site)
            WHERE p.room = ''
            AND p.at >= $__timeFrom()::timestamptz - interval '33 days'
            AND p.at < $__timeTo()::timestamptz + interval '33 days'
            AND p.at >= date_trunc('month', $__timeFrom()::timestamptz AT TIME ZONE s.time_zone)
            AT TIME ZONE s.time_zone
            AND p.at < (date_trunc('month', ($__timeTo()::timestamptz - interval '1 microsecond')
            AT TIME ZONE s.time_zone) + interval '1 month') AT TIME ZONE s.time_zone
            GROUP BY 1 ORDER BY 1
            """
        )
    ],
    unit="kwatth",
    decimals=2,
    stacked=True,
    columns=class_columns("it", *OVERHEAD),
)

ALARM_LIST = Panel(
    "table",
    Text("Alarms of all sites", "全部数据中心的告警"),
    Text(
        "Firing alarms first, then those that recover, are acknowledged, or are resolved, newest first; "
        "click one for its page.",
        "当前告警在前，其次为恢复中、已确认与已恢复的告警，最新在前；点击可打开详情。",
    ),
    [
        database(
            """
            SELECT id, site, severity, state, rule, nullif(document ->> 'subject', '') AS subject,
            started_at, value, limit_value FROM v_alarms
            ORDER BY array_position(ARRAY['firing', 'recovering', 'acknowledged'], state) NULLS LAST,
            array_position(ARRAY['critical', 'error', 'warning', 'info'], severity), started_at DESC LIMIT 50
            """
        )
    ],
    unit="none",
    columns=[
        Column("id", Text("Number", "编号"), width=80, url=ALARM_URL),
        Column("site", Text("Site", "数据中心"), width=70, url=SITE_URL),
        Column("severity", Text("Severity", "级别"), states=True, width=90),
        Column("state", Text("Status", "状态"), states=True, width=110),
        Column("rule", Text("Rule", "规则"), words=True, url=ALARM_URL),
        Column("subject", Text("Equipment", "对象")),
        Column("started_at", Text("Since", "开始时间"), unit="dateTimeAsIso", width=170),
        Column("value", Text("Value", "数值"), decimals=3, width=90),
        Column("limit_value", Text("Limit", "限值"), decimals=3, width=90),
    ],
)

BOARD = Board(
    "fleet",
    Text("Wattline: fleet", "Wattline：全部数据中心"),
    Text(
        "All sites and their limits, smallest margin first.",
        "全部数据中心与限值，余量最小者在前。",
    ),
    [
        Row(4, [Cell(p, 4) for p in (FLEET_PUE, ABOVE, POWER, IT_POWER, SILENT, ALARMS)]),
        Row(7, [Cell(AGAINST_LIMITS, 24)]),
        Row(7, [Cell(ALARM_LIST, 24)]),
        Row(9, [Cell(HISTORY, 16), Cell(MARGINS, 8)]),
        Row(9, [Cell(POWERS, 8), Cell(IT_LOAD, 6), Cell(MONTHS, 10)]),
    ],
    ["window"],
    "now-90d",
    marks=OF_ALL,
)
