"""The energy flow: nodes, bands and what reaches no meter."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from app.charts import sankey
from app.charts.sankey import Labels
from app.domain.flow import energy_flow
from app.domain.period import Period
from tests.unit.test_capacity import INDEX, frame, site

PERIOD = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC))


def test_every_node_has_what_goes_in_and_what_reaches_no_meter() -> None:
    flow = energy_flow(site(), frame(grid=120, ups_a=60, ups_b=40, pdu_1=50, pdu_2=45), PERIOD)
    nodes = {node.meters: node for node in flow.nodes}
    assert nodes["grid",].energy_kwh == pytest.approx(120)
    assert nodes["grid",].unmetered_kwh == pytest.approx(20)
    assert nodes["ups-a", "ups-b"].unmetered_kwh == pytest.approx(5)
    assert nodes["pdu-1",].unmetered_kwh is None  # nothing below it is metered
    assert [nodes[m].depth for m in (("grid",), ("ups-a", "ups-b"), ("pdu-1",))] == [0, 1, 2]
    links = {(link.source, link.target): link.energy_kwh for link in flow.links}
    assert links[("grid",), ("ups-a", "ups-b")] == pytest.approx(100)
    assert links[("ups-a", "ups-b"), ("pdu-2",)] == pytest.approx(45)


def test_what_is_not_known_is_named_and_no_remainder_is_made_of_it() -> None:
    flow = energy_flow(site(), frame(grid=120, ups_a=60, ups_b=40, pdu_1=50, pdu_2=math.nan), PERIOD)
    assert flow.unknown == ("pdu-2",)
    nodes = {node.meters: node for node in flow.nodes}
    assert nodes["ups-a", "ups-b"].unmetered_kwh is None
    empty = energy_flow(site(), pd.DataFrame(index=INDEX[:0]), PERIOD)
    assert (empty.nodes, empty.period) == ((), None)


def test_the_drawing_is_well_formed_and_every_part_leads_on() -> None:
    flow = energy_flow(site(), frame(grid=120, ups_a=60, ups_b=40, pdu_1=50, pdu_2=45), PERIOD)
    labels = Labels(
        name=lambda meter: f"<{meter}>",
        energy=lambda kwh: f"{kwh:.0f} kWh",
        address=lambda meter: f"/meters/{meter}?a=1&b=2",
        unmetered="Unmetered",
        unmetered_address=lambda meters: f"/balance/{len(meters)}",
        title="Flow",
    )
    drawn = sankey.draw(flow, labels)
    ET.fromstring(drawn)
    assert len(re.findall(r'<a href="/meters/', drawn)) == len(flow.nodes)
    assert len(re.findall(r'<a href="/balance/\d"', drawn)) == 2
    assert len(re.findall("flow-band", drawn)) == len(flow.links)
    assert 'style="' not in drawn
    assert PERIOD.end - PERIOD.start == timedelta(hours=1)
