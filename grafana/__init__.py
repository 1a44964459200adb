"""What operators watch: boards, data sources, alert rules, all of it written by code and tested.

``kit.py`` says how a panel looks, ``boards/`` has one file per board, ``python -m grafana`` writes them to
``dashboards/``; ``ask.py`` runs a board's queries, ``sheet.py`` draws the answers on one page.
"""

from __future__ import annotations

import warnings

__distribution__ = "wattline"  # looked for by wattline.py

with warnings.catch_warnings():
    # The SDK would rather have the format of Grafana 12; that of before can be imported everywhere.
    warnings.simplefilter("ignore", DeprecationWarning)
    import grafana_foundation_sdk.builders.dashboard
    import grafana_foundation_sdk.models.dashboardv2beta1

__all__ = ["grafana_foundation_sdk"]
