"""Alembic migrations; ``app.store.migrate`` runs them."""
