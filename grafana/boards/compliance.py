"""What goes to the regulator: month by month, verdicts by profile, revisions, declared indicators."""

from __future__ import annotations

from grafana.boards.site import REPORTS_URL
from grafana.kit import Board, Cell, Column, Panel, Row
from grafana.marks import OF_SITE
from grafana.queries import database
from grafana.words import Text

_MONTHS = """
    SELECT e.begins, to_char(e.begins, 'YYYY-MM') AS month, e.facility_kwh, e.it_kwh, c.covered,
    l.limit_pue, p.pue,
    CASE WHEN p.pue IS NULL THEN 'indeterminate' WHEN p.pue > l.limit_pue THEN 'fail' ELSE 'pass' END AS plain
    FROM v_site s CROSS JOIN LATERAL (
    SELECT begins, q.*
    FROM generate_series(date_trunc('month', $__timeFrom()::timestamptz AT TIME ZONE s.time_zone),
    ($__timeTo()::timestamptz - interval '1 microsecond') AT TIME ZONE s.time_zone, interval '1 month')
    AS begins
    CROSS JOIN LATERAL (SELECT sum(facility_kwh) AS facility_kwh, sum(it_kwh) AS it_kwh,
    sum(coverage_ratio) * 900 AS covered_s, {withheld} AS withheld
    FROM v_pue WHERE site = ${site:sqlstring} AND room = ''
    AND at >= begins AT TIME ZONE s.time_zone
    AND at < (begins + interval '1 month') AT TIME ZONE s.time_zone) q WHERE q.it_kwh IS NOT NULL) e
    CROSS JOIN LATERAL (SELECT least(e.covered_s / extract(epoch FROM least(now(),
    (e.begins + interval '1 month') AT TIME ZONE s.time_zone) - e.begins AT TIME ZONE s.time_zone), 1)
    AS covered) c
    CROSS JOIN LATERAL (SELECT CASE WHEN c.covered >= s.minimum_coverage_ratio
    AND NOT e.withheld AND e.facility_kwh >= e.it_kwh THEN e.facility_kwh / nullif(e.it_kwh, 0) END AS pue) p
    CROSS JOIN (SELECT min(limit_pue) AS limit_pue FROM v_verdict WHERE site = ${site:sqlstring}) l
    WHERE s.site = ${site:sqlstring}
"""

YEAR_END = Panel(
    "stat",
    Text("Projected year-end PUE", "PUE，年末预测"),
    Text(
        "Measured days of the year plus days projected from the history of the site; red above the "
        "strictest limit.",
        "已测天数加推算天数；高于最严限值时显示红色。",
    ),
    [
        database("SELECT pue FROM v_outlook WHERE site = ${site:sqlstring}"),
        database(
            "SELECT min(limit_pue) AS limit FROM v_budget WHERE site = ${site:sqlstring}", legend="limit"
        ),
    ],
    unit="none",
    decimals=3,
    limit="limit",
)
LIMIT = Panel(
    "stat",
    Text("Strictest limit", "最严限值"),
    Text("The lowest of the limits in force today.", "今日有效限值中的最低者。"),
    [database("SELECT min(limit_pue) AS limit_pue FROM v_verdict WHERE site = ${site:sqlstring}")],
    unit="none",
    decimals=2,
)
LEFT = Panel(
    "stat",
    Text("Overhead energy remaining this year", "本年剩余非 IT 能耗额度"),
    Text(
        "Overhead energy that may still be used under the strictest limit; negative: the year will exceed "
        "it.",
        "最严限值下仍可使用的非 IT 能耗；为负则全年将超限。",
    ),
    [database("SELECT min(left_kwh) AS left_kwh FROM v_budget WHERE site = ${site:sqlstring}")],
    unit="kwatth",
    decimals=2,
)
FAILED = Panel(
    "stat",
    Text("Months above the limit", "超限月份"),
    Text(
        "Months in the time range whose PUE is above today's strictest limit.",
        "所选时段内 PUE 高于当前最严限值的月份数。",
    ),
    [
        database(f"SELECT count(*) FILTER (WHERE plain = 'fail') AS failed FROM ({_MONTHS}) m"),  # noqa: S608 - a constant
        database("SELECT 1 AS too_many", legend="too_many"),
    ],
    unit="none",
    limit="too_many",
)
REPORTED = Panel(
    "stat",
    Text("Finalised reports", "已定稿报告"),
    Text("Finalised reports of the site; their figures no longer change.", "本数据中心已定稿的报告数。"),
    [
        database(
            "SELECT count(DISTINCT period) FILTER (WHERE closed) AS closed FROM v_report "
            "WHERE site = ${site:sqlstring}"
        )
    ],
    unit="none",
)
REVISED = Panel(
    "stat",
    Text("Revisions after finalisation", "定稿后修订"),
    Text(
        "Revisions of finalised reports caused by late or corrected data.",
        "因迟到或更正数据对已定稿报告所作的修订。",
    ),
    [
        database(
            "SELECT count(*) FILTER (WHERE closed AND revision > 1) AS revisions FROM v_report "
            "WHERE site = ${site:sqlstring}"
        )
    ],
    unit="none",
)

