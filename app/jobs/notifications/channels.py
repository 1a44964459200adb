"""Send one message over one channel: Apprise for mail, Slack and the rest; our own where the answer matters.

The robots of DingTalk, WeCom and Feishu answer 200 to what they refuse, with the reason in the body;
Apprise takes that as sent, and cannot sign for Feishu. A webhook is signed, and Alertmanager has an
interface of its own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from app.domain.alarms.notification import Channel, ChannelKind, Language, MailSecurity, Notifications, What
from app.domain.alarms.text import Payload, body, gathered, title
from app.errors import DeliveryFailed
from app.jobs.notifications.outbound import guarded

CONNECT_S, READ_S = 5.0, 10.0
ALERTMANAGER_SHORTEST = timedelta(minutes=10)
_AGENT = "wattline"


@dataclass(frozen=True, slots=True)
class File:
    """A file that goes with a message."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to say, with the key by which receivers can tell that they know it."""

    what: What
    key: str
    payload: Payload
    files: tuple[File, ...] = ()
    """Only mail brings them."""


def send(channel: Channel, items: Sequence[Item], settings: Notifications, now: datetime) -> None:
    """Send a message about some alarms; returns when the receiver took it.

    Parameters
    ----------
    channel : Channel
        Where to.
    items : sequence of Item
        In order.
    settings : Notifications
        Says which networks are allowed.
    now : datetime
        For signatures, and for the expiry of alerts in Alertmanager.

    Raises
    ------
    DeliveryFailed
        If it was not taken, or the target is not allowed.
    """
    with guarded(settings.allowed_networks) as watch:
        try:
            _SENDERS[channel.kind](channel, items, now)
        except (DeliveryFailed, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            reason = "; ".join(dict.fromkeys(watch.refused)) or _reason(error)
            raise DeliveryFailed(f"channel {channel.id}: {reason}") from None


def _reason(error: Exception) -> str:
    """What went wrong, without the address: with chats it is the secret."""
    if isinstance(error, DeliveryFailed):
        return str(error)
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, FileNotFoundError | PermissionError):
        return f"{error.filename}: {error.strerror}; check the _file keys of the channel"
    return (
        f"{type(error).__name__}: the receiver cannot be reached"
        if isinstance(error, httpx.HTTPError)
        else (error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__)
    )


def fits(channel: Channel, items: Sequence[Item]) -> int:
    """How many of the items, from the first, one message can hold; at least one."""
    most = MOST_BYTES[channel.kind]
    if most is None:
        return min(len(items), MOST_ITEMS)
    low, high = 1, len(items)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _size(channel, items[:middle]) <= most else (low, middle - 1)
    return low


MOST_ITEMS = 500
MOST_BYTES: dict[ChannelKind, int | None] = {
    ChannelKind.MAIL: 500_000,
    ChannelKind.WEBHOOK: None,
    ChannelKind.SLACK: 30_000,
    ChannelKind.DINGTALK: 16_000,
    ChannelKind.WECOM: 2_000,
    ChannelKind.FEISHU: 16_000,
    ChannelKind.ALERTMANAGER: None,
    ChannelKind.APPRISE: 2_000,
}
"""Longest text that a channel takes whole; None: not a text. [B]"""


def _size(channel: Channel, items: Sequence[Item]) -> int:
    return len(_text(channel, items).encode())


def _gathered(channel: Channel, items: Sequence[Item]) -> tuple[str, str]:
    return gathered([(item.what, item.payload) for item in items], channel.lang)


def _text(channel: Channel, items: Sequence[Item]) -> str:
    return "\n".join(_gathered(channel, items))


def _clipped(channel: Channel, items: Sequence[Item]) -> str:
    """The text, cut where even one item is too long for the channel."""
    text, most = _text(channel, items), MOST_BYTES[channel.kind]
    return text.encode()[:most].decode("utf-8", "ignore")


def _secret(file: str) -> str:
    return Path(file).read_text(encoding="utf-8").strip()


def _url(channel: Channel) -> str:
    return _secret(channel.url_file) if channel.url_file else channel.url


# -- our own -----------------------------------------------------------------------------------------


def _post(url: str, content: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    """POST JSON; redirects are answers, not followed."""
    timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
    sent = {"Content-Type": "application/json", "User-Agent": _AGENT, **(headers or {})}
    with httpx.Client(timeout=timeout, follow_redirects=False) as client:
        answer = client.post(url, content=content, headers=sent)
    if not answer.is_success:
        said = "" if answer.is_redirect else answer.text[:200]
        raise DeliveryFailed(f"the receiver answered {answer.status_code} {said}".strip())
    return answer


def _json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def signature(secret: str, timestamp: str, content: bytes) -> str:
    """What a webhook's receiver compares: HMAC-SHA256 of ``timestamp.body``, in hexadecimal."""
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + content, hashlib.sha256).hexdigest()


