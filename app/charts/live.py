"""Light charts as inline SVG: they take their colours from the stylesheet and the width they get.

Lines and areas lie in a nested drawing that is stretched; texts stand beside it in per cent, so they
keep their size. Nothing needs inline styles, which the pages' content security policy forbids.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

from markupsafe import Markup, escape

WIDTH, HEIGHT = 1000.0, 100.0
"""Size of the stretched drawing."""


@dataclass(frozen=True)
class Axis:
    """A range of values on round numbers."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def around(cls, values: Iterable[float], *, floor: float | None = None, ticks: int = 4) -> Axis:
        """The range of `values`, widened to round numbers; it begins at `floor` where one is given."""
        known = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
        low = min(known) if floor is None else floor
        high = max([*known, low])
        step = _round_step((high - low or abs(high) or 1.0) / ticks)
        first, last = math.floor(low / step), math.ceil(high / step)
        last = max(last, first + 1)
        return cls(first * step, last * step, tuple(i * step for i in range(first, last + 1)))

    def y(self, value: float) -> float:
        """Place of a value in the drawing, from the top."""
        return HEIGHT * (1 - (value - self.low) / (self.high - self.low))

    def digits(self) -> int:
        """Decimals that tell its ticks apart."""
        step = self.ticks[1] - self.ticks[0]
        return max(0, -math.floor(math.log10(step) + 1e-9))


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)


@dataclass(frozen=True)
class Span:
    """The time a chart covers."""

    start: datetime
    end: datetime

    def ratio(self, at: datetime) -> float:
        """Place of an instant, 0 at the start and 1 at the end."""
        return (at - self.start) / (self.end - self.start)

    def x(self, at: datetime) -> float:
        """Place of an instant in the drawing."""
        return WIDTH * self.ratio(at)


@dataclass(frozen=True)
class Bar:
    """One step of a chart: values by series, or None where they are not known."""

    start: datetime
    end: datetime
    values: Mapping[str, float | None]
    title: str = ""
    estimated_ratio: float = 0.0
    """Share of its energy that is an estimate."""


@dataclass(frozen=True)
class Mark:
    """Something that happened, shown on the time axis."""

    at: datetime
    kind: str
    title: str


@dataclass(frozen=True)
class ChartFrame:
    """What stands around a chart."""

    title: str
    unit: str = ""
    height: int = 150
    label: Callable[[datetime], str] = field(default=lambda at: f"{at:%H:%M}")
    labels: Sequence[datetime] = ()
    """Instants with a label on the time axis."""
    zone: str = "UTC"
    """IANA name of the zone in which values are read."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Series -> what it is called where values are read; those without a name are not read."""
    digits: int = 1
    """Decimals of values that are read."""
    until: datetime | None = None
    """Time without values after this is no gap: it lies ahead."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """``gap`` and ``estimated``: what these are called."""


def line(
    span: Span,
    bars: Sequence[Bar],
    names: Sequence[str],
    frame: ChartFrame,
    *,
    limit: float | None = None,
    floor: float | None = None,
    marks: Sequence[Mark] = (),
    ghost: Sequence[Bar] = (),
    band: tuple[str, str] | None = None,
) -> Markup:
    """Steps of one or more series; the line is broken where nothing is known.

    `ghost` has the same series over the time that they are compared with, moved onto this axis; `band` names
    the series between which the values of a bar lie with some probability.
    """
    drawn = (*names, *(band or ()))
    values = [v for b in (*bars, *ghost) for n in drawn if (v := b.values.get(n)) is not None]
    axis = Axis.around([*values, *([limit] if limit is not None else [])], floor=floor)
    paths = [f'<path class="line ghost" d="{_steps(span, axis, ghost, name)}"/>' for name in names if ghost]
    paths += [_band(span, axis, bars, *band)] if band else []
    paths += [f'<path class="line s-{escape(name)}" d="{_steps(span, axis, bars, name)}"/>' for name in names]
    if limit is not None:
        y = _n(axis.y(limit))
        paths.append(f'<path class="limit" d="M0 {y}H{WIDTH:g}"/>')
    return _frame(span, axis, frame, "".join(paths), bars, marks)


def _band(span: Span, axis: Axis, bars: Sequence[Bar], low: str, high: str) -> str:
    boxes = (
        f"M{_n(span.x(b.start))} {_n(axis.y(top))}H{_n(span.x(b.end))}V{_n(axis.y(bottom))}"
        f"H{_n(span.x(b.start))}Z"
        for b in bars
        if (bottom := b.values.get(low)) is not None and (top := b.values.get(high)) is not None
    )
    return f'<path class="likely" d="{"".join(boxes)}"/>'


def stack(span: Span, bars: Sequence[Bar], names: Sequence[str], frame: ChartFrame) -> Markup:
    """Series on top of each other, from zero; where nothing is known nothing is drawn."""
    sums = [_running(bar, names) for bar in bars]
    axis = Axis.around([total[-1] for total in sums if total], floor=0.0, ticks=3)
    paths = [
        f'<path class="s-{escape(name)}" d="{_area(span, axis, bars, [s[i] if s else 0.0 for s in sums])}"/>'
        for i, name in reversed(list(enumerate(names)))
    ]
    return _frame(span, axis, frame, "".join(paths), bars, ())


def _running(bar: Bar, names: Sequence[str]) -> list[float]:
    """Running sums of a bar's values; empty where none is known."""
    if not bar.values:
        return []
    return list(accumulate(max(bar.values.get(name) or 0.0, 0.0) for name in names))


