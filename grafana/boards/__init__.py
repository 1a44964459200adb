"""One file per board; to add one, write its file and list it in :data:`BOARDS`."""

from __future__ import annotations

from grafana.boards import balance, capacity, compliance, fleet, quality, site
from grafana.kit import Board

BOARDS: tuple[Board, ...] = (
    fleet.BOARD,
    site.BOARD,
    balance.BOARD,
    capacity.BOARD,
    quality.BOARD,
    compliance.BOARD,
)
