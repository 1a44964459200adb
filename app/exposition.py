"""The text format of ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[str, float]
"""Labels as they stand between the braces, and the value."""


def escape(text: str) -> str:
    """A label's value as the text format wants it."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def labels(**values: str) -> str:
    """Labels as they stand between the braces."""
    return ",".join(f'{name}="{escape(value)}"' for name, value in values.items())


def write_family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> bytes:
    """One family in the text exposition format; nothing where it has no samples."""
    lines = "".join([f"{name}{{{labels}}} {value!r}\n" for labels, value in samples])
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n{lines}".encode() if lines else b""
