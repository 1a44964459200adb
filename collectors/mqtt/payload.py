"""What stands where in a payload, and which topics a filter means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def at_path(document: Any, path: str) -> Any:
    """What stands at a path such as ``data.power[0].value``; None where there is nothing."""
    for name, index in _STEP.findall(path):
        if name and isinstance(document, dict):
            document = document.get(name)
        elif index and isinstance(document, list) and int(index) < len(document):
            document = document[int(index)]
        else:
            return None
    return document


def holds(document: Any, where: Mapping[str, str | int | float]) -> bool:
    """Whether a document has these values at these paths."""
    return all(str(at_path(document, path)) == str(value) for path, value in where.items())


def is_filter(topic: str) -> bool:
    """Whether a text is a topic, or a filter with ``+`` and ``#`` in their places."""
    levels = topic.split("/")
    alone = all(level in ("+", "#") or not set("+#\0") & set(level) for level in levels)
    return bool(topic) and alone and "#" not in levels[:-1]


def matches(wanted: str, topic: str) -> bool:
    """Whether a topic is one of those that a filter with ``+`` and ``#`` means."""
    if wanted == topic:
        return True
    ours, theirs = wanted.split("/"), topic.split("/")
    if topic.startswith("$") and ours[0] in ("+", "#"):
        return False
    for index, level in enumerate(ours):
        if level == "#":
            return True
        if index >= len(theirs) or level not in ("+", theirs[index]):
            return False
    return len(ours) == len(theirs)
