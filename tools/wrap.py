"""Lines of Markdown end at 120 characters: ``make format`` wraps, ``make lint`` checks.

Only paragraphs and list items with a longer line are wrapped anew. Tables, fenced and indented code and
headings stay as they are; so does what has no space to break at.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

WIDTH = 120
_ITEM = re.compile(r"(\s*)([-*+]|\d+\.) +")
_KEPT = re.compile(r"`[^`]+`|\[[^\]]*\]\([^)]*\)")
_AS_IS = re.compile(r"\||#|<|>|\[[^\]]+\]: |={3,}|-{3,}")


def wrapped(text: str) -> str:
    """The document with lines of at most :data:`WIDTH`."""
    return "\n".join(line for block in _blocks(text.split("\n")) for line in _wrap(block))


def too_long(text: str) -> list[int]:
    """Numbers of the lines that could have been broken."""
    found = []
    number = 1
    for block in _blocks(text.split("\n")):
        if _wrap(block) != block:
            found += [number + n for n, line in enumerate(block) if len(line) > WIDTH]
        number += len(block)
    return found


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Lines that belong together: a paragraph, a list item, a fenced block, or a line that stays as it is."""
    block: list[str] = []
    is_fenced = False
    for line in lines:
        is_fence = line.lstrip().startswith("```")
        if is_fenced:
            block.append(line)
            is_fenced = not is_fence
            continue
        stays = not line.strip() or _AS_IS.match(line.lstrip()) is not None
        if block and (stays or is_fence or _ITEM.match(line) or not _flows(block)):
            yield block
            block = []
        block.append(line)
        is_fenced = is_fence
    if block:
        yield block


def _flows(block: list[str]) -> bool:
    """Whether a line below the block goes on with it."""
    first = block[0].lstrip()
    return bool(first) and not _AS_IS.match(first) and not first.startswith("```")


def _wrap(block: list[str]) -> list[str]:
    first = block[0].lstrip()
    if not _flows(block) or all(len(line) <= WIDTH for line in block):
        return block
    item = _ITEM.match(block[0])
    lead = item[0] if item else block[0][: len(block[0]) - len(first)]
    if not item and len(lead) >= 4:
        return block
    words = " ".join(line.strip() for line in [block[0][len(lead) :], *block[1:]])
    kept = _KEPT.sub(lambda code: code[0].replace(" ", "\0"), words)
    lines = textwrap.wrap(
        kept,
        WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]


def documents() -> list[Path]:
    """Every Markdown file that git knows of."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for path in map(Path, listed.stdout.split("\n")) if path.is_file()]


def main() -> int:
    """Wrap every document, or with ``--check`` say which lines are too long."""
    is_check, found = "--check" in sys.argv[1:], 0
    for path in documents():
        text = path.read_text(encoding="utf-8")
        if is_check:
            for number in too_long(text):
                found = 1
                print(f"{path}:{number}: line over {WIDTH} characters; run `make format`", file=sys.stderr)
        elif wrapped(text) != text:
            path.write_text(wrapped(text), encoding="utf-8")
    return found


if __name__ == "__main__":
    sys.exit(main())
