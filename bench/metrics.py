"""Ten thousand series of sites as text: our writer against prometheus_client on the same data."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from app.store.metrics_snapshot import MeterFigures, SiteFigures
from app.telemetry import FAMILIES, Telemetry
from bench.table import Row, interleaved_s

TITLE = "/metrics: 10 000 series as text"
SITES, METERS = 100, 34
NOW = datetime(2026, 10, 1, tzinfo=UTC)


class _Same(Collector):
    """The same families and samples, handed to prometheus_client."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> list[Metric]:
        return [self._family(n) for n in range(len(FAMILIES))]

    def _family(self, number: int) -> Metric:
        family = FAMILIES[number]
        samples = [s for f in self._telemetry.figures() for s in family.samples(self._telemetry, f)]
        pairs = [dict(part.split("=") for part in labels.split(",")) for labels, _ in samples]
        names = list(pairs[0]) if pairs else []
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = kind(family.name, family.help, labels=names)
        for labels, (_, value) in zip(pairs, samples, strict=True):
            metric.add_metric([text.strip('"') for text in labels.values()], value)
        return metric


class _Ready(Collector):
    """Families made before the clock runs: only the writing is measured."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def run() -> list[Row]:
    """One row: our page, from the snapshot, against only the writing of prometheus_client."""
    telemetry = Telemetry()
    telemetry.show([_figures(n) for n in range(SITES)], NOW)
    registry = CollectorRegistry()
    registry.register(_Ready(_Same(telemetry).collect()))
    sites = {f.site for f in telemetry.figures()}
    series = telemetry.exposition(sites).count(b"\n") - 2 * len(FAMILIES)
    _same_page(telemetry.exposition(sites), generate_latest(registry))
    ours_s, peer_s = interleaved_s(
        [lambda: telemetry.exposition(sites), lambda: generate_latest(registry)], runs=9
    )
    return [
        Row(
            f"{series} series",
            f"{ours_s * 1000:.1f} ms",
            f"generate_latest {peer_s * 1000:.1f} ms",
            ours_s / peer_s,
            "<= 0.2",
            "ours begins with the figures, the peer with finished samples",
        )
    ]


def _same_page(ours: bytes, peer: bytes) -> None:
    """Refuse to compare what is not the same."""
    if _samples(ours) != _samples(peer):
        raise ValueError("the two pages differ; nothing can be compared")


def _samples(page: bytes) -> dict[str, float]:
    """Values by name and sorted labels; every family has its labels in an order of its own."""
    lines = [line.rsplit(" ", 1) for line in page.decode().splitlines() if not line.startswith("#")]
    return {_sorted(name): float(value) for name, value in lines}


def _sorted(name: str) -> str:
    name, _, labels = name.rstrip("}").partition("{")
    return name + ",".join(sorted(labels.split(",")))


def _figures(number: int) -> SiteFigures:
    windows = dict.fromkeys(("15m", "1h", "24h", "7d", "30d", "mtd", "ytd", "12mo"), 1.4 + number / 1000)
    classes = dict.fromkeys(("facility", "it", "cooling", "lighting", "other"), 123.456 * (number + 1))
    meters = tuple(MeterFigures(f"site{number}.meter{m}", NOW.timestamp(), True) for m in range(METERS))
    return SiteFigures(
        f"site{number}", windows, windows, NOW, {"cbrc_13fyp": 1.5}, classes, classes, 0.5, meters
    )
