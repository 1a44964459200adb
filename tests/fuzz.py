"""Fuzz decoders for as long as wanted: ``python -m tests.fuzz modbus snmp --seconds 600``.

The tests that run in seconds with every change run here again and again with new cases; memory is compared
between the first tenth and the end. The sign-in flow runs against the whole application on an embedded
PostgreSQL of its own.
"""

from __future__ import annotations

import argparse
import inspect
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis

from app.store.embedded.server import EmbeddedServer
from app.store.engine import make_engine
from app.store.migrate import upgrade
from tests.integration import test_hostile_inputs as inputs
from tests.integration.oidc_provider import provider
from tests.property import test_dlt645_codec as frames
from tests.property import test_hostile_files as files
from tests.protocol import test_bacnet as bacnet
from tests.protocol import test_hostile_devices as devices

_EXAMPLES = 500
_MOST_GROWTH_BYTES = 100_000_000
"""Growth of memory that is no leak: caches fill, the allocator keeps what it once had. [B]"""


def _texts(kind: str) -> tuple[Callable[..., Any], ...]:
    return tuple(
        partial(test, kind=kind)
        for test in (
            files.test_any_text_is_understood_or_refused,
            files.test_a_good_file_with_something_else_in_it_is_understood_or_refused,
            files.test_a_good_file_with_another_value_in_it_is_understood_or_refused,
        )
    )


TARGETS: Mapping[str, tuple[Callable[..., Any], ...]] = {
    "modbus": (devices.test_whatever_a_modbus_device_answers,),
    "bacnet": (
        bacnet.test_whatever_a_bacnet_device_answers,
        bacnet.test_any_bytes_are_understood_or_malformed,
    ),
    "dlt645": (devices.test_whatever_a_dlt645_line_says, frames.test_only_sound_frames_are_found_in_anything),
    "snmp": (devices.test_whatever_an_snmp_agent_answers,),
    "site-file": _texts("site file"),
    "mapping": _texts("mapping"),
    "profile": _texts("profile"),
    "csv": (
        files.test_any_table_is_read_or_refused,
        files.test_any_bytes_are_read_or_refused,
        files.test_an_export_with_damage_in_it_is_read_or_refused,
        files.test_every_sample_with_damage_in_it_is_read_or_refused,
    ),
    "xml": (files.test_an_xml_file_with_damage_in_it_is_read_or_refused,),
    "xlsx": (
        files.test_a_workbook_with_damage_in_it_is_read_or_refused,
        partial(files.test_a_saved_workbook_with_damage_in_it_is_read_or_refused, form="xlsx"),
    ),
    "xls": (partial(files.test_a_saved_workbook_with_damage_in_it_is_read_or_refused, form="xls"),),
    "xlsb": (partial(files.test_a_saved_workbook_with_damage_in_it_is_read_or_refused, form="xlsb"),),
    "sign-in": (
        inputs.test_whatever_comes_to_the_sign_in,
        inputs.test_whatever_the_provider_says_at_the_end_of_a_sign_in,
    ),
}
"""What is fuzzed, by name: tests of Hypothesis."""


@contextmanager
def _application() -> Iterator[dict[str, Any]]:
    """What the tests of the sign-in take: the whole application, over HTTP."""
    with TemporaryDirectory(prefix="wattline-fuzz-") as folder:
        Path(folder).chmod(0o711)
        with EmbeddedServer(Path(folder, "data")) as server:
            engine = make_engine(server.url)
            upgrade(engine)
            with provider() as idp, inputs.application(engine, idp) as http:
                yield {"http": http, "idp": idp}
            engine.dispose()


def fuzz(name: str, seconds: float) -> None:
    """Run the tests of a target with new cases until the time is over; raises what they raise."""
    with _application() if name == "sign-in" else nullcontext({}) as fixtures:
        _fuzz(name, seconds, fixtures)


def _fuzz(name: str, seconds: float, fixtures: Mapping[str, Any]) -> None:
    began_s, runs, early_bytes = time.monotonic(), 0, 0
    while (spent_s := time.monotonic() - began_s) < seconds:
        for test in TARGETS[name]:
            wanted = inspect.signature(test).parameters
            _with_more_cases(test)(**{name: one for name, one in fixtures.items() if name in wanted})
            runs += 1
        if spent_s < seconds / 10 or not early_bytes:
            early_bytes = _peak_bytes()
    grown_bytes = _peak_bytes() - early_bytes
    cases, grown_mb = runs * _EXAMPLES, grown_bytes / 1e6
    sys.stdout.write(f"{name}: {cases} cases in {spent_s:.0f} s, grew by {grown_mb:.1f} MB\n")
    sys.stdout.flush()
    if grown_bytes > _MOST_GROWTH_BYTES:
        raise SystemExit(f"{name}: memory grows without end")


def _with_more_cases(test: Callable[..., Any]) -> Callable[..., Any]:
    """The test with many new cases and none from earlier runs."""
    inner = test.func if isinstance(test, partial) else test
    wanted = hypothesis.settings(
        inner._hypothesis_internal_use_settings, max_examples=_EXAMPLES, database=None, deadline=None
    )
    inner._hypothesis_internal_use_settings = wanted
    return test


def _peak_bytes() -> int:
    """Most memory that this process ever had. [B]"""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Fuzz what is named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*TARGETS, []], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=600.0)
    given = parser.parse_args()
    for name in given.names or TARGETS:
        fuzz(name, given.seconds)


if __name__ == "__main__":
    main()
