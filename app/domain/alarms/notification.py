"""Routing of alarm notifications by channel and time: the ``notifications`` section of the site file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo, available_timezones

from app.domain.address import METADATA, is_in, network, plain
from app.domain.alarms.alarm import Severity, Transition
from app.domain.report_route import ReportFormat, ReportRoute, formats_by_channel
from app.domain.site import check_id

_STRICT = {"extra": "forbid"}
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


class ChannelKind(StrEnum):
    """How a message travels."""

    MAIL = "mail"
    """Mail over SMTP."""
    WEBHOOK = "webhook"
    """JSON over HTTP, signed where there is a secret."""
    SLACK = "slack"
    """Slack, by an incoming webhook."""
    DINGTALK = "dingtalk"
    """DingTalk robot."""
    WECOM = "wecom"
    """WeCom (WeChat Work) robot."""
    FEISHU = "feishu"
    """Feishu (Lark) robot."""
    ALERTMANAGER = "alertmanager"
    """Prometheus Alertmanager, API v2; it groups and repeats by itself."""
    APPRISE = "apprise"
    """Any other service that Apprise knows, by its URL."""


class Language(StrEnum):
    """Language of a message."""

    ZH = "zh"
    """Chinese."""
    EN = "en"
    """English."""


class MailSecurity(StrEnum):
    """How the way to the mail server is protected."""

    STARTTLS = "starttls"
    """Plain connection that must change to TLS before anything is sent."""
    TLS = "tls"
    """TLS from the start."""
    NONE = "none"
    """No protection; for a relay on the same machine."""


class What(StrEnum):
    """What a message says."""

    FIRE = "fire"
    ESCALATE = "escalate"
    EASE = "ease"
    """Less bad, not over; only for receivers that keep a state of their own."""
    RESOLVE = "resolve"
    HANDOVER = "handover"
    """Another alarm says it now; only for receivers that keep a state of their own."""
    REPEAT = "repeat"
    REPORT = "report"
    """A report was closed, or revised."""
    WATCHDOG = "watchdog"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class QuietHours:
    """Hours in which only what is critical is sent; the rest waits for their end."""

    __pydantic_config__ = _STRICT
    start: str
    """Local time at which they begin, quoted. E.g. ``"22:00"``."""
    end: str
    """Local time at which they end, quoted; not after `start` means on the next day. E.g. ``"07:00"``."""
    time_zone: str
    """IANA name of the zone these times are of. E.g. ``Asia/Shanghai``."""

    def __post_init__(self) -> None:
        for text in (self.start, self.end):
            if not _CLOCK.fullmatch(text):
                raise ValueError(f'{text!r} is no time of day; write it quoted, like "22:00"')
        if self.time_zone not in available_timezones():
            raise ValueError(f"unknown time_zone {self.time_zone!r}; use an IANA name such as Asia/Shanghai")

    def until(self, at: datetime) -> datetime | None:
        """End of the quiet hours in which `at` lies; None outside of them."""
        local = at.astimezone(ZoneInfo(self.time_zone))
        start, end = time.fromisoformat(self.start), time.fromisoformat(self.end)
        for day in (local.date() - timedelta(days=1), local.date()):
            first = datetime.combine(day, start, tzinfo=local.tzinfo)
            last = datetime.combine(day + timedelta(days=end <= start), end, tzinfo=local.tzinfo)
            if first <= local < last:
                return last.astimezone(at.tzinfo)
        return None


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One way to reach people; secrets stand in files of their own, named by the ``_file`` keys."""

    __pydantic_config__ = _STRICT
    id: str
    """Identifier; routes name it. E.g. ``duty``."""
    kind: ChannelKind
    """How messages travel; it decides which of the other keys are needed."""
    lang: Language = Language.ZH
    """Language of the messages."""
    url: str = ""
    """Of webhook and alertmanager, or of a gateway in place of the public one of a chat. E.g.
    ``https://tickets.bank.example/hook``."""
    url_file: str = ""
    """File with the URL, where the URL itself is the secret: chats and Apprise. E.g.
    ``/run/secrets/dingtalk_url``."""
    secret_file: str = ""
    """File with the key that signs (webhook, dingtalk, feishu). E.g. ``/run/secrets/dingtalk_secret``."""
    host: str = ""
    """Mail server. E.g. ``mail.bank.example``."""
    port: int = 0
    """Port of the mail server; 0: 587, or 465 for ``security: tls``, or 25 for ``security: none``. E.g.
    ``2525``."""
    security: MailSecurity = MailSecurity.STARTTLS
    """How the connection to the mail server is protected."""
    user: str = ""
    """User at the mail server; empty: none. E.g. ``wattline``."""
    password_file: str = ""
    """File with the password of that user. E.g. ``/run/secrets/mail``."""
    sender: str = ""
    """Sender address of mails. E.g. ``wattline@bank.example``."""
    to: tuple[str, ...] = ()
    """Addresses mails go to. E.g. ``[duty@bank.example]``."""
    quiet: QuietHours | None = None
    """Hours in which only critical alarms are sent."""
    repeat_s: float = 14_400.0
    """How often an alarm that fires and nobody acknowledged is repeated; 0: never. [s] E.g. ``3600``."""
    most_per_hour: int = 60
    """Most messages in an hour; further ones wait and are grouped. E.g. ``20``."""

    def __post_init__(self) -> None:
        check_id(self.id)
        missing = [key for key in _NEEDED[self.kind] if not any(getattr(self, k) for k in key.split("|"))]
        if missing:
            raise ValueError(
                f"channel {self.id} of kind {self.kind} needs {' or '.join(missing[0].split('|'))}"
            )
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url {self.url!r} must begin with https:// or http://")
        if not 0 <= self.port <= 65535 or self.most_per_hour < 1 or self.repeat_s < 0:
            raise ValueError("port is 0 to 65535, most_per_hour 1 or more, repeat_s 0 or more")
        for address in (*self.to, *filter(None, [self.sender])):
            if not re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", address):
                raise ValueError(f"{address!r} is no mail address")

    @property
    def keeps_state(self) -> bool:
        """Whether the receiver gets every change, and repeats by itself."""
        return self.kind is ChannelKind.ALERTMANAGER


