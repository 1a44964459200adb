"""What a PDF says, page by page."""

from __future__ import annotations

import subprocess

from tests.programs import need_program


def pages_of(pdf: bytes) -> list[str]:
    """The text of every page; the test is skipped where there is no pdftotext."""
    program = need_program("pdftotext", "poppler-utils")
    command = [str(program), "-q", "-layout", "-enc", "UTF-8", "-", "-"]
    done = subprocess.run(command, input=pdf, capture_output=True, check=True)
    return done.stdout.decode().split("\f")[:-1]
