"""Where the service's log goes: to standard error, one line an event, JSON where that is no terminal."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

_QUIET = dict.fromkeys(("uvicorn", "alembic", "apscheduler"), logging.WARNING)


def configure(level: int = logging.INFO) -> None:
    """Send the log of this process, and of the libraries it uses, to standard error."""
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before, processors=[_without_record, *_renderer()]
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(quiet)


def _renderer() -> list[Any]:
    if sys.stderr.isatty():
        return [structlog.dev.ConsoleRenderer()]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


_without_record = structlog.stdlib.ProcessorFormatter.remove_processors_meta