BY_MONTH = Panel(
    "timeseries",
    Text("PUE by month against the strictest limit", "逐月 PUE 与最严限值"),
    Text(
        "Months of the site's own time zone, each a ratio of sums; the dashed line is today's strictest "
        "limit. The current month is incomplete.",
        "按数据中心时区的自然月，求和再相除；虚线为当前最严限值。当月未完。",
    ),
    [
        database(
            "SELECT (begins + interval '12 hours') AT TIME ZONE 'UTC' AS time, pue, limit_pue "  # noqa: S608
            f"FROM ({_MONTHS}) m ORDER BY begins",
            time_series=True,
        )
    ],
    unit="none",
    decimals=2,
    bars=True,
    by_day=True,
    soft_min=1.0,
    columns=[
        Column("pue", Text("PUE", "PUE"), color="#5794f2"),
        Column("limit_pue", Text("Strictest limit today", "当前最严限值"), color="red", dashed=True),
    ],
)
MATRIX = Panel(
    "table",
    Text("Verdicts by window and profile", "各统计时段与依据的判定"),
    Text(
        "Verdict with uncertainty and coverage taken into account, and the direct comparison.",
        "考虑不确定度与覆盖率的判定，旁列不计不确定度。",
    ),
    [
        database(
            """
            SELECT "window", profile, pue, limit_pue, limit_pue - pue AS margin, verdict, plain
            FROM v_verdict WHERE site = ${site:sqlstring}
            AND "window" IN ('24h', '7d', '30d', 'mtd', 'ytd', '12mo')
            ORDER BY profile, array_position(ARRAY['24h', '7d', '30d', 'mtd', 'ytd', '12mo'], "window")
            """
        )
    ],
    unit="none",
    columns=[
        Column("window", Text("Window", "统计时段"), words=True, width=110),
        Column("profile", Text("Limit profile", "限值依据"), words=True),
        Column("pue", Text("PUE", "PUE"), decimals=3),
        Column("limit_pue", Text("Limit", "限值"), decimals=2),
        Column("margin", Text("Margin", "余量"), decimals=3),
        Column("verdict", Text("Verdict", "判定"), states=True),
        Column("plain", Text("Ignoring uncertainty", "不计不确定度"), states=True),
    ],
)
MONTHS = Panel(
    "table",
    Text("Month by month", "逐月一览"),
    Text(
        "Energy, PUE, coverage and report status; click a month for its reports.",
        "能耗、PUE、覆盖率与报告状态；点击月份可打开报告。",
    ),
    [
        database(
            f"""
            SELECT m.month, m.facility_kwh, m.it_kwh, m.pue, m.limit_pue, m.plain, m.covered,
            r.revision, CASE WHEN r.closed THEN 'closed' WHEN NOT r.closed THEN 'provisional'
            WHEN m.month = to_char(now(), 'YYYY-MM') THEN 'running' ELSE 'not closed' END AS report,
            r.created_at, left(r.sha256, 12) AS sha256 FROM ({_MONTHS}) m LEFT JOIN LATERAL (
            SELECT * FROM v_report v WHERE v.site = ${{site:sqlstring}} AND v.period = m.month
            ORDER BY revision DESC LIMIT 1) r ON true ORDER BY m.month DESC
            """  # noqa: S608 - a constant of this file
        )
    ],
    unit="none",
    columns=[
        Column("month", Text("Month", "月份"), url=REPORTS_URL, width=90),
        Column("facility_kwh", Text("Facility energy", "数据中心总耗电量"), unit="kwatth", decimals=2),
        Column("it_kwh", Text("IT energy", "IT 设备耗电量"), unit="kwatth", decimals=2),
        Column("pue", Text("PUE", "PUE"), decimals=3, width=80),
        Column("limit_pue", Text("Limit", "限值"), decimals=2, width=70),
        Column("plain", Text("Ignoring uncertainty", "不计不确定度"), states=True, width=150),
        Column("covered", Text("Coverage", "覆盖率"), unit="percentunit", decimals=1, width=95),
        Column("revision", Text("Revision", "修订号"), width=85),
        Column("report", Text("Report", "报告"), states=True, width=100),
        Column("created_at", Text("Finalised at", "定稿时间"), unit="dateTimeAsIso", width=165),
        Column("sha256", Text("SHA-256", "SHA-256"), width=120),
    ],
)
DECLARED = Panel(
    "table",
    Text("Declared indicators", "申报指标"),
    Text(
        "Declared indicators of the same guideline: value, date and evidence.",
        "同一指导意见中无法计量的指标：数值、日期与依据。",
    ),
    [
        database(
            """
            SELECT indicator, value, declared_on, evidence FROM v_declared
            WHERE site = ${site:sqlstring} ORDER BY indicator
            """
        )
    ],
    unit="none",
    columns=[
        Column("indicator", Text("Indicator", "指标"), words=True),
        Column("value", Text("Value", "数值"), width=80),
        Column("declared_on", Text("Date", "日期"), unit="dateTimeAsIso", width=150),
        Column("evidence", Text("Evidence", "依据")),
    ],
)
INTERVAL = Panel(
    "table",
    Text("Year-end projection", "全年预测"),
    Text(
        "Projected PUE of the calendar year with its prediction interval, and the number of measured days.",
        "全年 PUE 预测与区间，以及已测天数。",
    ),
    [
        database(
            """
            SELECT year::text AS year, pue, low, high, level, measured_days, projected_days, reason
            FROM v_outlook WHERE site = ${site:sqlstring}
            """
        )
    ],
    unit="none",
    columns=[
        Column("year", Text("Year", "年份"), unit="string"),
        Column("pue", Text("PUE", "PUE"), decimals=3),
        Column("low", Text("Low", "下限"), decimals=3),
        Column("high", Text("High", "上限"), decimals=3),
        Column("level", Text("Probability", "概率"), unit="percentunit", decimals=0),
        Column("measured_days", Text("Days measured", "已测天数")),
        Column("projected_days", Text("Days projected", "推算天数")),
        Column("reason", Text("Reason", "无预测原因")),
    ],
)

