"""Prometheus and what answers like it (Thanos, Mimir, VictoriaMetrics): what exporters collect already."""