_CHAT = ("url|url_file",)
_NEEDED: dict[ChannelKind, tuple[str, ...]] = {
    ChannelKind.MAIL: ("host", "sender", "to"),
    ChannelKind.WEBHOOK: _CHAT,
    ChannelKind.SLACK: ("url_file",),
    ChannelKind.DINGTALK: _CHAT,
    ChannelKind.WECOM: _CHAT,
    ChannelKind.FEISHU: _CHAT,
    ChannelKind.ALERTMANAGER: ("url",),
    ChannelKind.APPRISE: ("url_file",),
}


@dataclass(frozen=True, kw_only=True)
class Route:
    """Which alarms go to which channels; conditions left out do not matter."""

    __pydantic_config__ = _STRICT
    channels: tuple[str, ...]
    """Ids of the channels. E.g. ``[duty, robot]``."""
    sites: tuple[str, ...] = ()
    """Only alarms of these sites. E.g. ``[sh1]``."""
    severities: tuple[Severity, ...] = ()
    """Only alarms of these severities. E.g. ``[critical]``."""
    rules: tuple[str, ...] = ()
    """Only alarms of these rules. E.g. ``[pue_24h]``."""

    def takes(self, site: str, severity: Severity, rule: str) -> bool:
        """Whether an alarm goes this way."""
        return (
            (not self.sites or site in self.sites)
            and (not self.severities or severity in self.severities)
            and (not self.rules or rule in self.rules)
        )


@dataclass(frozen=True, kw_only=True)
class Watchdog:
    """A message that says all is well; its absence is the alarm of whoever expects it."""

    __pydantic_config__ = _STRICT
    channels: tuple[str, ...]
    """Ids of the channels it goes to. E.g. ``[duty]``."""
    every_s: float = 86_400.0
    """How often; at least 60. [s] E.g. ``86400``."""

    def __post_init__(self) -> None:
        if not self.every_s >= 60:
            raise ValueError("every_s must be 60 or more")