NORMALISED = Panel(
    "timeseries",
    Text("PUE, measured and normalised", "PUE，实测与归一化"),
    Text(
        "By calendar month: the measured PUE, and the PUE that the same plant would have had in the weather "
        "and under the IT load of its baseline. What changes in the normalised one is the plant itself.",
        "逐月：实测 PUE，以及同一设施在基准期的气象条件和 IT 负荷下的 PUE。归一化 PUE 的变化只来自设施自身。",
    ),
    [
        database(
            """
            SELECT month::timestamp AS time, measured_pue, pue, low, high FROM v_normalised_pue
            WHERE site = ${site:sqlstring} ORDER BY 1
            """,
            time_series=True,
        )
    ],
    unit="none",
    decimals=3,
    columns=[
        Column("measured_pue", Text("Measured PUE", "实测 PUE"), color="#8e8e8e"),
        Column("pue", Text("Normalised PUE", "归一化 PUE"), color="#5794f2"),
        Column("low", Text("Interval, low", "区间下限"), color="#5794f2", dashed=True),
        Column("high", Text("Interval, high", "区间上限"), color="#5794f2", dashed=True),
    ],
)
SAVED = Panel(
    "table",
    Text("Verified savings", "经核实的节电量"),
    Text(
        "What measures saved against their baseline, with the interval; measures that overlap in time are "
        "stated together and counted once.",
        "节能措施相对于基准期的节电量及区间；时间重叠的措施合并给出，只计一次。",
    ),
    [
        database(
            """
            SELECT what, @saving:result@ AS result, saving_kwh, low_kwh, high_kwh, level, counted_days, days
            FROM v_saving WHERE site = ${site:sqlstring} AND in_total ORDER BY since
            """
        )
    ],
    unit="none",
    columns=[
        Column("what", Text("Measures", "措施")),
        Column("result", Text("Result", "结果")),
        Column("saving_kwh", Text("Saving", "节电量"), unit="kwatth", decimals=2),
        Column("low_kwh", Text("Low", "下限"), unit="kwatth", decimals=2),
        Column("high_kwh", Text("High", "上限"), unit="kwatth", decimals=2),
        Column("level", Text("Probability", "概率"), unit="percentunit", decimals=0),
        Column("counted_days", Text("Days counted", "计入天数")),
        Column("days", Text("Days", "天数")),
    ],
)
DRIFT = Panel(
    "timeseries",
    Text("Drift: overhead power against the frozen baseline", "能效劣化：非 IT 功率与已固化基准"),
    Text(
        "By day: what the plant used beside IT, and what it would have used by its frozen baseline in the "
        "same weather and under the same IT load. Empty without a frozen baseline.",
        "逐日：实际非 IT 功率，以及按已固化基准在相同气象条件和 IT 负荷下的功率。未固化基准时为空。",
    ),
    [
        database(
            """
            SELECT day::timestamp AS time, actual_kw, expected_kw FROM v_drift_day
            WHERE site = ${site:sqlstring} ORDER BY 1
            """,
            time_series=True,
        )
    ],
    unit="kwatt",
    decimals=1,
    columns=[
        Column("actual_kw", Text("Used", "实际"), color="#e0b400"),
        Column("expected_kw", Text("By the baseline", "按基准"), color="#5794f2"),
    ],
)
DRIFT_NOW = Panel(
    "table",
    Text("Drift of the plant", "设备能效劣化"),
    Text(
        "Whether the plant uses more than its own frozen baseline, since when, the excess energy with its "
        "90 % interval, the meter that most of it comes from, and the weeks until the PUE crosses its limit.",
        "设施是否比自身已固化基准多用电、起始日期、多用电量及 90% 区间、主要来源仪表，"
        "以及 PUE 超过限值前的周数。",
    ),
    [
        database(
            """
            SELECT @drift_state:state@ AS state, to_char(onset, 'YYYY-MM-DD') AS onset, excess_ratio,
            excess_kwh, low_kwh, high_kwh, nullif(mostly, '') AS mostly, weeks_to_limit,
            to_char(known_to, 'YYYY-MM-DD') AS known_to
            FROM v_drift WHERE site = ${site:sqlstring}
            """
        )
    ],
    unit="none",
    columns=[
        Column("state", Text("State", "状态")),
        Column("onset", Text("Since", "开始日期")),
        Column("excess_ratio", Text("Excess", "高出比例"), unit="percentunit", decimals=1),
        Column("excess_kwh", Text("Excess energy", "多用电量"), unit="kwatth", decimals=2),
        Column("low_kwh", Text("Low", "下限"), unit="kwatth", decimals=2),
        Column("high_kwh", Text("High", "上限"), unit="kwatth", decimals=2),
        Column("mostly", Text("Mostly", "主要来源")),
        Column("weeks_to_limit", Text("Weeks to the limit", "距超限周数"), decimals=0),
        Column("known_to", Text("Known to", "数据截至")),
    ],
)
OPPORTUNITIES = Panel(
    "table",
    Text("Opportunities", "节能机会"),
    Text(
        "Savings a year in energy and in the currency of the site, from the last 12 months, the most "
        "valuable first. They overlap and do not add up. Unknown: the page Opportunities names the meter "
        "that is missing.",
        "依据最近 12 个月估算的年节电量和金额（数据中心所用货币），按价值排序；各项相互重叠，不可相加。"
        "“未知”：节能机会页面列出缺少的仪表。",
    ),
    [
        database(
            """
            SELECT @opportunity:kind@ AS what, nullif(subject, '') AS subject,
            @opportunity_state:state@ AS state, kwh_per_year, kwh_low, kwh_high, amount_per_year
            FROM v_opportunity WHERE site = ${site:sqlstring} ORDER BY rank
            """
        )
    ],
    unit="none",
    columns=[
        Column("what", Text("Opportunity", "机会")),
        Column("subject", Text("Meters", "仪表")),
        Column("state", Text("State", "状态")),
        Column("kwh_per_year", Text("Saving", "节电量"), unit="kwatth", decimals=2),
        Column("kwh_low", Text("Low", "下限"), unit="kwatth", decimals=2),
        Column("kwh_high", Text("High", "上限"), unit="kwatth", decimals=2),
        Column("amount_per_year", Text("Money", "金额"), decimals=0),
    ],
)
SURCHARGE = Panel(
    "table",
    Text("Surcharge expected for the year", "全年加价电费预测"),
    Text(
        "By rule: the PUE above which the electricity costs more, the projected excess energy, the amount "
        "with its interval in the currency of the rule, and how likely there is one at all. Empty where no "
        "rule holds.",
        "按规则：触发加价的 PUE、预计超限电量、加价金额及区间（规则所用货币），以及发生加价的概率。"
        "无适用规则时为空。",
    ),
    [
        database(
            """
            SELECT rule, limit_pue, excess_kwh, amount, low, high, currency, chance
            FROM v_surcharge_forecast WHERE site = ${site:sqlstring} ORDER BY rule
            """
        )
    ],
    unit="none",
    columns=[
        Column("rule", Text("Rule", "规则")),
        Column("limit_pue", Text("Limit", "限值"), decimals=2),
        Column("excess_kwh", Text("Excess energy", "超限电量"), unit="kwatth", decimals=2),
        Column("amount", Text("Amount", "金额"), decimals=0),
        Column("low", Text("Low", "下限"), decimals=0),
        Column("high", Text("High", "上限"), decimals=0),
        Column("currency", Text("Currency", "货币")),
        Column("chance", Text("Probability", "概率"), unit="percentunit", decimals=0),
    ],
)

BOARD = Board(
    "compliance",
    Text("Wattline: compliance", "Wattline：合规"),
    Text("Monthly figures, verdicts by profile, revisions.", "逐月结果、各依据判定与修订。"),
    [
        Row(4, [Cell(p, 4) for p in (YEAR_END, LIMIT, LEFT, FAILED, REPORTED, REVISED)]),
        Row(9, [Cell(BY_MONTH, 12), Cell(MATRIX, 12)]),
        Row(11, [Cell(MONTHS, 24)]),
        Row(5, [Cell(DECLARED, 13), Cell(INTERVAL, 11)]),
        Row(9, [Cell(NORMALISED, 12), Cell(SAVED, 12)]),
        Row(9, [Cell(DRIFT, 12), Cell(DRIFT_NOW, 12)]),
        Row(9, [Cell(OPPORTUNITIES, 13), Cell(SURCHARGE, 11)]),
    ],
    ["site"],
    "now-13M",
    "5m",
    OF_SITE,
)
