"""What operators watch: boards, data sources, alert rules, all of it written by code and tested.

``kit.py`` says how a panel looks, ``boards/`` has one file per board, ``python -m grafana`` writes them to
``dashboards/``; ``ask.py`` runs a board's queries, ``sheet.py`` draws the answers on one page. Boards are
built with the Grafana Foundation SDK (``sdk.py``), a development package; installed are the files it wrote.
"""

__distribution__ = "wattline"  # looked for by wattline.py