def _webhook(channel: Channel, items: Sequence[Item], now: datetime) -> None:
    content = _json({"version": 1, "messages": [_webhook_item(channel.lang, item) for item in items]})
    keys = hashlib.sha256("\n".join(item.key for item in items).encode()).hexdigest()
    headers = {"Idempotency-Key": keys}
    if channel.secret_file:
        stamp = str(int(now.timestamp()))
        signed = signature(_secret(channel.secret_file), stamp, content)
        headers |= {"X-Wattline-Timestamp": stamp, "X-Wattline-Signature": f"sha256={signed}"}
    _post(_url(channel), content, headers)


def _webhook_item(lang: Language, item: Item) -> dict[str, Any]:
    texts = {"title": title(item.what, item.payload, lang), "text": body(item.what, item.payload, lang)}
    about = "report" if item.what is What.REPORT else "alarm"
    return {"id": item.key, "what": item.what.value, **texts, about: dict(item.payload)}


def _chat(url: str, document: dict[str, Any]) -> None:
    """POST to a robot; what it says in the body counts, not only the status."""
    answer = _post(url, _json(document)).json()
    code = next((answer[k] for k in ("errcode", "code", "StatusCode") if k in answer), None)
    if code != 0:
        said = answer.get("errmsg") or answer.get("msg") or answer.get("StatusMessage")
        raise DeliveryFailed(f"the robot answered {code}: {said}")


def _dingtalk(channel: Channel, items: Sequence[Item], now: datetime) -> None:
    url = httpx.URL(_url(channel))
    if channel.secret_file:
        secret, stamp = _secret(channel.secret_file), str(int(now.timestamp() * 1000))
        digest = hmac.new(secret.encode(), f"{stamp}\n{secret}".encode(), hashlib.sha256).digest()
        url = url.copy_merge_params({"timestamp": stamp, "sign": base64.b64encode(digest).decode()})
    _chat(str(url), {"msgtype": "text", "text": {"content": _clipped(channel, items)}})


def _wecom(channel: Channel, items: Sequence[Item], now: datetime) -> None:
    _chat(_url(channel), {"msgtype": "text", "text": {"content": _clipped(channel, items)}})


def _feishu(channel: Channel, items: Sequence[Item], now: datetime) -> None:
    document: dict[str, Any] = {"msg_type": "text", "content": {"text": _clipped(channel, items)}}
    if channel.secret_file:
        stamp = str(int(now.timestamp()))
        key = f"{stamp}\n{_secret(channel.secret_file)}".encode()
        sign = base64.b64encode(hmac.new(key, b"", hashlib.sha256).digest()).decode()
        document |= {"timestamp": stamp, "sign": sign}
    _chat(_url(channel), document)


def _alertmanager(channel: Channel, items: Sequence[Item], now: datetime) -> None:
    """Push the state of every alarm to the v2 interface; the last word about an alert counts."""
    alerts: dict[str, dict[str, Any]] = {}
    for item in items:
        for alert in alerts_of(item, channel, now):
            alerts[json.dumps(alert["labels"], sort_keys=True)] = alert
    url = _url(channel).rstrip("/") + "/api/v2/alerts"
    _post(url, _json(list(alerts.values())))


def alerts_of(item: Item, channel: Channel, now: datetime) -> Iterator[dict[str, Any]]:
    """The alerts that an item changes: with another severity the alert is another one to Alertmanager."""
    alarm = item.payload
    if item.what in (What.TEST, What.WATCHDOG):
        name = "WattlineTest" if item.what is What.TEST else "WattlineWatchdog"
        yield _alert({"alertname": name, "severity": "none"}, item, channel, now, now + ALERTMANAGER_SHORTEST)
        return
    names = {"site": alarm["site"], "subject": alarm.get("subject"), "window": alarm.get("window")}
    labels = {"alertname": alarm["rule"], **{k: v for k, v in names.items() if v}}
    severity = str(alarm["severity"])
    ended = _instant(alarm.get("until")) if item.what in (What.RESOLVE, What.HANDOVER) else None
    lasts = max(
        timedelta(seconds=2 * channel.repeat_s) if channel.repeat_s else timedelta(days=365),
        ALERTMANAGER_SHORTEST,
    )
    for other in {"warning", "critical"} - {severity}:
        if item.what is not What.FIRE and item.what is not What.REPEAT:
            yield _alert({**labels, "severity": other}, item, channel, now, ended or now)
    yield _alert({**labels, "severity": severity}, item, channel, now, ended or now + lasts)


