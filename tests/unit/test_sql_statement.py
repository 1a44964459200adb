"""Which statements are run: a single SELECT, seen through comments and quotes."""

from __future__ import annotations

import pytest

from collectors.sql.statement import refusal

GOOD = "SELECT ts, kwh FROM meters WHERE ts > :since ORDER BY ts"


@pytest.mark.parametrize(
    "statement",
    [
        GOOD,
        f"{GOOD};",
        "select \"update\", 'drop; table' as x, [set], `into` from t where t > :since and t <= :until",
        "with a as (select 1) select ts::timestamp, v from a where ts > :since",
        "SELECT ts, v /* delete; */ FROM t -- drop table t;\nWHERE ts > :since",
        "SELECT ts, 'it''s' FROM t WHERE ts > :since",
        "SELECT updated_at, offset_v, reset FROM t WHERE updated_at > :since",
    ],
)
def test_what_only_reads_is_run(statement: str) -> None:
    assert refusal(statement) is None


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM t WHERE ts > :since", "single SELECT"),
        (f"{GOOD}; DROP TABLE t", "more than one"),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x WHERE ts > :since", "DELETE"),
        ("SELECT * INTO copy_of FROM t WHERE ts > :since", "INTO"),
        ("SELECT * FROM t WHERE ts > :since FOR UPDATE", "UPDATE"),
        ("SELECT * FROM t WHERE ts > :since FOR SHARE", "locks"),
        ("SELECT 1 FROM t", "no :since"),
        ("SELECT '/* :since */' FROM t", "no :since"),
        ("SELECT x::since FROM t", "no :since"),
        ("SELECT * FROM t WHERE ts > :since AND m = :meter", "has :meter"),
        (r"SELECT '\'' ; DROP TABLE t; --' FROM t WHERE ts > :since", "backslash"),
        ("SELECT $$ x $$ FROM t WHERE ts > :since", "plain quotes"),
        ("SELECT 'open FROM t WHERE ts > :since", "not closed"),
        ("SELECT /* a /* b */ 1 FROM t WHERE ts > :since", "comment inside"),
        ("EXEC sp_x :since", "single SELECT"),
        ("", "single SELECT"),
        ("-- SELECT :since", "single SELECT"),
    ],
)
def test_all_else_is_refused(statement: str, said: str) -> None:
    assert said in str(refusal(statement))
