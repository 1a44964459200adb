"""``make digests``: behind every tag of an image the digest that its registry names today.

A tag can be moved, a digest cannot. Whoever releases runs this where the registry of images can be reached,
compares, and commits; skopeo (Debian's package of that name) asks. Nothing is written unless every image got
an answer.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools.locked import ROOT

FILES = (ROOT / "Dockerfile", ROOT / "compose.yaml")
OWN = "wattline"
"""The image that we make ourselves."""
_IMAGE = re.compile(
    r"^(?P<before>[ \t]*(?:FROM|image:)[ \t]+)(?P<name>[\w./:-]+:[\w.-]+)(?:@sha256:[0-9a-f]{64})?"
    r"(?P<after>[ \t].*)?$",
    re.MULTILINE,
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class NotAnswered(Exception):
    """A registry did not say which image a tag is."""


def pinned(text: str, digest_of: Callable[[str], str]) -> str:
    """A text with the digest behind every tag of an image of others."""

    def one(match: re.Match[str]) -> str:
        name = match["name"]
        if name.rpartition(":")[0] == OWN:
            return match[0]
        return f"{match['before']}{name}@{digest_of(name)}{match['after'] or ''}"

    return _IMAGE.sub(one, text)


def asked(image: str, *, verify_tls: bool = True) -> str:
    """The digest of an image, for all its platforms, as its registry says.

    Raises
    ------
    NotAnswered
        If it does not, or skopeo is not installed.
    """
    command = ["skopeo", "inspect", f"--tls-verify={str(verify_tls).lower()}", "--raw", f"docker://{image}"]
    try:
        raw = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
    except FileNotFoundError:
        raise NotAnswered("skopeo is not installed: apt-get install skopeo") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        raise NotAnswered(f"{image}: {said[-1][:300] if said else 'no answer'}") from None
    done = subprocess.run(
        ["skopeo", "manifest-digest", "/dev/stdin"], input=raw, capture_output=True, check=True
    )
    digest = done.stdout.decode().strip()
    if not _DIGEST.fullmatch(digest):
        raise NotAnswered(f"{image}: {digest!r} is no digest")
    return digest


def main() -> int:
    """Ask about every image, then write; the exit code is 3 where nothing was written."""
    parser = argparse.ArgumentParser(prog="python -m tools.digests", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, default=list(FILES))
    parser.add_argument("--plain-http", action="store_true", help="a registry without TLS, for tests")
    given = parser.parse_args()
    try:
        texts = {
            file: pinned(file.read_text("utf-8"), lambda name: asked(name, verify_tls=not given.plain_http))
            for file in given.files
        }
    except NotAnswered as problem:
        print(f"NOT PINNED: {problem}")
        return 3
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
        print(f"{file.name}: {len(_DIGEST.findall(text))} digests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
