"""Alembic migrations; ``app.store.migrate`` runs them."""

from __future__ import annotations

__distribution__ = "wattline"  # looked for by wattline.py
