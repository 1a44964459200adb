"""Can the figures be trusted: silent meters, lateness, findings, coverage, and the collectors themselves."""

from __future__ import annotations

from grafana.kit import Board, Cell, Column, Panel, Row, class_columns
from grafana.marks import OF_SITE
from grafana.queries import Query, database, day_s, noon, prometheus
from grafana.words import OVERHEAD, Text


def _too_many() -> Query:
    return prometheus("vector(1)", "too many", instant=True)


UP = Panel(
    "stat",
    Text("Meters online", "在线仪表"),
    Text("Meters that respond, or whose readings are up to date.", "有应答或读数未过期的仪表。"),
    [prometheus('sum(wattline_meter_up{site="$site"})', "up")],
    unit="none",
)
SILENT = Panel(
    "stat",
    Text("Meters offline", "通信中断仪表"),
    Text("Meters that do not respond, or whose readings are out of date.", "无应答或读数过期的仪表。"),
    [prometheus('sum(1 - wattline_meter_up{site="$site"})', "silent"), _too_many()],
    unit="none",
    limit="too many",
)
COVERAGE = Panel(
    "stat",
    Text("Coverage, 24 hours", "覆盖率，24 小时"),
    Text(
        "Share of the time for which both facility and IT energy are known.",
        "数据中心总耗电量与 IT 设备耗电量均已知的时间占比。",
    ),
    [prometheus('wattline_site_coverage_ratio{site="$site",window="24h"}', "coverage")],
    unit="percentunit",
    decimals=1,
    fill=10,
)
FINDINGS = Panel(
    "stat",
    Text("Open data quality issues", "未处理的数据质量问题"),
    Text("Data quality issues that are not resolved.", "尚未恢复的数据质量问题。"),
    [database("SELECT count(*) AS open FROM v_findings WHERE site = ${site:sqlstring} AND state = 'open'")],
    unit="none",
)
DROPPED = Panel(
    "stat",
    Text("Readings dropped", "丢弃读数"),
    Text(
        "Readings received but not stored; all are listed in the drop ledger.",
        "收到而未入库的读数，均登记在丢弃记录中。",
    ),
    [
        prometheus('sum(wattline_readings_dropped_total{site="$site"}) or vector(0)', "dropped"),
        _too_many(),
    ],
    unit="none",
    limit="too many",
)
SPOOL = Panel(
    "stat",
    Text("Readings in collector buffers", "待入库读数"),
    Text(
        "Readings kept on disk by collectors until the database accepts them.",
        "采集端暂存磁盘、等待入库的读数。",
    ),
    [prometheus("sum(wattline_spool_readings)", "waiting")],
    unit="none",
    fill=10,
)

