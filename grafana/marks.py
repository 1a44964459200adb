"""What is marked on the charts: alarms, and what people declared about meters."""

from __future__ import annotations

from grafana.kit import Marks
from grafana.words import RED, Text

_ALARMS = """
    SELECT fired_at AS time, coalesce(resolved_at, $__timeTo()::timestamptz) AS "timeEnd",
    concat_ws(' ', {site} @rule:rule@, nullif(document ->> 'subject', '')) AS text, severity AS tags
    FROM v_alarms WHERE {where} AND fired_at < $__timeTo()::timestamptz
    AND coalesce(resolved_at, 'infinity') > $__timeFrom()::timestamptz ORDER BY 1
"""
_EVENTS = """
    SELECT start_at AS time, end_at AS "timeEnd",
    concat_ws(' ', {site} coalesce(point, meter), @event:kind@, nullif(note, '')) AS text, kind AS tags
    FROM v_event WHERE {where} AND start_at < $__timeTo()::timestamptz
    AND end_at >= $__timeFrom()::timestamptz ORDER BY 1
"""
_OF_SITE = {"site": "", "where": "site = ${site:sqlstring}"}
_OF_ALL = {"site": "site,", "where": "true"}
_NAMES = (Text("Alarms", "告警"), Text("Meter events", "仪表事件"))
_COLORS = (RED, "#8ab8ff")

OF_SITE = tuple(
    Marks(name, sql.format(**_OF_SITE), color)
    for name, sql, color in zip(_NAMES, (_ALARMS, _EVENTS), _COLORS, strict=True)
)
"""Of the site that the board shows."""
OF_ALL = tuple(
    Marks(name, sql.format(**_OF_ALL), color)
    for name, sql, color in zip(_NAMES, (_ALARMS, _EVENTS), _COLORS, strict=True)
)
"""Of all sites."""
