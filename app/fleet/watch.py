"""What the other cells said last: asked every minute, so that no page and no scrape waits for one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from app.fleet import pue
from app.fleet.cells import Cell
from app.fleet.fanout import Answer
from app.fleet.pue import SitePue

_log = structlog.get_logger(__name__)

WINDOW = "24h"
"""Period of the figures that are watched."""
_EVERY_S = 60.0
DEADLINE_S = 10.0
"""Longest time that a cell has. [s]"""


class Seen(NamedTuple):
    """The answers of all cells, and when they were asked."""

    at: datetime | None
    """None: not yet."""
    answers: Sequence[Answer[tuple[SitePue, ...]]]

    @property
    def sites(self) -> list[SitePue]:
        """Sites of the cells that answered."""
        return [site for answer in self.answers for site in answer.said or ()]

    @property
    def missing(self) -> list[str]:
        """Cells that did not."""
        return [answer.cell.id for answer in self.answers if answer.said is None]


class Watch:
    """Asks the cells again and again, in a thread of its own; `cells` may be none."""

    def __init__(
        self, cells: Sequence[Cell], *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.cells = tuple(cells)
        self._clock, self._seen, self._ended = clock, Seen(None, ()), threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet-watch", daemon=True)

    @property
    def seen(self) -> Seen:
        """What was said last."""
        return self._seen

    def start(self) -> None:
        """Ask from now on; nothing where there is no cell to ask."""
        if self.cells:
            self._thread.start()

    def look(self) -> None:
        """Ask once."""
        at = self._clock()
        try:
            answers = pue.ask(self.cells, WINDOW, deadline_s=DEADLINE_S)
        except Exception as error:  # noqa: BLE001 - old answers must not be shown for those of now
            _log.exception("the other cells could not be asked")
            answers = [
                Answer(cell, None, f"could not be asked: {type(error).__name__}") for cell in self.cells
            ]
        self._seen = Seen(at, answers)

    def stop(self) -> None:
        """Ask no more; a question that is on its way ends with the process."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.look()
            self._ended.wait(_EVERY_S)
