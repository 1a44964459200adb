"""One site: how good it is, where the overhead is, what changed."""

from __future__ import annotations

from grafana.kit import Board, Cell, Column, Panel, Row, class_columns
from grafana.marks import OF_SITE
from grafana.queries import PUE, Query, database, prometheus
from grafana.words import OVERHEAD, Text

REPORTS_URL = "${wattline}/sites/${site}/reports?lang={lang}#${__data.fields.month}"


def _limit() -> Query:
    return prometheus('min(wattline_site_pue_limit_ratio{site="$site"})', "limit")


def _pue(window: str, title: Text, *, fill: int = 0) -> Panel:
    return Panel(
        "stat",
        title,
        Text(
            "Facility energy divided by IT energy, over the time for which both are known; red above the "
            "strictest limit.",
            "在两者均有数据的时段内，数据中心总耗电量除以 IT 设备耗电量；高于最严限值时显示红色。",
        ),
        [prometheus(f'wattline_site_pue_ratio{{site="$site",window="{window}"}}', "PUE"), _limit()],
        unit="none",
        decimals=3,
        limit="limit",
        fill=fill,
        url="board:compliance?var-site=${site}",
    )


NOW = _pue("1h", Text("PUE, last hour", "PUE，近 1 小时"), fill=10)
DAY = _pue("24h", Text("PUE, 24 hours", "PUE,24 小时"), fill=10)
MONTH = _pue("mtd", Text("PUE, this month", "PUE，本月"))
YEAR = _pue("ytd", Text("PUE, this year", "PUE，本年"))
YEAR_END = Panel(
    "stat",
    Text("Projected year-end PUE", "PUE，年末预测"),
    Text(
        "Measured days of the calendar year plus days projected from the history of the site.",
        "已测天数加上按本数据中心历史推算的其余天数。",
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
UNCOVERED = Panel(
    "stat",
    Text("Not covered, 24 hours", "未覆盖，24 小时"),
    Text(
        "Share of the time for which facility or IT energy is unknown; red where coverage is too low to "
        "calculate a PUE.",
        "数据中心总耗电量或 IT 设备耗电量未知的时间占比；多到无法给出 PUE 时显示红色。",
    ),
    [
        database(
            """
            SELECT 1 - coverage_ratio AS missing FROM v_pue_window
            WHERE site = ${site:sqlstring} AND "window" = '24h'
            """
        ),
        database(
            "SELECT 1 - minimum_coverage_ratio AS most FROM v_site WHERE site = ${site:sqlstring}",
            legend="most",
        ),
    ],
    unit="percentunit",
    decimals=1,
    limit="most",
    url="board:quality?var-site=${site}",
)

PUE_HISTORY = Panel(
    "timeseries",
    Text("PUE against limit and design", "PUE 与限值、设计值"),
    Text(
        "Ratio of sums per step of the chart; the dashed lines are the strictest limit and the designed PUE.",
        "按图表步长求和再相除；虚线为最严限值与设计 PUE。",
    ),
    [
        database(
            f"""
            SELECT {{bar}} AS time, {PUE.replace("{length}", "min({bar_s})")} AS pue,
            max(l.limit_pue) AS limit_pue, max(l.designed_pue) AS designed_pue
            FROM v_pue, (SELECT min(v.limit_pue) AS limit_pue, min(s.designed_pue) AS designed_pue
            FROM v_verdict v JOIN v_site s USING (site) WHERE site = ${{site:sqlstring}}) l
            WHERE site = ${{site:sqlstring}} AND room = '' AND {{span}} GROUP BY 1 ORDER BY 1
            """,  # noqa: S608 - constants
            time_series=True,
        )
    ],
    unit="none",
    decimals=3,
    columns=[
        Column("pue", Text("PUE", "PUE"), color="#5794f2"),
        Column("limit_pue", Text("Limit", "限值"), color="red", dashed=True),
        Column("designed_pue", Text("Design", "设计值"), color="#8e8e8e", dashed=True),
    ],
)
WHERE = Panel(
    "barchart",
    Text("Overhead by load class", "非 IT 能耗构成"),
    Text(
        "Energy of each class divided by IT energy in the time range; 1 plus these shares is the PUE.",
        "所选时段各类能耗与 IT 设备耗电量之比；1 加各项即为 PUE。",
    ),
    [
        database(
            """
            SELECT c.load_class, c.kwh / nullif(it_kwh, 0) AS share FROM (
            SELECT CASE WHEN NOT {withheld} THEN sum(it_kwh) END AS it_kwh,
            sum(facility_kwh) AS facility_kwh, <<, |sum(#_kwh) AS #>>
            FROM v_pue WHERE site = ${site:sqlstring} AND room = '' AND coverage_ratio > 0
            AND {span}) e CROSS JOIN LATERAL (VALUES
            <<, |('@#@', #)>>,
            ('@unmetered@', facility_kwh - it_kwh << |- #>>)
            ) AS c(load_class, kwh) ORDER BY 2 DESC
            """
        )
    ],
    unit="none",
    decimals=3,
    sideways=True,
    columns=[Column("share", Text("Share of IT energy", "与 IT 设备耗电量之比"), color="#3fb5c9")],
)
CHANGED = Panel(
    "table",
    Text("Change from the previous period", "与上一时段相比的变化"),
    Text(
        "Share of each class of the IT energy in the time range, in the equally long time before it, and "
        "what the difference adds to PUE. Energy stands beside it: idle servers that are switched off save "
        "energy and raise PUE.",
        "各类能耗与 IT 设备耗电量之比：所选时段、之前等长时段，以及差值对 PUE 的贡献。"
        "并列能耗：关停闲置服务器节能，却会抬高 PUE。",
    ),
    [
        database(
            """
            SELECT c.load_class, c.kwh AS energy_kwh, c.kwh / now.it_kwh AS share,
            c.before / nullif(past.it_kwh, 0) AS share_before,
            c.kwh / now.it_kwh - c.before / nullif(past.it_kwh, 0) AS change
            FROM (SELECT CASE WHEN NOT {withheld} THEN sum(it_kwh) END AS it_kwh,
            sum(facility_kwh) AS f, <<, |sum(#_kwh) AS #>> FROM v_pue
            WHERE site = ${site:sqlstring} AND room = '' AND coverage_ratio > 0 AND {span}) now,
            (SELECT CASE WHEN NOT {withheld} THEN sum(it_kwh) END AS it_kwh,
            sum(facility_kwh) AS f, <<, |sum(#_kwh) AS #>> FROM v_pue
            WHERE site = ${site:sqlstring} AND room = '' AND coverage_ratio > 0
            AND at >= $__timeFrom()::timestamptz - ($__timeTo()::timestamptz - $__timeFrom()::timestamptz)
            AND at < $__timeFrom()::timestamptz) past
            CROSS JOIN LATERAL (VALUES <<, |('@#@', now.#, past.#)>>,
            ('@unmetered@', now.f - now.it_kwh << |- now.#>>, past.f - past.it_kwh << |- past.#>>),
            ('PUE', now.f, past.f)) AS c(load_class, kwh, before)
            ORDER BY c.load_class = 'PUE' DESC, abs(c.kwh / now.it_kwh
            - coalesce(c.before / nullif(past.it_kwh, 0), 0)) DESC
            """
        )
    ],
    unit="none",
    columns=[
        Column("load_class", Text("Load class", "负荷类别")),
        Column("energy_kwh", Text("Energy", "能耗"), unit="kwatth", decimals=2),
        Column("share", Text("Now", "现在"), decimals=3),
        Column("share_before", Text("Before", "之前"), decimals=3),
        Column("change", Text("Change in PUE", "PUE 变化"), decimals=3),
    ],
)
POWER = Panel(
    "timeseries",
    Text("Power by load class", "分类功率"),
    Text("15-minute mean power, live.", "每 15 分钟平均功率，实时。"),
    [
        prometheus(
            f'wattline_site_power_watts{{site="$site",load_class=~"{"|".join(("it", *OVERHEAD))}"}}',
            "{{load_class}}",
        )
    ],
    unit="watt",
    stacked=True,
    fill=40,
    soft_min=0,
    columns=class_columns("it", *OVERHEAD),
)
ENERGY = Panel(
    "barchart",
    Text("Energy by day and load class", "逐日分类能耗"),
    Text(
        "The site's own days that the time range touches, whole; includes imported history.",
        "按数据中心时区的自然日，时段触及的每一日均为整日；含导入的历史。",
    ),
    [
        database(
            """
            SELECT {day}::text AS day, sum(it_kwh) AS it, <<, |sum(#_kwh) AS #>>
            FROM v_pue WHERE site = ${site:sqlstring} AND room = '' AND {in_days}
            GROUP BY 1 ORDER BY 1
            """
        )
    ],
    unit="kwatth",
    decimals=2,
    stacked=True,
    by_day=True,
    columns=class_columns("it", *OVERHEAD),
)
BUDGET = Panel(
    "table",
    Text("Overhead energy budget for the year", "全年非 IT 能耗预算"),
    Text(
        "Overhead energy that each limit allows in the calendar year, how much is used, and when it is "
        "expected to run out.",
        "各限值下全年允许量、已用量与耗尽月份。",
    ),
    [
        database(
            """
            SELECT profile, limit_pue, used_kwh / nullif(allowed_kwh, 0) AS used, used_kwh, allowed_kwh,
            left_kwh, crossed_in FROM v_budget WHERE site = ${site:sqlstring} ORDER BY limit_pue
            """
        )
    ],
    unit="none",
    columns=[
        Column("profile", Text("Limit profile", "限值依据"), words=True),
        Column("limit_pue", Text("Limit", "限值"), decimals=2, width=70),
        Column("used", Text("Used", "使用率"), unit="percentunit", decimals=1, bar=True),
        Column("used_kwh", Text("Used", "已用"), unit="kwatth", decimals=2),
        Column("allowed_kwh", Text("Annual budget", "全年预算"), unit="kwatth", decimals=2),
        Column("left_kwh", Text("Remaining", "剩余"), unit="kwatth", decimals=2),
        Column("crossed_in", Text("Expected to exceed in", "预计耗尽月份"), unit="dateTimeAsIso"),
    ],
)
AIR = Panel(
    "timeseries",
    Text("Room temperature", "机房温度"),
    Text(
        "Mean of each step by point, in the selected rooms.",
        "所选机房各测点的平均温度。",
    ),
    [
        database(
            """
            SELECT {bar} AS time, point AS metric, avg(mean) AS value
            FROM v_gauge WHERE site = ${site:sqlstring} AND role IN ('temperature', 'rack_inlet')
            AND coalesce(nullif(room, ''), '-') IN (${room:sqlstring}) AND {span}
            GROUP BY 1, 2 ORDER BY 1
            """,
            time_series=True,
        )
    ],
    unit="celsius",
    decimals=1,
)
HUMIDITY = Panel(
    "timeseries",
    Text("Room humidity", "机房湿度"),
    Text("Mean of each step by point, in the selected rooms.", "所选机房各测点的平均相对湿度。"),
    [
        database(
            """
            SELECT {bar} AS time, point AS metric, avg(mean) AS value
            FROM v_gauge WHERE site = ${site:sqlstring} AND role = 'humidity'
            AND coalesce(nullif(room, ''), '-') IN (${room:sqlstring}) AND {span}
            GROUP BY 1, 2 ORDER BY 1
            """,
            time_series=True,
        )
    ],
    unit="humidity",
    decimals=0,
)
OUTDOOR = Panel(
    "timeseries",
    Text("PUE and outdoor temperature", "PUE 与室外温度"),
    Text(
        "PUE of each step of the chart, and the mean temperature of the sensors without a room, which stand "
        "outdoors.",
        "按图表步长的 PUE，以及未归属机房的（室外）温度测点的平均值。",
    ),
    [
        database(
            f"""
            SELECT * FROM (SELECT {{bar}} AS time, 'pue' AS metric, {PUE.replace("{length}", "min({bar_s})")}
            AS value FROM v_pue WHERE site = ${{site:sqlstring}} AND room = '' AND {{span}} GROUP BY 1
            UNION ALL SELECT {{bar}}, 'outdoor', avg(mean) FROM v_gauge
            WHERE site = ${{site:sqlstring}} AND {{span}}
            AND (role = 'outdoor_dry_bulb' OR role = 'temperature' AND room = '') GROUP BY 1
            ) e ORDER BY 1
            """,  # noqa: S608 - constants
            time_series=True,
        )
    ],
    unit="none",
    decimals=3,
    columns=[
        Column("pue", Text("PUE", "PUE"), color="#5794f2"),
        Column(
            "outdoor",
            Text("Outdoor temperature", "室外温度"),
            unit="celsius",
            decimals=1,
            color="#ff9830",
            right=True,
        ),
    ],
)
MONEY = Panel(
    "table",
    Text("Cost and emissions by month", "逐月电费与碳排放"),
    Text(
        "Electricity bought from the grid, its cost by the tariffs of the site (in its currency), and its "
        "emissions, from the newest revision of each month's report.",
        "外购电量、按本数据中心电价计算的电费（所用货币）与碳排放，取自各月报告的最新修订。",
    ),
    [
        database(
            """
            SELECT DISTINCT ON (period) period AS month, (m ->> 'grid_kwh')::double precision AS grid_kwh,
            (m ->> 'cost')::double precision AS cost,
            (m ->> 'mean_price_per_kwh')::double precision AS price,
            (m ->> 'emissions_kg')::double precision AS emissions_kg, revision
            FROM (SELECT v.*, document -> 'money' AS m FROM v_report v WHERE site = ${site:sqlstring}
            AND period LIKE '____-__') r ORDER BY period DESC, revision DESC
            """
        )
    ],
    unit="none",
    columns=[
        Column("month", Text("Month", "月份"), width=90, url=REPORTS_URL),
        Column("grid_kwh", Text("Grid electricity", "外购电量"), unit="kwatth", decimals=2),
        Column("cost", Text("Cost", "电费"), decimals=2),
        Column("price", Text("Price per kWh", "每千瓦时均价"), decimals=4),
        Column("emissions_kg", Text("Emissions", "碳排放"), unit="masskg", decimals=0),
        Column("revision", Text("Revision", "修订号"), width=85),
    ],
)
EVENTS = Panel(
    "table",
    Text("Alarms and data quality issues", "告警与数据质量问题"),
    Text(
        "Alarms and data quality issues of the site: firing alarms first, then open issues, then what is "
        "over, newest first.",
        "本数据中心的告警与数据质量问题：当前告警在前，其次为未处理的问题，再次为已结束的记录，最新在前。",
    ),
    [
        database(
            """
            SELECT at, severity, state, what, thing FROM (
            SELECT started_at AS at, severity, state, rule AS what,
            coalesce(nullif(document ->> 'subject', ''), site) AS thing FROM v_alarms
            WHERE site = ${site:sqlstring}
            UNION ALL
            SELECT start_at, severity, state, kind, coalesce(point, site) FROM v_findings
            WHERE site = ${site:sqlstring}) e
            ORDER BY array_position(ARRAY['firing', 'recovering', 'acknowledged', 'open'], state) NULLS LAST,
            array_position(ARRAY['critical', 'error', 'warning', 'info'], severity), at DESC LIMIT 100
            """
        )
    ],
    unit="none",
    columns=[
        Column("at", Text("Since", "开始时间"), unit="dateTimeAsIso", width=170),
        Column("severity", Text("Severity", "级别"), states=True, width=90),
        Column("state", Text("Status", "状态"), states=True, width=90),
        Column("what", Text("Issue", "事项"), words=True),
        Column("thing", Text("Equipment", "对象")),
    ],
)

BOARD = Board(
    "site",
    Text("Wattline: site", "Wattline：数据中心"),
    Text(
        "One site: PUE and its limit, overhead by load class, changes.",
        "单个数据中心：PUE 与限值、能耗构成、变化原因。",
    ),
    [
        Row(4, [Cell(p, 4) for p in (NOW, DAY, MONTH, YEAR, YEAR_END, UNCOVERED)]),
        Row(9, [Cell(PUE_HISTORY, 16), Cell(WHERE, 8)]),
        Row(7, [Cell(CHANGED, 12), Cell(BUDGET, 12)]),
        Row(9, [Cell(POWER, 12), Cell(ENERGY, 12)]),
        Row(9, [Cell(EVENTS, 12), Cell(MONEY, 12)]),
        Row(9, [Cell(OUTDOOR, 8), Cell(AIR, 8), Cell(HUMIDITY, 8)]),
    ],
    ["site", "room"],
    "now-7d",
    marks=OF_SITE,
)
