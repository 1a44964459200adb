"""``wattline`` of a cell or an edge with a journal.

``python -m tests.faults.fleet.process FOLDER serve ...`` is ``wattline serve ...``, and writes to the folder.
``WATTLINE_FAULTS_PLANT`` names a fault of the product itself that is planted to see the run fail:

early
    an edge removes readings from its spool before its cell has committed them;
lost
    a cell loses a reading of each batch and says that it was stored;
doubled
    a cell stores what comes a second time a second time, a microsecond later.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli import main
from tests.faults.collector import keep_journal

if TYPE_CHECKING:
    from app.domain.edge_message import Answer, Claim, Message
    from app.edge.sender import Sender
    from app.jobs.edge_intake import Intake
    from collectors.spool import Batch, Spool

ACK_WAIT_S = 3.0
"""After so long the hub delivers again what a killed consumer had; a minute in operation. [s]"""
PLANT = "WATTLINE_FAULTS_PLANT"


def _plant_early() -> None:
    from app.edge.sender import Sender

    send = Sender._send

    async def too_early(sender: Sender, spool: Spool, batch: Batch, claim: Claim) -> None:
        spool.ack(batch)
        await send(sender, spool, batch, claim)

    Sender._send = too_early  # type: ignore[method-assign]


def _plant_lost() -> None:
    _change_batches(lambda readings: readings[:-1])


def _plant_doubled() -> None:
    from datetime import timedelta

    later = timedelta(microseconds=1)
    _change_batches(lambda readings: (*readings, *(r._replace(at=r.at + later) for r in readings[:1])))


def _change_batches(change: Callable[[Any], Any]) -> None:
    from dataclasses import replace

    from app.jobs.edge_intake import Intake

    take = Intake.take

    def changed(intake: Intake, key_id: str, message: Message) -> Answer:
        return take(intake, key_id, replace(message, readings=tuple(change(message.readings))))

    Intake.take = changed  # type: ignore[method-assign]


_PLANTS: dict[str, tuple[str, Callable[[], None]]] = {
    "early": ("edge", _plant_early),
    "lost": ("cell", _plant_lost),
    "doubled": ("cell", _plant_doubled),
}
PLANTS = tuple(_PLANTS)


def prepare(journals: Path, role: str) -> None:
    """What each process of the run does before it is ``wattline``."""
    faulthandler.register(signal.SIGUSR1)  # shows where a process is that does not end
    if role == "cell":
        from app.jobs import hub_intake

        hub_intake._ACK_WAIT_S = ACK_WAIT_S
    where, plant = _PLANTS.get(os.environ.get(PLANT, ""), ("", lambda: None))
    if where == role:
        plant()
    keep_journal(journals)


if __name__ == "__main__":
    prepare(Path(sys.argv.pop(1)), "edge" if "edge" in sys.argv else "cell")
    main()