def _alert(
    labels: dict[str, Any], item: Item, channel: Channel, now: datetime, ends: datetime
) -> dict[str, Any]:
    alarm = item.payload
    texts = {
        "summary": title(item.what, alarm, channel.lang),
        "description": body(item.what, alarm, channel.lang),
    }
    links = alarm.get("links") or {}
    facts = {"moved": alarm.get("moved"), "runbook_url": links.get("runbook")}
    begins = min(_instant(alarm.get("since")) or now, ends)
    return {
        "labels": {name: str(value) for name, value in labels.items()},
        "annotations": {**texts, **{k: str(v) for k, v in facts.items() if v}},
        "startsAt": begins.isoformat(),
        "endsAt": ends.isoformat(),
        "generatorURL": links.get("board", ""),
    }


def _instant(text: object) -> datetime | None:
    return datetime.fromisoformat(str(text)).astimezone(UTC) if text else None


# -- through Apprise ---------------------------------------------------------------------------------


_PORTS = {MailSecurity.STARTTLS: 587, MailSecurity.TLS: 465, MailSecurity.NONE: 25}
_MODES = {MailSecurity.STARTTLS: "starttls", MailSecurity.TLS: "ssl", MailSecurity.NONE: "insecure"}


def _mail(channel: Channel, items: Sequence[Item], now: datetime) -> None:
    from apprise.plugins.email import NotifyEmail  # slow to import, and not needed by every process

    make: Callable[..., Any] = NotifyEmail
    plugin = make(
        smtp_host=channel.host,
        host=channel.host,
        port=channel.port or _PORTS[channel.security],
        secure=channel.security is not MailSecurity.NONE,
        secure_mode=_MODES[channel.security],
        user=channel.user or None,
        password=_secret(channel.password_file) if channel.password_file else None,
        from_addr=f"Wattline <{channel.sender}>",
        targets=list(channel.to),
        headers={"X-Wattline-Key": items[0].key, "Auto-Submitted": "auto-generated"},
        format="text",
        rto=READ_S,
        cto=CONNECT_S,
    )
    _notify(plugin, *_gathered(channel, items), [file for item in items for file in item.files])


def _by_url(channel: Channel, items: Sequence[Item], now: datetime) -> None:
    from apprise import Apprise

    plugin = Apprise.instantiate(_url(channel), suppress_exceptions=True)
    if plugin is None:
        raise DeliveryFailed(f"the URL in {channel.url_file} is not one that Apprise knows")
    plugin.redirects = False
    plugin.socket_connect_timeout, plugin.socket_read_timeout = CONNECT_S, READ_S
    _notify(plugin, *_gathered(channel, items))


def _notify(plugin: Any, subject: str, text: str, files: Sequence[File] = ()) -> None:
    """Send with Apprise, which says why not only in its log."""
    with _captured() as said:
        taken = plugin.notify(body=text, title=subject, body_format="text", attach=_attached(files))
    if not taken:
        raise DeliveryFailed("; ".join(said) or "not taken")


def _attached(files: Sequence[File]) -> Any:
    """The files as Apprise takes them; None where there are none."""
    from apprise import AppriseAttachment
    from apprise.attachment.memory import AttachMemory

    make: Callable[..., Any] = AttachMemory
    parts = [make(content=f.content, name=f.name, mimetype=f.media_type) for f in files]
    return AppriseAttachment(parts) if parts else None


class _WarningCapture(logging.Handler):
    """Keeps what Apprise warns of in one thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.said.append(record.getMessage())


@contextmanager
def _captured() -> Iterator[list[str]]:
    ear, log = _WarningCapture(), logging.getLogger("apprise")
    log.addHandler(ear)
    try:
        yield ear.said
    finally:
        log.removeHandler(ear)


_SENDERS: dict[ChannelKind, Callable[[Channel, Sequence[Item], datetime], None]] = {
    ChannelKind.MAIL: _mail,
    ChannelKind.WEBHOOK: _webhook,
    ChannelKind.SLACK: _by_url,
    ChannelKind.DINGTALK: _dingtalk,
    ChannelKind.WECOM: _wecom,
    ChannelKind.FEISHU: _feishu,
    ChannelKind.ALERTMANAGER: _alertmanager,
    ChannelKind.APPRISE: _by_url,
}