def _area(span: Span, axis: Axis, bars: Sequence[Bar], tops: Sequence[float]) -> str:
    """From zero to the tops, one outline for each stretch without a hole."""
    parts: list[str] = []
    end: datetime | None = None
    for bar, top in zip(bars, tops, strict=True):
        if end != bar.start:
            parts.append(f"{'V100Z' if end else ''}M{_n(span.x(bar.start))} {HEIGHT:g}")
        parts.append(f"V{_n(axis.y(top))}H{_n(span.x(bar.end))}")
        end = bar.end
    return "".join(parts) + ("V100Z" if end else "")


def _steps(span: Span, axis: Axis, bars: Sequence[Bar], name: str) -> str:
    parts: list[str] = []
    end: datetime | None = None
    for bar in bars:
        value = bar.values.get(name)
        if value is None:
            end = None
            continue
        y = _n(axis.y(value))
        parts.append(f"V{y}" if end == bar.start else f"M{_n(span.x(bar.start))} {y}")
        parts.append(f"H{_n(span.x(bar.end))}")
        end = bar.end
    return "".join(parts)


def curve(
    span: Span,
    points: Sequence[tuple[datetime, float]],
    frame: ChartFrame,
    *,
    gap: timedelta,
    marks: Sequence[Mark] = (),
) -> Markup:
    """Single readings joined by straight lines, apart where `gap` passes without one."""
    axis = Axis.around([v for _, v in points])
    d, before = "", None
    for at, v in points:
        joined = before is not None and at - before <= gap
        d, before = f"{d}{'L' if joined else 'M'}{_n(span.x(at))} {_n(axis.y(v))}", at
    drawn = [Bar(at, at + gap / 2, {"value": value}) for at, value in points]
    return _frame(span, axis, frame, f'<path class="line s-register" d="{d}"/>', drawn, marks)


