"""The page about devices: every profile, what it gives, and how it was tested."""

from __future__ import annotations

import re
from collections.abc import Iterable

from collectors.profiles.profile import MODELS, AnyProfile, read_profile, shipped_files
from tools.reference import markdown

_TITLES = {"dlt645": "DL/T 645", "modbus": "Modbus", "snmp": "SNMP"}
_INTRODUCTION = """
What Wattline reads without a description of your own. `wattline probe HOST` tells which of them fits a
device, `wattline profiles show NAME` prints its registers or OIDs. *Tested with* says what stands behind a
profile: the `recording` of a real device, read through it in the tests; its `document`, tested with the
words or objects that the document describes; or `one source` where no second one confirmed the numbers:
compare every value with the panel. A device that is not listed may speak one of the standard MIBs in the
table, or be [described in a few lines](../how-to/own-profile.md).
"""
_GIVES = (
    ("energy", r"(?!.*(reactive|apparent)).*energy.*_kwh"),
    ("power", r"(?!.*(reactive|apparent)).*_kw"),
    ("apparent power", r".*_kva"),
    ("current", r".*_a"),
    ("voltage", r".*_v"),
    ("frequency", r".*_hz"),
    ("load", r".*load.*_percent"),
    ("battery", r".*battery.*"),
    ("temperature", r".*temperature.*_c"),
    ("humidity", r".*humidity.*"),
)
_PARTS = (
    ("outlets", r".*outlet_\{"),
    ("phases", r".*_l(\d|\{)|.*phase_\{"),
    ("inlets", r".*(infeed|inlet)_(\d|\{)"),
)


def page() -> str:
    """The whole page."""
    profiles = [read_profile(path.read_text(), file=path.name).named(path.stem) for path in shipped_files()]
    texts = [markdown.wrapped(" ".join(_INTRODUCTION.split()))]
    for protocol in MODELS:
        chosen = sorted(
            (p for p in profiles if p.protocol == protocol), key=lambda p: (p.vendor.lower(), p.name)
        )
        texts += [f"## {_TITLES.get(protocol, protocol)}", markdown.table(_HEADING, map(_row, chosen))]
    return markdown.page("Devices", *texts)


_HEADING = ["Maker", "Models", "Profile", "Gives", "Tested with", "Source"]


def _row(profile: AnyProfile) -> list[str]:
    names = [channel.name for channel in profile.channels]
    return [
        profile.vendor,
        profile.model,
        f"`{profile.name}`",
        _given(names),
        "recording" if profile.evidence == "recording" else "document" if profile.verified else "one source",
        profile.source,
    ]


def _given(names: Iterable[str]) -> str:
    known = list(names)
    quantities = [word for word, pattern in _GIVES if any(re.fullmatch(pattern, name) for name in known)]
    parts = [word for word, pattern in _PARTS if any(re.match(pattern, name) for name in known)]
    return ", ".join(quantities) + (f"; by {', '.join(parts)}" if parts else "")