HEALTH = Panel(
    "table",
    Text("Meters", "仪表"),
    Text(
        "Latest reading of each meter. Delayed: older than three intervals; offline: older than ten, or "
        "none.",
        "各仪表最近读数。延迟：超过 3 个周期；中断：超过 10 个周期或从无读数。",
    ),
    [
        database(
            """
            SELECT meter, room, CASE WHEN silent_s IS NULL OR silent_s > 10 * coalesce(interval_s, 900)
            THEN 'silent' WHEN silent_s > 3 * coalesce(interval_s, 900) THEN 'late' ELSE 'heard' END AS state,
            silent_s, coalesce(interval_s, 900) AS interval_s, last_reading_at, points_alive, points,
            open_findings FROM v_meter_health WHERE site = ${site:sqlstring}
            AND coalesce(nullif(room, ''), '-') IN (${room:sqlstring})
            ORDER BY silent_s / coalesce(interval_s, 900) DESC NULLS FIRST
            """
        )
    ],
    unit="none",
    columns=[
        Column("meter", Text("Meter", "仪表")),
        Column("room", Text("Room", "机房"), width=110),
        Column("state", Text("Status", "状态"), states=True, width=80),
        Column("silent_s", Text("Offline for", "中断时长"), unit="s", width=100),
        Column("interval_s", Text("Interval", "周期"), unit="s", width=85),
        Column("last_reading_at", Text("Last reading", "最近读数"), unit="dateTimeAsIso", width=160),
        Column("points_alive", Text("Active points", "有效测点"), width=100),
        Column("points", Text("Points", "测点"), width=75),
        Column("open_findings", Text("Issues", "问题数"), width=85),
    ],
)
LATENESS = Panel(
    "timeseries",
    Text("Age of the latest reading, ten oldest", "距最近读数的时间，最久的 10 台仪表"),
    Text("A rising line is a meter that is offline.", "持续上升的曲线即为中断的仪表。"),
    [
        prometheus(
            'topk(10, time() - wattline_meter_last_reading_timestamp_seconds{site="$site"})', "{{meter}}"
        )
    ],
    unit="s",
    soft_min=0,
)
MAP = Panel(
    "status-history",
    Text("Coverage by meter and day", "逐表逐日覆盖率"),
    Text(
        "Share of each day for which the energy of a meter is known: red none, green complete.",
        "仪表每日能耗已知的时间占比：红为无，绿为完整。",
    ),
    [
        database(
            f"""
            SELECT {noon("day")} AS time, meter AS metric,
            least(max(covered_s) / {day_s("day")}, 1) AS value
            FROM v_energy_day WHERE site = ${{site:sqlstring}}
            AND coalesce(nullif(room, ''), '-') IN (${{room:sqlstring}}) AND {{of_days}}
            GROUP BY day, meter ORDER BY 1, 2
            """,  # noqa: S608 - constants
            time_series=True,
        )
    ],
    unit="percentunit",
    decimals=0,
)
LIST = Panel(
    "table",
    Text("Data quality issues", "数据质量问题"),
    Text(
        "Register resets, rollovers, data gaps, spikes, stuck values and meter mix-ups, with the affected "
        "energy.",
        "表码清零、表码翻转、数据缺口、突变值、数值长时间不变、疑似串表等，附影响电量。",
    ),
    [
        database(
            """
            SELECT kind, severity, state, point, start_at, end_at, effect_kwh, last_seen_at
            FROM v_findings WHERE site = ${site:sqlstring}
            ORDER BY state = 'open' DESC, start_at DESC LIMIT 200
            """
        )
    ],
    unit="none",
    columns=[
        Column("kind", Text("Kind", "类型"), words=True),
        Column("severity", Text("Severity", "级别"), states=True, width=90),
        Column("state", Text("Status", "状态"), states=True, width=90),
        Column("point", Text("Point", "测点")),
        Column("start_at", Text("From", "开始时间"), unit="dateTimeAsIso", width=160),
        Column("end_at", Text("To", "结束时间"), unit="dateTimeAsIso", width=160),
        Column("effect_kwh", Text("Affected energy", "影响电量"), unit="kwatth", decimals=1, width=120),
        Column("last_seen_at", Text("Last seen", "最近出现"), unit="dateTimeAsIso", width=160),
    ],
)
KINDS = Panel(
    "barchart",
    Text("Data quality issues by type", "数据质量问题类型分布"),
    Text("All data quality issues of the site, open and resolved.", "全部数据质量问题，含已恢复。"),
    [
        database(
            """
            SELECT kind, count(*) FILTER (WHERE state = 'open') AS open,
            count(*) FILTER (WHERE state <> 'open') AS cleared
            FROM v_findings WHERE site = ${site:sqlstring} GROUP BY kind ORDER BY count(*) DESC
            """
        )
    ],
    unit="none",
    sideways=True,
    stacked=True,
    columns=[
        Column("kind", Text("Kind", "类型"), words=True),
        Column("open", Text("Open", "未处理"), color="orange"),
        Column("cleared", Text("Resolved", "已恢复"), color="green"),
    ],
)
ESTIMATED = Panel(
    "timeseries",
    Text("Estimated share by load class", "各类能耗的估算占比"),
    Text(
        "Share of the covered time of each day whose energy was estimated rather than measured.",
        "每日有数据时段中由估算（而非实测）得出的占比。",
    ),
    [
        database(
            f"""
            SELECT {noon("day")} AS time, load_class AS metric,
            sum(estimated_s) / nullif(sum(covered_s), 0) AS value
            FROM v_energy_day WHERE site = ${{site:sqlstring}}
            AND load_class IN ('facility', 'it', <<, |'#'>>) AND {{of_days}}
            GROUP BY day, load_class ORDER BY 1, 2
            """,  # noqa: S608 - constants
            time_series=True,
        )
    ],
    unit="percentunit",
    decimals=1,
    soft_min=0,
    columns=class_columns("facility", "it", *OVERHEAD),
)
STORED = Panel(
    "timeseries",
    Text("Readings stored per second", "每秒入库读数"),
    Text("By site, of this process.", "本进程，按数据中心。"),
    [prometheus("sum by (site) (rate(wattline_readings_stored_total[$__rate_interval]))", "{{site}}")],
    unit="short",
    decimals=1,
    soft_min=0,
    fill=10,
)
POLLS = Panel(
    "bargauge",
    Text("Slowest polls", "最慢轮询"),
    Text(
        "Duration of the latest poll of each meter, ten slowest.",
        "各仪表最近一次轮询耗时，取最慢的 10 台。",
    ),
    [prometheus('topk(10, wattline_meter_poll_duration_seconds{site="$site"})', "{{meter}}", instant=True)],
    unit="s",
    decimals=3,
)
REQUESTS = Panel(
    "timeseries",
    Text("Requests by status", "请求数"),
    Text("HTTP requests per second that the service answered.", "服务每秒应答的 HTTP 请求。"),
    [prometheus("sum by (status) (rate(wattline_http_requests_total[$__rate_interval]))", "{{status}}")],
    unit="reqps",
    soft_min=0,
    fill=10,
)
AGE = Panel(
    "timeseries",
    Text("Time since last evaluation", "距上次计算的时间"),
    Text("Time since PUE was last calculated, by site.", "距最近一次 PUE 计算的时间。"),
    [prometheus("time() - wattline_site_evaluation_timestamp_seconds", "{{site}}")],
    unit="s",
    soft_min=0,
)
LAG = Panel(
    "timeseries",
    Text("Figures behind readings", "统计滞后"),
    Text(
        "For how long the oldest reading that is not in the figures has been stored, by site.",
        "尚未计入统计的最早读数的入库时长，按数据中心。",
    ),
    [prometheus("wattline_figures_lag_seconds", "{{site}}")],
    unit="s",
    soft_min=0,
)
QUEUES = Panel(
    "timeseries",
    Text("Queues", "队列长度"),
    Text(
        "Points to sum up, meters to look at, messages to send, reports to make.",
        "待汇总测点、待检查电表、待发送消息、待生成报告。",
    ),
    [prometheus("wattline_queue_entries", "{{queue}}")],
    unit="short",
    soft_min=0,
)
JOBS = Panel(
    "bargauge",
    Text("Since jobs last ended well", "任务距上次成功"),
    Text("By job; daily ones have a day.", "按任务；每日任务以一天为限。"),
    [prometheus("time() - wattline_job_last_success_timestamp_seconds", "{{job}}", instant=True)],
    unit="s",
)
BUSY = Panel(
    "timeseries",
    Text("How busy the worker is", "工作负荷"),
    Text(
        "Share of the last two minutes in which the busiest job was at work; at 100 % it does not keep up.",
        "最近两分钟内最忙任务的占用比例；达到 100% 即无法跟上。",
    ),
    [prometheus("wattline_worker_busy_ratio", "busy")],
    unit="percentunit",
    soft_min=0,
    fill=10,
)

BOARD = Board(
    "quality",
    Text("Wattline: data quality and collectors", "Wattline：数据质量与采集"),
    Text("Data quality and state of the collectors.", "数据质量与采集状态。"),
    [
        Row(4, [Cell(p, 4) for p in (UP, SILENT, COVERAGE, FINDINGS, DROPPED, SPOOL)]),
        Row(10, [Cell(HEALTH, 14), Cell(LATENESS, 10)]),
        Row(13, [Cell(MAP, 24)]),
        Row(10, [Cell(LIST, 15), Cell(KINDS, 9)]),
        Row(8, [Cell(ESTIMATED, 12), Cell(STORED, 12)]),
        Row(8, [Cell(POLLS, 8), Cell(REQUESTS, 8), Cell(AGE, 8)]),
        Row(8, [Cell(p, 6) for p in (LAG, QUEUES, JOBS, BUSY)]),
    ],
    ["site", "room"],
    "now-14d",
    marks=OF_SITE,
)