def _frame(
    span: Span, axis: Axis, frame: ChartFrame, paths: str, bars: Sequence[Bar], marks: Sequence[Mark]
) -> Markup:
    """A plot with its axes: value labels beside it, time labels below, its values for the script."""
    grid = "".join(f"M0 {_n(axis.y(t))}H{WIDTH:g}" for t in axis.ticks)
    flags = "".join(
        f'<path class="mark m-{escape(m.kind)}" d="M{_n(span.x(m.at))} 0V{HEIGHT:g}">'
        f"<title>{escape(m.title)}</title></path>"
        for m in marks
    )
    height = frame.height
    reading = _reading(bars, frame)
    attributes = f" tabindex=\"0\" data-plot='{reading}'" if reading else ""
    return Markup(
        f'<figure class="plot" role="group" aria-label="{escape(frame.title)}"{attributes}>'
        f'<svg class="ticks" width="64" height="{height + 22}" aria-hidden="true">'
        f"{_value_labels(axis, frame)}</svg>"
        f'<svg class="chart" width="100%" height="{height + 22}" role="img" '
        f'aria-label="{escape(_summary(bars, frame))}">'
        f'<svg class="area" x="0" y="8" width="100%" height="{height}" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" '
        f'preserveAspectRatio="none">{_unknown(span, bars, frame)}<path class="grid" d="{grid}"/>'
        f"{paths}{_estimates(span, bars, frame)}{flags}</svg>"
        f"{_time_labels(span, frame)}</svg>"
        f'<figcaption class="reading" aria-live="polite"></figcaption></figure>'
    )


def _reading(bars: Sequence[Bar], frame: ChartFrame) -> str:
    """The values of a plot for the script: minutes from the first start, and values by series."""
    if not bars or not frame.names:
        return ""
    first = bars[0].start
    values = [
        [called, [_rounded(b.values.get(name), frame.digits) for b in bars]]
        for name, called in frame.names.items()
    ]
    found = {
        "a": int(first.timestamp()),
        "t": [_minutes(b.start - first) for b in bars],
        "e": [_minutes(b.end - first) for b in bars],
        "s": values,
        "u": frame.unit,
        "z": frame.zone,
        "d": frame.digits,
    }
    text = json.dumps(found, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "&amp;").replace("'", "&#39;").replace("<", "&lt;")


