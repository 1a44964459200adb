"""Secrets do not show where settings, errors and keys are printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config import Settings
from app.domain.access import Duty, Grant, Role
from app.errors import ConfigError
from app.store.engine import make_engine

SECRET = "topsecret"
URL = f"postgresql://u:{SECRET}@db.example/wattline"


def test_settings_do_not_print_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLINE_DATABASE_URL", URL)
    settings = Settings()
    assert settings.url() == URL
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"{URL}\n", encoding="utf-8")
    settings = Settings(database_url_file=file)
    assert settings.url() == URL
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    "url", [f"postgresqI://u:{SECRET}@h/db", f"postgresql://u:{SECRET} x@h/db", f"password={SECRET} host"]
)
def test_a_url_that_is_not_understood_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_engine(url)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(make_engine(URL))


def test_the_audit_log_is_kept_at_least_180_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLINE_AUDIT_RETENTION_DAYS", "179")
    with pytest.raises(ValidationError, match="180"):
        Settings()


@pytest.mark.parametrize("text", ["viewer", "operator:site/sh1", "admin:institution/bank-1"])
def test_a_grant_is_written_as_it_is_read(text: str) -> None:
    assert str(Grant.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "root", "viewer:", "viewer:site/", "viewer:room/x", "Viewer", "viewer "]
)
def test_what_is_no_grant_says_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match="operator:site/ID"):
        Grant.parse(text)


def test_roles_on_sites_are_ordered_and_duties_are_shared_out() -> None:
    on_sites = {role: role.on_sites for role in Role}
    assert [role.rank for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN)] == [0, 1, 2]
    none = {Role.SECURITY, Role.AUDIT, Role.EDGE}
    assert {role for role, on_site in on_sites.items() if on_site is None} == none
    assert on_sites[Role.SYSTEM] is Role.OPERATOR
    single = [role.duties for role in (Role.SYSTEM, Role.SECURITY, Role.AUDIT)]
    assert [len(duties) for duties in single] == [1, 1, 1]
    assert frozenset().union(*single) == Role.ADMIN.duties == set(Duty)
    assert not Role.VIEWER.duties | Role.OPERATOR.duties | Role.EDGE.duties