@dataclass(frozen=True, kw_only=True)
class Notifications:
    """The ``notifications`` section of the site file."""

    __pydantic_config__ = _STRICT
    channels: tuple[Channel, ...] = ()
    """The ways to reach people."""
    routes: tuple[Route, ...] = ()
    """Which alarms go where; without any, every alarm goes to every channel."""
    watchdog: Watchdog | None = None
    """A regular message that all is well; absent: none."""
    reports: tuple[ReportRoute, ...] = ()
    """Who is sent the closed reports; without any, nobody."""
    allowed_networks: tuple[str, ...] = ()
    """Private networks that messages may be sent to; public ones always may. E.g. ``[10.20.0.0/16]``."""
    group_wait_s: float = 5.0
    """How long a message waits for others to join it; 0 to 3600. [s] E.g. ``30``."""
    dedup_s: float = 300.0
    """A message whose delivery is in doubt is not sent again before this; 1 to 86400. [s] E.g. ``300``."""
    board_url: str = ""
    """Address of the boards as people reach it; links begin with it. E.g.
    ``https://boards.bank.example/d/site``."""
    pages_url: str = ""
    """Address of Wattline's own pages as people reach it; messages about reports link there. E.g.
    ``https://wattline.bank.example``."""
    runbook_url: str = "docs/how-to/alarm-runbook.md"
    """Address of the runbook; messages link to the entry of their rule. E.g.
    ``https://wiki.bank.example/runbook``."""

    def __post_init__(self) -> None:
        names = [channel.id for channel in self.channels]
        if len(set(names)) != len(names):
            raise ValueError("channels: an id is used twice; channel ids are unique")
        for name in self._named():
            if name not in names:
                raise ValueError(f"unknown channel {name!r}; known are {', '.join(names) or 'none'}")
        for name in {name for route in self.reports for name in route.channels}:
            if self._keeps_state(name):
                raise ValueError(f"reports: channel {name!r} takes only alarms; use one of another kind")
        for text in self.allowed_networks:
            network(text)
        if not 0 <= self.group_wait_s <= 3600 or not 1 <= self.dedup_s <= 86_400:
            raise ValueError("group_wait_s is 0 to 3600, dedup_s 1 to 86400")

    def _named(self) -> Iterator[str]:
        for route in self.routes:
            yield from route.channels
        for sent in self.reports:
            yield from sent.channels
        if self.watchdog is not None:
            yield from self.watchdog.channels

    def channel(self, name: str) -> Channel | None:
        """The channel of that id."""
        return next((c for c in self.channels if c.id == name), None)

    def _keeps_state(self, name: str) -> bool:
        channel = self.channel(name)
        return channel is not None and channel.keeps_state

    def readers(self, of: str, *, of_institution: bool) -> dict[Channel, tuple[ReportFormat, ...]]:
        """Channels that get a finalised report, with their formats."""
        found = formats_by_channel(self.reports, of, of_institution=of_institution)
        return {c: found[c.id] for c in self.channels if c.id in found}

    def receivers(self, site: str, severity: Severity, rule: str) -> tuple[Channel, ...]:
        """Channels that get an alarm, in the order of their declaration."""
        if not self.routes:
            return self.channels
        chosen = {name for r in self.routes if r.takes(site, severity, rule) for name in r.channels}
        return tuple(c for c in self.channels if c.id in chosen)


def refusal(text: str, allowed_networks: tuple[str, ...]) -> str | None:
    """Why nothing may be sent to an address; None where it may.

    Parameters
    ----------
    text : str
        The address of the connection itself, after names were resolved.
    allowed_networks : tuple of str
        Networks that are allowed though they are not public.
    """
    address = plain(text)
    if is_in(address, map(network, allowed_networks)):
        return None
    if address.is_global and not address.is_multicast and address not in METADATA:
        return None
    return f"{text} is not a public address; add its network to notifications.allowed_networks if it is yours"


@dataclass(frozen=True, slots=True)
class Silence:
    """A stretch of time in which somebody does not want to hear of something; empty fields fit all."""

    start: datetime
    end: datetime
    site: str = ""
    rule: str = ""
    subject: str = ""
    comment: str = ""

    def covers(self, site: str, rule: str, subject: str, at: datetime) -> bool:
        """Whether an alarm is silent at an instant."""
        return (
            self.start <= at < self.end
            and self.site in ("", site)
            and self.rule in ("", rule)
            and self.subject in ("", subject)
        )


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to one channel about one alarm."""

    channel: str
    what: What
    dedup_key: str
    not_before: datetime
    severity: Severity | None
    payload: dict[str, object] = field(default_factory=dict)
    site_id: int = 0
    """Number of the site in the store; 0: none."""
    alarm_id: int | None = None


def what_of(change: Transition) -> What | None:
    """What is said about a transition; None where nothing is."""
    if change.fires:
        return What.FIRE
    if change.resolves:
        return What.HANDOVER if change.is_handed_over else What.RESOLVE
    if change.escalates:
        return What.ESCALATE
    return What.EASE if change.eases else None


def earliest(channel: Channel, severity: Severity | None, at: datetime) -> datetime:
    """When a message may be sent, by the channel's quiet hours."""
    if channel.quiet is None or severity is Severity.CRITICAL:
        return at
    return channel.quiet.until(at) or at