def _minutes(span: timedelta) -> int:
    return int(span.total_seconds() // 60)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)


def _summary(bars: Sequence[Bar], frame: ChartFrame) -> str:
    """A plot in words: lowest and highest of each series that is read."""
    parts = [frame.title]
    for name, called in frame.names.items():
        known = [v for b in bars if (v := b.values.get(name)) is not None and math.isfinite(v)]
        if known:
            low, high = (f"{value:,.{frame.digits}f}" for value in (min(known), max(known)))
            parts.append(f"{called} {low} – {high} {frame.unit}".rstrip())
    return "; ".join(parts)


def _unknown(span: Span, bars: Sequence[Bar], frame: ChartFrame) -> str:
    """Stretches without any value, up to now."""
    if "gap" not in frame.texts:
        return ""
    until = min(span.end, frame.until or span.end)
    known = [b for b in bars if any(v is not None for v in b.values.values())]
    found, at = [], span.start
    for bar in known:
        if bar.start > at:
            found.append((at, bar.start))
        at = max(at, bar.end)
    if until > at:
        found.append((at, until))
    return "".join(
        f'<rect class="gap" x="{_n(span.x(start))}" width="{_n(span.x(end) - span.x(start))}" '
        f'height="{HEIGHT:g}"><title>{escape(frame.texts["gap"])}</title></rect>'
        for start, end in found
    )


def _estimates(span: Span, bars: Sequence[Bar], frame: ChartFrame) -> str:
    """A strip below the bars of which some energy is an estimate."""
    if "estimated" not in frame.texts:
        return ""
    return "".join(
        f'<rect class="estimated" x="{_n(span.x(b.start))}" width="{_n(span.x(b.end) - span.x(b.start))}" '
        f'y="{HEIGHT - 4:g}" height="4"><title>{escape(frame.texts["estimated"])}</title></rect>'
        for b in bars
        if b.estimated_ratio > 0
    )


def _value_labels(axis: Axis, frame: ChartFrame) -> str:
    digits, out = axis.digits(), []
    for tick in axis.ticks:
        y = 12 + frame.height * axis.y(tick) / HEIGHT
        out.append(f'<text class="tick" x="58" y="{_n(y)}" text-anchor="end">{tick:,.{digits}f}</text>')
    return "".join(out)


def _time_labels(span: Span, frame: ChartFrame) -> str:
    out = []
    for at in frame.labels:
        ratio = span.ratio(at)
        if not 0 <= ratio <= 1:
            continue
        anchor = "start" if ratio < 0.04 else "end" if ratio > 0.96 else "middle"
        out.append(
            f'<text class="tick" x="{_n(ratio * 100)}%" y="{frame.height + 20}" text-anchor="{anchor}">'
            f"{escape(frame.label(at))}</text>"
        )
    return "".join(out)


def scale(
    parts: Sequence[tuple[str, float]],
    *,
    low: float,
    limit: float | None,
    band: float | None,
    title: str,
    limit_text: str,
) -> Markup:
    """A figure as a bar put together of its parts, from `low`, with the limit and the band of uncertainty.

    For PUE: from 1, one part for each class of overhead.
    """
    total = low + sum(v for _, v in parts)
    top = max(total, limit or 0.0) + 0.12 * (max(total, limit or 0.0) - low)
    top = top if top > low else low + 1.0

    def percent(value: float) -> float:
        return 100 * (value - low) / (top - low)

    out, at = ['<rect class="bed" x="0" y="20" width="100%" height="30"/>'], low
    for name, value in parts:
        if value > 0:
            out.append(
                f'<rect class="s-{escape(name)}" x="{_n(percent(at))}%" y="20" '
                f'width="{_n(percent(at + value) - percent(at))}%" height="30"/>'
            )
            at += value
    if band:
        out.append(
            f'<rect class="band" x="{_n(percent(total - band))}%" y="32" '
            f'width="{_n(percent(total + band) - percent(total - band))}%" height="6"/>'
        )
    if limit is not None:
        x, anchor = percent(limit), "end" if percent(limit) > 60 else "start"
        out.append(
            f'<line class="limit" x1="{_n(x)}%" x2="{_n(x)}%" y1="4" y2="58"/>'
            f'<text class="tick limit-text" x="{_n(x)}%" dx="{-6 if anchor == "end" else 6}" y="14" '
            f'text-anchor="{anchor}">{escape(limit_text)}</text>'
        )
    return Markup(
        f'<svg class="scale" width="100%" height="60" role="img" aria-label="{escape(title)}">'
        f"{''.join(out)}</svg>"
    )


def meter(ratio: float, kind: str, title: str) -> Markup:
    """A share of a whole as a small bar."""
    width = 100 * min(max(ratio, 0.0), 1.0)
    return Markup(
        f'<svg class="meter" width="100%" height="10" role="img" aria-label="{escape(title)}">'
        f'<rect class="bed" width="100%" height="10"/>'
        f'<rect class="s-{escape(kind)}" width="{_n(width)}%" height="10"/></svg>'
    )


def spark(span: Span, bars: Sequence[Bar], name: str, *, limit: float | None, title: str) -> Markup:
    """A small line without axes."""
    values = [v for b in bars if (v := b.values.get(name)) is not None]
    axis = Axis.around([*values, *([limit] if limit is not None else [])])
    dashed = "" if limit is None else f'<path class="limit" d="M0 {_n(axis.y(limit))}H{WIDTH:g}"/>'
    return Markup(
        f'<svg class="spark" width="100%" height="44" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" '
        f'preserveAspectRatio="none" role="img" aria-label="{escape(title)}">'
        f'<path class="line s-{escape(name)}" d="{_steps(span, axis, bars, name)}"/>{dashed}</svg>'
    )


def _n(value: float) -> str:
    """A number as short as the eye needs."""
    return f"{value:.1f}".rstrip("0").rstrip(".")
