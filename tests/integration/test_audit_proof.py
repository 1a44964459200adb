"""The audit log proves something: what its database's administrator changes or cuts off is seen."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import conninfo

from app.errors import ConfigError
from app.jobs.audit_anchor import Anchoring, Syslog, Webhook, file_of
from app.store import audit, audit_key, migrate, roles
from app.store.audit import Anchor, Entry
from app.store.audit_key import AuditKey
from app.store.engine import begin, connect
from app.telemetry import Telemetry
from tests.integration.conftest import Wattline
from tests.protocol.test_modbus_tls import Authority

KEY = AuditKey.of(b"k" * 32)
NOW = datetime(2026, 11, 30, tzinfo=UTC)
MakeEngine = Callable[..., sa.Engine]


def add(engine: sa.Engine, count: int, at: datetime = NOW) -> None:
    with begin(engine) as connection:
        for n in range(count):
            audit.append(connection, Entry("eve", f"act.{n}"), at)


def disarmed(engine: sa.Engine, *statements: str) -> None:
    """What who owns the table can do to it."""
    with begin(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER ALL")
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("ALTER TABLE audit ENABLE TRIGGER ALL")


def problems(engine: sa.Engine, *anchors: Anchor) -> str:
    with connect(engine) as connection:
        return " ".join(audit.verify(connection, anchors=anchors).problems)


def rewritten(engine: sa.Engine, key: AuditKey | None) -> None:
    """The whole chain anew, as somebody who knows how it is made would do it."""
    with begin(engine) as connection:
        rows = list(reversed(audit.listing(connection)))
        connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER ALL")
        connection.exec_driver_sql("DELETE FROM audit")
        audit_key.use(lambda: key)
        for row in rows:
            audit.append(connection, Entry("innocent", row.action), row.at)
        connection.exec_driver_sql("ALTER TABLE audit ENABLE TRIGGER ALL")


def test_entries_are_signed_and_old_ones_stay_good(engine: sa.Engine) -> None:
    add(engine, 2)
    audit_key.use(lambda: KEY)
    add(engine, 2)
    with connect(engine) as connection:
        found = audit.verify(connection)
        assert [row.key_id for row in audit.listing(connection)] == [KEY.id, KEY.id, "", ""]
    assert (found.problems, found.signed_from) == ((), 3)


def test_who_has_no_key_cannot_rewrite_the_chain(engine: sa.Engine) -> None:
    audit_key.use(lambda: KEY)
    add(engine, 3)
    forged = AuditKey.of(b"f" * 32)
    rewritten(engine, forged)
    audit_key.use(lambda: KEY)
    assert forged.id in problems(engine)

    with begin(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER ALL")
        connection.execute(sa.text("UPDATE audit SET key_id = :id"), {"id": KEY.id})
    assert "was changed" in problems(engine)


def test_an_entry_without_a_signature_after_signed_ones_is_named(engine: sa.Engine) -> None:
    audit_key.use(lambda: KEY)
    add(engine, 1)
    audit_key.use(lambda: None)
    add(engine, 1)
    audit_key.use(lambda: KEY)
    assert "entry 2 of" in problems(engine)
    assert "not signed" in problems(engine)


def test_another_key_is_needed_by_name(engine: sa.Engine) -> None:
    """After a change of keys the earlier one verifies the earlier entries."""
    audit_key.use(lambda: KEY)
    add(engine, 1)
    audit_key.use(lambda: AuditKey.of(b"n" * 32))
    add(engine, 1)
    assert KEY.id in problems(engine)
    with connect(engine) as connection:
        assert audit.verify(connection, [KEY]).problems == ()


def test_newest_entries_cut_off_are_seen_by_an_anchor(engine: sa.Engine) -> None:
    add(engine, 6)
    with connect(engine) as connection:
        head = audit.head(connection)
    assert head is not None
    assert problems(engine, head) == ""
    disarmed(engine, "DELETE FROM audit WHERE seq > 3")
    assert problems(engine) == ""
    assert "the log ends with entry 3" in problems(engine, Anchor(head.hash, head.seq, "the log"))
    assert "no entry has the hash" in problems(engine, Anchor(head.hash))


def test_a_chain_written_anew_is_seen_by_an_anchor(engine: sa.Engine) -> None:
    add(engine, 4)
    with connect(engine) as connection:
        head = audit.head(connection)
    assert head is not None
    rewritten(engine, None)
    assert problems(engine) == ""
    assert "rewritten" in problems(engine, head)


def test_oldest_entries_go_by_retention_alone(engine: sa.Engine) -> None:
    now = datetime.now(UTC)
    add(engine, 2, now - timedelta(days=400))
    add(engine, 2, now)
    with begin(engine) as connection:
        assert audit.forget(connection, now, 365) == 2
    assert problems(engine) == ""
    disarmed(engine, "DELETE FROM audit WHERE seq = 3")
    assert "entries 1 to 3 were removed, and not by retention" in problems(engine)


def test_oldest_entries_removed_by_hand_are_seen(engine: sa.Engine) -> None:
    add(engine, 4)
    disarmed(engine, "DELETE FROM audit WHERE seq <= 2")
    assert "entries 1 to 2 were removed, and not by retention" in problems(engine)


@pytest.mark.parametrize(
    "line",
    [
        '{{"event": "audit log", "seq": 7, "hash": "{0}", "level": "info"}}',
        'wattline_audit_head_info{{seq="7",hash="{0}"}} 1.0',
        '<109>1 2026-11-30T00:00:00Z h wattline 1 audit-anchor [audit@32473 seq="7" hash="{0}"] text',
        "2026-11-30 [info] audit log hash={0} seq=7",
        "seq 7, hash {0}",
    ],
)
def test_anchors_are_read_from_wherever_they_were_kept(line: str) -> None:
    text = f"something else\n{line.format('a' * 64)}\nseq 8 without a hash\n"
    assert audit.read_anchors(text, "file") == [Anchor("a" * 64, 7, "file")]


def test_the_service_keeps_anchors(engine: sa.Engine, tmp_path: Path) -> None:
    taken: list[Anchor] = []

    def broken(anchor: Anchor) -> None:
        raise OSError("away")

    anchoring = Anchoring(engine, tmp_path / "data", [broken, taken.append])
    anchoring.take()
    assert taken == []
    add(engine, 2)
    anchoring.take()
    anchoring.take()
    with begin(engine) as connection:
        head, file = audit.head(connection), file_of(tmp_path / "data", audit.log_id(connection))
    assert taken == [head]
    assert head is not None
    [kept] = audit.read_anchors(file.read_text(), "")
    assert (kept.seq, kept.hash) == (2, head.hash)
    telemetry = Telemetry()
    telemetry.audit_head = lambda: anchoring.newest
    assert f'wattline_audit_head_info{{seq="2",hash="{head.hash}"}} 1.0'.encode() in telemetry.exposition()


@contextmanager
def tls_server(authority: Authority) -> Iterator[tuple[int, list[bytes]]]:
    """Takes one connection and keeps what it was sent."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("localhost"))
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _ = listener.accept()
            with context.wrap_socket(plain, server_side=True) as secured:
                while part := secured.recv(4096):
                    received.append(part)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], received
        thread.join()


