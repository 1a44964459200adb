"""Readings from meters and files: one room per protocol, one contract (``base.py``), one registry."""

from __future__ import annotations

__distribution__ = "wattline"  # looked for by wattline.py
