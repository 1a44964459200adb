"""A small fleet with a day of readings, and the application on it."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI
from psycopg import conninfo

from app import config
from app.api.app import create_app
from app.domain.reading import Reading
from app.jobs import rollup
from app.store import readings, sites
from app.store.engine import make_engine
from app.store.sites import Stored

START = datetime(2026, 3, 1, tzinfo=UTC)
NOW = START + timedelta(hours=24, minutes=3)

ESTATE = """
institutions:
  - {id: bank, institution_class: joint_stock}
  - {id: other-bank, institution_class: other}
sites:
  - id: sh1
    jurisdiction: CN-BJ
    institution: bank
    time_zone: Asia/Shanghai
    profiles: [cbrc_13fyp]
    design: {it_capacity_kw: 1000, room_it_capacity_kw: {hall-1: 800}}
    meters:
      - id: main
        stage: utility
        rated_power_kw: 1000
        points: [{id: main.kwh, role: facility, kind: register}]
      - id: ups
        room: hall-1
        stage: ups
        fed_by: [main]
        rated_power_kw: 800
        points:
          - {id: ups.kwh, role: it_ups_output, kind: register}
          - {id: ups.wh, role: none, kind: register, unit: Wh}
      - id: chiller
        room: hall-1
        rated_power_kw: 400
        points:
          - {id: chiller.kwh, role: cooling, kind: register}
          - {id: chiller.mean, role: cooling, kind: interval_mean_power, stamp: start, interval_s: 900}
          - {id: hall.c, role: temperature, kind: gauge, unit: F}
  - id: bj1
    institution: other-bank
    time_zone: Asia/Shanghai
    meters:
      - id: bj.main
        points: [{id: bj.main.kwh, role: facility, kind: register}]
      - id: bj.ups
        points: [{id: bj.ups.kwh, role: it_ups_output, kind: register}]
"""


def declare(engine: sa.Engine) -> Stored:
    """The fleet, in the store."""
    with engine.begin() as connection:
        sites.sync(connection, config.parse(ESTATE).fleet)
        return sites.load(connection)


def register(point: str, power_kw: float, hours: float = 24) -> list[Reading]:
    """Quarter-hourly readings of a register under constant load."""
    return [
        Reading(point, START + timedelta(minutes=15 * i), 1000.0 + power_kw / 4 * i)
        for i in range(int(hours * 4) + 1)
    ]


def a_day(engine: sa.Engine) -> Stored:
    """The fleet with a day of readings, rolled up: PUE 1.4 at sh1, 1.6 at bj1."""
    stored = declare(engine)
    rows = [
        *register("main.kwh", 700),
        *register("ups.kwh", 500),
        *register("chiller.kwh", 150),
        *register("bj.main.kwh", 160),
        *register("bj.ups.kwh", 100),
    ]
    with engine.begin() as connection:
        readings.ingest_readings(connection, rows, dict(stored.point_id))
    rollup.run(engine)
    return stored


@contextmanager
def own_database(server_url: str, template: str) -> Iterator[sa.Engine]:
    """A database for the tests of one module that only read."""
    name = f"wattline_module_{os.getpid()}_{secrets.token_hex(4)}"
    admin = make_engine(server_url).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    engine = make_engine(make_url(server_url, name))
    try:
        yield engine
    finally:
        engine.dispose()
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")
        admin.dispose()


def make_url(server_url: str, name: str) -> str:
    """The server's URL for another database."""
    return conninfo.make_conninfo(server_url, dbname=name)


@contextmanager
def client(engine: sa.Engine, **options: Any) -> Iterator[httpx.Client]:
    """The application as of :data:`NOW`, served by uvicorn on a free port."""
    options.setdefault("clock", lambda: NOW)
    with served(create_app(engine, **options)) as base, httpx.Client(base_url=base, timeout=30) as http:
        yield http


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Base address of `app`, served in a thread until the end of the block."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        settings = uvicorn.Config(app, log_level="warning", ws="none", lifespan="on")
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def sent(at_minutes: Sequence[float], point: str = "main.kwh", start_kwh: float = 2000.0) -> dict[str, Any]:
    """A JSON body of readings."""
    return {
        "readings": [
            {"point": point, "at": (START + timedelta(minutes=m)).isoformat(), "value": start_kwh + m}
            for m in at_minutes
        ]
    }
