"""Whether a statement only reads: one SELECT, seen through comments and quotes.

The connection is read-only as well; this check refuses early, with the line of the site file. What it cannot
see through for certain (backslashes in quotes, dollar quotes, nested comments) it refuses too.
"""

from __future__ import annotations

import re

_PARTS = re.compile(
    r"""(?P<line>--[^\n]*) | (?P<block>/\*.*?\*/) | (?P<quote>'(?:[^']|'')*') | (?P<name>"[^"]*")
    | (?P<back>`[^`]*`) | (?P<bracket>\[[A-Za-z_][^\[\]'"]*\]) | (?P<dollar>\$[A-Za-z_]*\$)
    | (?P<open>['"`]|/\*)""",
    re.VERBOSE | re.DOTALL,
)
_WRITES = re.compile(
    r"insert|update|delete|merge|replace|upsert|drop|alter|create|truncate|grant|revoke|call|exec|execute|into|copy"
    r"|do|set|lock|attach|detach|pragma|vacuum|analyze|begin|commit|rollback|prepare|listen|notify|load|import"
)


def refusal(statement: str) -> str | None:
    """Why a statement is not run; None where it only reads.

    Parameters
    ----------
    statement : str
        SQL with ``:since``, and ``:until`` where it is wanted.
    """
    bare, problem = _bare(statement)
    if problem:
        return problem
    bare = bare.strip().rstrip(";").strip()
    if ";" in bare:
        return "more than one statement; give a single SELECT"
    words = re.findall(r"[A-Za-z_#@$][\w#@$]*", bare.lower())
    if not words or words[0] not in ("select", "with"):
        return "does not begin with SELECT or WITH; give a single SELECT"
    if writing := next(filter(_WRITES.fullmatch, words), None):
        word = writing.upper()
        return f"has the word {word}; give a single SELECT that only reads (quote a column of that name)"
    if re.search(r"\bfor\s+(no\s+key\s+)?(update|share|key\s+share)\b", bare.lower()):
        return "locks rows; leave FOR SHARE out"
    if not re.search(r"(?<!:):since\b", bare):
        return "has no :since; compare the time column with it, e.g. WHERE ts > :since ORDER BY ts"
    if unknown := set(re.findall(r"(?<![:\w\\]):([A-Za-z_]\w*)", bare)) - {"since", "until"}:
        return f"has :{min(unknown)}; known are :since and :until"
    return None


def _bare(statement: str) -> tuple[str, str]:
    """The statement with blanks for comments and quotes; else why that cannot be."""
    problem = ""

    def blank(match: re.Match[str]) -> str:
        nonlocal problem
        kind, text = str(match.lastgroup), match[0]
        if kind in ("dollar", "open"):
            problem = problem or f"has {text!r} that is not closed or not understood; write plain quotes"
        if kind == "block" and "/*" in text[2:]:
            problem = problem or "has a comment inside a comment; leave it out"
        if kind in ("quote", "name", "back") and "\\" in text:
            problem = problem or "has a backslash inside quotes; write it without"
        return " quoted " if kind in ("name", "back", "bracket") else " "

    return _PARTS.sub(blank, statement), problem
