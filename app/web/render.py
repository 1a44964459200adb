"""Templates to pages: language, theme, form token, security headers."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app import __version__
from app.charts import live as charts
from app.domain import figure
from app.domain.access import KEY_COOKIE, cookie_name
from app.domain.asked import COMPARISONS
from app.domain.period import Period
from app.web import format, words

LANGUAGE_COOKIE, THEME_COOKIE, FORM_COOKIE = "wattline_lang", "wattline_theme", "wattline_form"
OFFERED = ("24h", "7d", "30d", "mtd", "ytd", "12mo")
"""Windows of the period bar; the shorter ones can be asked for, too."""
FORM_FIELD = "form_id"
"""Hidden field of every form; its value is that of the cookie, which other origins cannot read."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_YEAR_S = 31_536_000
_HERE = Path(__file__).parent


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["merge"] = merged
    environment.globals.update(
        number=format.number,
        alarm_figure=format.alarm,
        drift_sentence=format.drift,
        energy=format.energy,
        power=format.power,
        signed=format.signed,
        unit=format.unit,
        moment=format.moment,
        decimals=figure.decimals,
        charts=charts,
        combined=_combined,
        offered_windows=OFFERED,
        version=__version__,
        style=f"/static/style.css?v={_digest('style.css')}",
        scripts=[f"/static/{name}?v={_digest(name)}" for name in ("page.js", "plot.js")],
        languages=words.LANGUAGES,
    )
    return environment


def warm_up() -> None:
    """Compile the templates and read the texts, so that no visitor waits for it."""
    environment = _environment()
    for name in environment.list_templates():
        environment.get_template(name)
    for language in words.LANGUAGES:
        words.texts(language)
        words.patterns(language)


def _digest(name: str) -> str:
    return hashlib.sha256((_HERE / "static" / name).read_bytes()).hexdigest()[:12]


def language_of(request: Request) -> str:
    """The language in which the visitor reads."""
    asked, kept = request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)
    return words.chosen(asked, kept, request.headers.get("accept-language", ""))


def page(request: Request, template: str, context: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
    """A page from its template."""
    language = language_of(request)
    translate = words.Words(language)
    form_token = cookie(request, FORM_COOKIE) or secrets.token_urlsafe(24)
    text = (
        _environment()
        .get_template(template)
        .render(
            _=translate,
            lang=language,
            theme=_theme(request),
            form_token=masked(form_token),
            url=partial(url, language),
            base=str(request.base_url).rstrip("/"),
            here=partial(_here, request),
            signed_in=bool(cookie(request, KEY_COOKIE)),
            age=partial(_age, translate),
            redefined=_redefined(request, context.get("site")),
            failed_months=_failed_months(request, context.get("site")),
            share=partial(format.share, sign=translate("percent:sign")),
            zone_label=partial(format.zone_label, at=context.get("now") or datetime.now(UTC)),
            local=partial(format.local, brackets=translate.text("mark:brackets")),
            zoned=partial(format.moment, brackets=translate.text("mark:brackets")),
            period=partial(_period, translate),
            span_of=partial(_span_of, translate),
            **context,
        )
    )
    answer = HTMLResponse(text, status, {"Content-Security-Policy": POLICY})
    if request.query_params.get("lang") == language:
        answer.set_cookie(LANGUAGE_COOKIE, language, max_age=_YEAR_S, samesite="lax")
    if not cookie(request, FORM_COOKIE):
        keep_cookie(request, answer, FORM_COOKIE, form_token)
    return answer


def masked(token: str) -> str:
    """A form token that is different in every page: how well a page is compressed says nothing about it."""
    salt = secrets.token_urlsafe(9)
    return f"{salt}.{_tag(salt, token)}"


def unmasked(sent: str, token: str) -> str:
    """The `token` if `sent` was made of it, else `sent` as it is."""
    salt, _, tag = sent.partition(".")
    return token if hmac.compare_digest(tag.encode(), _tag(salt, token).encode()) else sent


def _tag(salt: str, token: str) -> str:
    return hmac.new(token.encode(), salt.encode(), hashlib.sha256).hexdigest()[:32]


def _failed_months(request: Request, site: Any) -> list[str]:
    """Months of a page's site whose findings could not be looked for."""
    name = getattr(site, "id", None)
    return list(request.app.state.failed_months(name)) if name else []


def _redefined(request: Request, site: Any) -> int:
    """Stretches of a page's site whose figures are still those of an earlier definition."""
    name = getattr(site, "id", None)
    return int(request.app.state.redefined(name)) if name else 0


def cookie(request: Request, name: str) -> str:
    """A cookie that no script reads, as :func:`keep_cookie` has set it; empty where there is none."""
    return request.cookies.get(cookie_name(name, request.url.scheme == "https"), "")


def keep_cookie(request: Request, answer: Response, name: str, value: str) -> None:
    """Have the browser keep a cookie that no script reads and no other site sends."""
    secure = request.url.scheme == "https"
    answer.set_cookie(cookie_name(name, secure), value, httponly=True, samesite="lax", secure=secure)


def drop_cookie(request: Request, answer: Response, name: str) -> None:
    """Have the browser forget it."""
    secure = request.url.scheme == "https"
    answer.delete_cookie(cookie_name(name, secure), httponly=True, samesite="lax", secure=secure)


def _theme(request: Request) -> str:
    kept = request.cookies.get(THEME_COOKIE, "")
    return kept if kept in ("light", "dark") else ""


def _age(translate: words.Words, span: Any) -> str:
    count, text = format.age(span)
    return translate(text, n=count)


def _period(translate: words.Words, start: str, end: str, zone: tzinfo) -> str:
    """A stretch of time in the site's zone, with both of its ends."""
    first, last = (datetime.fromisoformat(text) for text in (start, end))
    return translate(
        "{start} to {end}",
        start=f"{first.astimezone(zone):%Y-%m-%d %H:%M}",
        end=format.local(last, zone, translate.text("mark:brackets")),
    )


def _span_of(translate: words.Words, span: Period, zone: tzinfo) -> str:
    """A period in the site's zone: by its days where it has whole ones."""
    first, last = (at.astimezone(zone) for at in (span.start, span.end))
    if not (first.hour or first.minute or last.hour or last.minute):
        until = (span.end - timedelta(microseconds=1)).astimezone(zone)
        texts = [f"{first:%Y-%m-%d}", f"{until:%Y-%m-%d}"]
        return (
            texts[0] if texts[0] == texts[1] else translate("{start} to {end}", start=texts[0], end=texts[1])
        )
    return _period(translate, span.start.isoformat(), span.end.isoformat(), zone)


def merged(query: Mapping[str, object], **changed: object) -> dict[str, object]:
    """Parameters of an address with some of them changed, without the empty ones."""
    return {name: value for name, value in {**query, **changed}.items() if value != ""}


def _combined(compare: str | None) -> dict[str, str]:
    """The comparison as a parameter of another period's address, where it fits any period."""
    return {"compare": compare} if compare in COMPARISONS else {}


def url(language: str, path: str, **query: object) -> str:
    """An address within the pages that keeps the language."""
    return f"{path}?{urlencode({**query, 'lang': language})}"


def _here(request: Request, **query: object) -> str:
    """The address of this page with some of its parameters changed."""
    return f"{request.url.path}?{urlencode({**request.query_params, **query})}"
