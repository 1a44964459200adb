"""What the command line prints does nothing to the terminal, whatever a name contains."""

from __future__ import annotations

import pytest

from app.cli import console

HOSTILE = "pdu\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnirts\r"


@pytest.mark.parametrize(
    "print_it", [console.show, console.say, lambda t: console.show_table(["name"], [[t]])]
)
def test_no_escape_reaches_the_terminal(print_it, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    print_it(HOSTILE)
    out, err = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(out + err)
    assert r"pdu\x1b]0;owned\x07" in out + err


def test_text_stays_text() -> None:
    assert console.harmless("PUE 1.44 ± 0.02\t数据中心\n") == "PUE 1.44 ± 0.02\t数据中心\n"