def test_a_syslog_server_gets_anchors_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "siem")
    with tls_server(authority) as (port, received):
        Syslog("localhost", port, authority.file)(Anchor("b" * 64, 9))
    length, _, message = b"".join(received).partition(b" ")
    assert int(length) == len(message)
    assert message.startswith(b"<109>1 ")
    assert audit.read_anchors(message.decode(), "") == [Anchor("b" * 64, 9, "")]


@contextmanager
def https_server(authority: Authority) -> Iterator[tuple[str, list[bytes]]]:
    """Takes documents by HTTP over TLS; its address, and what came."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda request, client: None  # type: ignore[method-assign, assignment]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}/anchors", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_webhook_gets_anchors_over_tls_and_only_a_server_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, other = Authority(tmp_path, "siem"), Authority(tmp_path, "somebody")
    with https_server(authority) as (address, received):
        monkeypatch.setenv("SSL_CERT_FILE", str(other.file))
        with pytest.raises(httpx.ConnectError, match="certificate"):
            Webhook(address)(Anchor("b" * 64, 9))
        assert received == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        Webhook(address)(Anchor("b" * 64, 9))
    assert audit.read_anchors(received[0].decode(), "") == [Anchor("b" * 64, 9, "")]


def test_the_command_compares_with_what_was_kept(
    wattline: Wattline, engine: sa.Engine, tmp_path: Path
) -> None:
    wattline("keys", "create", "one", "--grant", "viewer")
    Anchoring(engine, tmp_path / "data").take()
    done = wattline("audit", "verify", "--json")
    assert done.code == 0
    assert (done.document["signed_from"], done.document["anchors"]) == (1, 1)
    last = done.document["last_hash"]
    assert wattline("audit", "verify", "--expect", last).code == 0
    kept = tmp_path / "kept.log"
    kept.write_text(f"seq 2 hash {last}\n")

    disarmed(engine, "DELETE FROM audit WHERE seq > (SELECT max(seq) - 1 FROM audit)")
    assert wattline("audit", "verify").code == 1
    assert wattline("audit", "verify", "--expect", "0" * 64).code == 1
    assert wattline("audit", "verify", "--anchors", kept).code == 1
    assert "is no hash" in wattline("audit", "verify", "--expect", "nonsense").err
    assert "cannot be read" in wattline("audit", "verify", "--anchors", tmp_path / "absent").err


def test_the_log_is_exported_and_the_file_shows_later_what_was_changed(
    wattline: Wattline, engine: sa.Engine, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        wattline("keys", "create", name, "--grant", "viewer")
    file = tmp_path / "audit.jsonl"
    done = wattline("audit", "export", "-o", file)
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [(e["seq"], e["action"], e["target"]) for e in lines] == [
        (1, "key.create", "one"),
        (2, "key.create", "two"),
    ]
    assert json.loads(lines[0]["detail"]) == {"grants": ["viewer"]}
    assert "--after 2" in done.err
    (rest,) = map(json.loads, wattline("audit", "export", "--after", "2").out.splitlines())
    assert (rest["seq"], rest["action"], json.loads(rest["detail"])["entries"]) == (3, "audit.export", 2)
    assert wattline("audit", "verify", "--anchors", file).code == 0
    disarmed(engine, "UPDATE audit SET target = 'three' WHERE seq = 2")
    assert wattline("audit", "verify", "--anchors", file).code == 1
    missing = wattline("audit", "export", "-o", tmp_path / "absent" / "audit.jsonl")
    assert (missing.code, "cannot be written" in missing.err) == (1, True)


def test_the_key_lies_outside_the_database_for_its_owner_alone(wattline: Wattline, tmp_path: Path) -> None:
    wattline("keys", "create", "one", "--grant", "viewer")
    file = tmp_path / "data" / "audit.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert audit_key.read_or_make(file) == audit_key.read(file)
    (tmp_path / "short").write_text("short")
    with pytest.raises(ConfigError, match="at least 32"):
        audit_key.read(tmp_path / "short")


@pytest.fixture
def service_url(superuser_url: str, database_url: str, make_test_engine: MakeEngine) -> Iterator[str]:
    """The database handed over to a role of its own."""
    parts = conninfo.conninfo_to_dict(database_url)
    role = f"service_{parts['dbname']}"
    url = f"postgresql://{role}:secret@{parts['host']}:{parts['port']}/{parts['dbname']}"
    roles.hand_over(make_test_engine(superuser_url), url)
    roles.hand_over(make_test_engine(superuser_url), url)
    yield url
    with psycopg.connect(superuser_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,))
        admin.execute(f"ALTER DATABASE {parts['dbname']} OWNER TO {parts['user']}")
        admin.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
        admin.execute(f"DROP OWNED BY {role}")
        admin.execute(f"DROP ROLE {role}")


def test_the_services_role_works_and_cannot_disarm_the_log(
    service_url: str, database_url: str, make_test_engine: MakeEngine
) -> None:
    engine = make_test_engine(service_url)
    assert roles.owns_the_audit_log(make_test_engine(database_url)) is False
    assert roles.owns_the_audit_log(engine) is False
    assert migrate.upgrade(engine).up_to_date
    now = datetime.now(UTC)
    add(engine, 1, now - timedelta(days=400))
    add(engine, 1, now)
    with begin(engine) as connection:
        assert audit.forget(connection, now, 365) == 1
        connection.exec_driver_sql(
            "CREATE TABLE readings_19990104 (LIKE readings INCLUDING DEFAULTS INCLUDING INDEXES)"
        )
        span = "FROM ('1999-01-04T00:00Z') TO ('1999-01-11T00:00Z')"
        connection.exec_driver_sql(
            f"ALTER TABLE readings ATTACH PARTITION readings_19990104 FOR VALUES {span}"
        )
        connection.exec_driver_sql("DROP TABLE readings_19990104")
    for statement in (
        "ALTER TABLE audit DISABLE TRIGGER audit_is_append_only",
        "DROP TABLE audit",
        "DROP SCHEMA public CASCADE",
        "TRUNCATE audit",
        "DELETE FROM audit",
        "UPDATE audit SET actor = 'x'",
        "ALTER TABLE audit RENAME TO other",
        "CREATE TRIGGER mine BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()",
        "CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE sql AS 'SELECT 1'",
        "ALTER DATABASE postgres RENAME TO other",
        "UPDATE alembic_version SET version_num = '1'",
    ):
        with psycopg.connect(service_url) as session, pytest.raises(psycopg.Error) as caught:
            session.execute(statement)
        assert isinstance(caught.value, psycopg.errors.InsufficientPrivilege), statement


def test_one_role_for_both_is_refused(superuser_url: str, make_test_engine: MakeEngine) -> None:
    with pytest.raises(ConfigError, match="another role"):
        roles.hand_over(make_test_engine(superuser_url), superuser_url)


def test_an_anchor_stands_in_a_frozen_report() -> None:
    text = json.dumps({"audit_head": "seq 12, hash " + "c" * 64})
    assert audit.read_anchors(text, "report") == [Anchor("c" * 64, 12, "report")]
