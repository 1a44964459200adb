"""All SQL: one module per noun, ``tables.py`` for the tables, ``embedded/`` for the packaged PostgreSQL."""
