"""A chart of a page as a drawing of its own, with the colours of the light theme."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from markupsafe import Markup, escape

WIDTH = 1000
"""Of the plot, beside its value labels. [px]"""
_TICKS, _TOP, _BELOW = 64, 34, 34
_PARTS = re.compile(
    r'<svg class="ticks".*?</svg>(?=<svg class="chart")|<svg class="chart".*</svg>(?=<fig)', re.DOTALL
)
_DRAWN = ("path.", ".tick", ".grid", ".s-", ".mark", ".gap", ".estimated", ".limit", "svg.")


def alone(figure: Markup, title: str, keys: Sequence[tuple[str, str]] = ()) -> str:
    """The drawing of a `figure` with its title, and the names of its series."""
    ticks, chart = _PARTS.findall(str(figure))
    height = int(re.search(r'height="(\d+)"', chart)[1])  # type: ignore[index]
    legend = "".join(_key(_TICKS + i * 150, _TOP + height + 10, *key) for i, key in enumerate(keys))
    total = _TICKS + WIDTH + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{_TOP + height + _BELOW}" '
        f'font-family="sans-serif"><style>{_rules()}</style><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="16" y="22" font-size="15" font-weight="600" fill="#16212b">{escape(title)}</text>'
        f'<svg y="{_TOP}" width="{_TICKS}">{ticks}</svg>'
        f'<svg x="{_TICKS}" y="{_TOP}" width="{WIDTH}">{chart}</svg>{legend}</svg>'
    )


def _key(x: int, y: int, name: str, text: str) -> str:
    return (
        f'<rect class="s-{escape(name)}" x="{x}" y="{y}" width="12" height="12"/>'
        f'<text class="tick" x="{x + 18}" y="{y + 10}">{escape(text)}</text>'
    )


@cache
def _rules() -> str:
    """The rules of the stylesheet about charts, with the values of its variables put in."""
    text = (Path(__file__).parent / "static" / "style.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"(--[\w-]+): ([^;]+);", text[: text.index("@media")]))
    rules = re.findall(r"([^@{}\n]+)\{([^{}]*)\}", text[: text.rindex("@media print")])
    kept = (f"{head.strip()} {{{body}}}" for head, body in rules if head.strip().startswith(_DRAWN))
    return re.sub(r"var\((--[\w-]+)\)", lambda match: light[match[1]], " ".join(kept))
