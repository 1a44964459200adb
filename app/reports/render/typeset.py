"""The process that sets a PDF: Typst keeps what it has set in memory, so it gets a process of its own.

Reads one JSON document from standard input and writes the PDF to standard output; nothing else of the
house is imported, so it starts quickly.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import typst

TEMPLATE = Path(__file__).parent / "report.typ"
FONTS = ("Noto Sans SC", "Noto Sans CJK SC", "Libertinus Serif", "DejaVu Sans Mono")


def pdf(data: dict[str, Any], created_at: str, font_folder: str | None) -> bytes:
    """The PDF of a report's strings.

    Parameters
    ----------
    created_at : str
        Instant that the file bears, so that the same report is the same bytes.
    font_folder : str or None
        Folder of the packaged font; None: the system's fonts, which take longer to read.
    """
    fonts = typst.Fonts(
        include_system_fonts=font_folder is None,
        include_embedded_fonts=True,
        font_paths=[] if font_folder is None else [font_folder],
    )
    known = set(fonts.families())
    whole = {**data, "fonts": [font for font in FONTS if font in known]}
    compiler = typst.Compiler(input=str(TEMPLATE), root=str(TEMPLATE.parent), font_paths=fonts)
    made = compiler.compile(
        sys_inputs={"data": json.dumps(whole, ensure_ascii=False)},
        format="pdf",
        timestamp=datetime.fromisoformat(created_at),
        pdf_standards=["1.7"],
    )
    assert isinstance(made, bytes)
    return made


def main() -> None:
    """Standard input to standard output."""
    asked = json.load(sys.stdin)
    sys.stdout.buffer.write(pdf(asked["data"], asked["created_at"], asked["font_folder"]))


if __name__ == "__main__":
    main()
