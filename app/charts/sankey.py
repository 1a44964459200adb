"""The energy flow as a drawing: columns by depth, bands as wide as their energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.domain.flow import EnergyFlow, FlowNode

_COLUMN, _BAR, _GAP, _LEAST = 250, 14, 26, 2.0
_HEIGHT = 620.0
"""Height of the bands of the fullest column. [px]"""


@dataclass(frozen=True)
class Labels:
    """What the drawing says."""

    name: Callable[[str], str]
    energy: Callable[[float], str]
    address: Callable[[str], str]
    """Where a meter leads to."""
    unmetered: str
    unmetered_address: Callable[[tuple[str, ...]], str]
    """Where what has no meter behind the meters of a node leads to."""
    title: str


@dataclass
class _Place:
    x: float
    y: float
    height: float
    out: float = 0.0
    """How much of the right side is taken."""
    into: float = 0.0


def draw(flow: EnergyFlow, labels: Labels) -> Markup:
    """The whole drawing; every node and every remainder leads on."""
    columns: dict[int, list[FlowNode]] = {}
    for node in flow.nodes:
        columns.setdefault(node.depth, []).append(node)
    scale = _scale(columns)
    places = _placed(columns, scale)
    bands = [_band(places[k.source], places[k.target], k.energy_kwh * scale) for k in flow.links]
    rests = [_rest(node, places[node.meters], scale, labels) for node in flow.nodes if node.unmetered_kwh]
    nodes = [_node(node, places[node.meters], labels) for node in flow.nodes]
    width = _COLUMN * (max(columns, default=0) + 1) + 40
    height = max((p.y + p.height for p in places.values()), default=0.0) + _GAP
    return Markup(
        f'<svg class="flow" width="{width}" height="{height:.0f}" role="group" '
        f'aria-label="{escape(labels.title)}">{"".join(bands)}{"".join(rests)}{"".join(nodes)}</svg>'
    )


def _scale(columns: dict[int, list[FlowNode]]) -> float:
    """Pixels per kWh: the fullest column fits."""
    fullest = max((sum(n.energy_kwh for n in nodes) for nodes in columns.values()), default=0.0)
    return _HEIGHT / fullest if fullest > 0 else 0.0


def _placed(columns: dict[int, list[FlowNode]], scale: float) -> dict[tuple[str, ...], _Place]:
    places = {}
    for depth, nodes in sorted(columns.items()):
        y = 8.0
        for node in nodes:
            height = max(node.energy_kwh * scale, _LEAST)
            places[node.meters] = _Place(8.0 + depth * _COLUMN, y, height)
            y += max(height, 14.0) + _GAP
    return places


def _band(source: _Place, target: _Place, thick: float) -> str:
    """A band from the right of one node to the left of another."""
    thick = max(thick, 1.0)
    x0, y0 = source.x + _BAR, source.y + source.out
    x1, y1 = target.x, target.y + target.into
    source.out += thick
    target.into += thick
    middle = (x0 + x1) / 2
    return (
        f'<path class="flow-band" d="M{x0:.1f} {y0:.1f}C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} '
        f"{y1:.1f}V{y1 + thick:.1f}C{middle:.1f} {y1 + thick:.1f} {middle:.1f} {y0 + thick:.1f} {x0:.1f} "
        f'{y0 + thick:.1f}Z"/>'
    )


def _rest(node: FlowNode, place: _Place, scale: float, labels: Labels) -> str:
    """What reaches no meter, as a stub below the bands that do."""
    thick = max((node.unmetered_kwh or 0.0) * scale, 1.0)
    x, y = place.x + _BAR, place.y + min(place.out, max(place.height - thick, 0.0))
    said = f"{labels.unmetered}: {labels.energy(node.unmetered_kwh or 0.0)}"
    share = (node.unmetered_kwh or 0.0) / node.energy_kwh if node.energy_kwh > 0 else 0.0
    text = (
        f'<text class="tick" x="{x + 34:.1f}" y="{y + thick / 2 + 4:.1f}">{escape(said)}</text>'
        if share >= 0.2
        else ""
    )
    return (
        f'<a href="{escape(labels.unmetered_address(node.meters))}" aria-label="{escape(said)}">'
        f'<rect class="s-unmetered" x="{x:.1f}" y="{y:.1f}" width="28" height="{thick:.1f}">'
        f"<title>{escape(said)}</title></rect>{text}</a>"
    )


def _node(node: FlowNode, place: _Place, labels: Labels) -> str:
    first = node.meters[0]
    names = labels.name(first) + (f" +{len(node.meters) - 1}" if len(node.meters) > 1 else "")
    every = ", ".join(labels.name(m) for m in node.meters)
    said = f"{every}: {labels.energy(node.energy_kwh)}"
    short = names if len(names) <= 22 else names[:21] + "…"
    return (
        f'<a href="{escape(labels.address(first))}" aria-label="{escape(said)}">'
        f'<rect class="flow-node" x="{place.x:.1f}" y="{place.y:.1f}" width="{_BAR}" '
        f'height="{place.height:.1f}"><title>{escape(said)}</title></rect>'
        f'<text class="tick flow-name" x="{place.x:.1f}" y="{place.y + max(place.height, 4) + 12:.1f}">'
        f"{escape(short)} {escape(labels.energy(node.energy_kwh))}</text></a>"
    )
