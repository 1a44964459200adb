"""The Grafana Foundation SDK, as far as boards need it; a development package."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # The SDK would rather have the format of Grafana 12; that of before can be imported everywhere.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        barchart,
        bargauge,
        common,
        dashboard,
        nodegraph,
        prometheus,
        stat,
        statushistory,
        table,
        timeseries,
    )
    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.variants import Dataquery
    from grafana_foundation_sdk.models import common as common_model
    from grafana_foundation_sdk.models import dashboard as dashboard_model
    from grafana_foundation_sdk.models import prometheus as prometheus_model

__all__ = [
    "Builder",
    "Dataquery",
    "JSONEncoder",
    "barchart",
    "bargauge",
    "common",
    "common_model",
    "dashboard",
    "dashboard_model",
    "nodegraph",
    "prometheus",
    "prometheus_model",
    "stat",
    "statushistory",
    "table",
    "timeseries",
]
