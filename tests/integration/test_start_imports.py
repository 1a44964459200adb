"""What a command that answers from the database imports: nothing that only others need."""

from __future__ import annotations

from pathlib import Path

import pytest

import collectors.simulated
from tests.starting import loaded_modules

SITE = Path(collectors.simulated.__file__).parent / "demo_site.yaml"
HEAVY = {"pandas", "pyarrow", "alembic", "fastapi", "uvicorn", "httpx", "apprise", "apscheduler"}
HEAVY |= {"typst", "vl_convert", "xlsxwriter", "jinja2", "prometheus_client", "structlog", "pymodbus", "gufo"}


@pytest.mark.parametrize("command", [("pue", "sh1"), ("energy", "sh1"), ("energy", "sh1", "--by", "room")])
def test_figures_do_without_tables_pages_and_reports(
    database_url: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    environment = {"WATTLINE_DATABASE_URL": database_url, "WATTLINE_DATA_DIR": str(tmp_path)}
    loaded_modules(*command, "--config", str(SITE), **environment)
    loaded, printed = loaded_modules(*command, **environment)
    assert "sh1: " in printed
    assert "sqlalchemy" in loaded, "it is looked for in the right place"
    assert loaded & HEAVY == set()


def test_checking_a_site_file_does_without_a_database(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(
        "institutions: [{id: bank, institution_class: other}]\n"
        "sites: [{id: s, institution: bank, time_zone: UTC, meters: [{id: m, points: ["
        "{id: p, role: facility, kind: register}]}]}]\n"
    )
    loaded, printed = loaded_modules("check-config", str(file))
    assert "ok, 1 institution, 1 site" in printed
    assert loaded & (HEAVY | {"sqlalchemy", "psycopg"}) == set()


def test_the_schema_of_the_site_file_does_without_a_database() -> None:
    loaded, printed = loaded_modules("config-schema")
    assert '"$schema"' in printed
    protocols = {"pyarrow", "gufo", "pymodbus"}  # it describes the settings of every collector
    assert loaded & ((HEAVY - protocols) | {"sqlalchemy", "psycopg", "rich.table"}) == set()
