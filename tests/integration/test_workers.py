"""Several workers on one database: each site is measured by one, and a file touches its own sites only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from app.cli.commands import app
from app.domain.quantity import ReadingKind, Role
from app.domain.reading import Reading
from app.domain.site import Fleet, Institution, InstitutionClass, Meter, Point, Site
from app.errors import ConfigError, StoreUnavailable
from app.jobs.ingest import OTHER_WORKER, Ingest
from app.jobs.membership import Membership
from app.store import engine as stores
from app.store import sites, tables, workers
from app.store.workers import LEASE_S, Share, Worker

BANK = Institution(id="bank", name="A bank", institution_class=InstitutionClass.JOINT_STOCK)
A, B = Worker("a", "machine-a:1"), Worker("b", "machine-b:1")
BOTH = ["north", "south"]


def site(key: str, *meters: str) -> Site:
    declared = [
        Meter(id=m, points=(Point(id=f"{m}.kwh", role=Role.FACILITY, kind=ReadingKind.REGISTER),))
        for m in meters
    ]
    return Site(id=key, institution="bank", time_zone="Asia/Shanghai", meters=tuple(declared))


NORTH, SOUTH = site("north", "n1"), site("south", "s1")


def sync(engine: sa.Engine, owner: str, *declared: Site) -> sites.SyncResult:
    with stores.begin(engine) as connection:
        return sites.sync(connection, Fleet(institutions=(BANK,), sites=declared), owner)


def declared(engine: sa.Engine) -> tuple[set[str], set[str]]:
    with stores.connect(engine) as connection:
        fleet = sites.load(connection).fleet
    return set(fleet.site), set(fleet.meter)


def beat(engine: sa.Engine, worker: Worker, keys: list[str] = BOTH) -> Share:
    with stores.begin(engine) as connection:
        return workers.beat(connection, worker, keys)


@contextmanager
def silence_of(engine: sa.Engine, worker: Worker) -> Iterator[None]:
    """As if a worker was not heard of for the time of a lease."""
    since = timedelta(seconds=LEASE_S + 1)
    with stores.begin(engine) as connection:
        w, t = tables.workers, tables.leases
        connection.execute(sa.update(w).where(w.c.id == worker.id).values(seen_at=w.c.seen_at - since))
        connection.execute(
            sa.update(t).where(t.c.worker == worker.id).values(expires_at=t.c.expires_at - since)
        )
    yield


# -- leases ------------------------------------------------------------------------------------------


def test_one_worker_has_everything(engine: sa.Engine) -> None:
    assert beat(engine, A) == Share(frozenset(BOTH), has_jobs=True)


def test_two_workers_never_measure_one_site_and_one_runs_the_jobs(engine: sa.Engine) -> None:
    keys = [f"site{i}" for i in range(20)]
    for _ in range(3):
        shares = [beat(engine, worker, keys) for worker in (A, B)]
        assert not shares[0].sites & shares[1].sites
    assert shares[0].sites | shares[1].sites == set(keys)
    assert shares[0].sites
    assert shares[1].sites
    assert [share.has_jobs for share in shares] == [True, False]


def test_a_worker_with_its_own_file_leaves_the_others_sites_alone(engine: sa.Engine) -> None:
    north, south = A._replace(sites=frozenset({"north"})), B._replace(sites=frozenset({"south"}))
    for _ in range(2):
        assert beat(engine, north).sites == {"north"}
        assert beat(engine, south).sites == {"south"}


def test_a_standby_takes_over_from_a_worker_that_is_silent(engine: sa.Engine) -> None:
    for worker in (A, B, A, B):
        beat(engine, worker)
    with silence_of(engine, A):
        assert beat(engine, B) == Share(frozenset(BOTH), has_jobs=True)
    with stores.connect(engine) as connection:
        jobs = sa.select(tables.leases.c.epoch).where(tables.leases.c.subject == "jobs")
        assert connection.execute(jobs).scalar_one() == 2
        assert workers.lost(connection, A).keys() == set(BOTH)
        assert workers.lost(connection, B) == {}


def test_whoever_leaves_is_followed_at_once(engine: sa.Engine) -> None:
    beat(engine, A)
    with stores.begin(engine) as connection:
        workers.leave(connection, A)
    assert beat(engine, B) == Share(frozenset(BOTH), has_jobs=True)


def test_who_is_there_is_listed(engine: sa.Engine) -> None:
    beat(engine, A)
    beat(engine, B._replace(sites=frozenset()))
    with stores.connect(engine) as connection:
        listed = workers.members(connection)
    assert [(m.name, m.sites, m.has_jobs) for m in listed] == [
        ("machine-a:1", tuple(BOTH), True),
        ("machine-b:1", (), False),
    ]


def test_readings_after_a_takeover_are_the_new_workers_to_store(engine: sa.Engine) -> None:
    sync(engine, "", NORTH)
    late, other = Membership(engine, None), Membership(engine, None)
    late.beat(["north"])
    late.leave()
    other.beat(["north"])
    taken_at = late.lost()["north"]
    ingest = Ingest(engine, "poller", lost=late.lost)
    before = Reading("n1.kwh", taken_at - timedelta(seconds=1), 1.0)
    after = Reading("n1.kwh", taken_at + timedelta(seconds=1), 2.0)
    stowed = ingest.stow([before, after])
    assert stowed.by_site == {"north": 1}
    assert [(drop.point, drop.reason, drop.readings) for drop in stowed.drops] == [
        ("n1.kwh", OTHER_WORKER, 1)
    ]


def test_a_worker_whose_lease_may_have_ended_runs_no_jobs_and_goes_on_measuring(engine: sa.Engine) -> None:
    now_s = [100.0]
    member = Membership(engine, None, clock=lambda: now_s[0])
    assert member.measures("north"), "nothing is known yet"
    assert member.beat(BOTH)
    assert not member.beat(BOTH)
    assert member.has_jobs
    now_s[0] += LEASE_S
    assert not member.has_jobs
    assert member.measures("north")


# -- whose file describes a site ---------------------------------------------------------------------


def test_a_file_retires_only_its_own_sites(engine: sa.Engine) -> None:
    sync(engine, "north.yaml", NORTH)
    assert sync(engine, "south.yaml", SOUTH).retired_points == ()
    assert declared(engine) == ({"north", "south"}, {"n1", "s1"})
    assert sync(engine, "north.yaml").retired_points == ("n1.kwh",)
    assert declared(engine) == ({"south"}, {"s1"})


def test_a_meter_dropped_from_a_file_is_retired_and_the_other_files_stay(engine: sa.Engine) -> None:
    sync(engine, "north.yaml", site("north", "n1", "n2"))
    sync(engine, "south.yaml", SOUTH)
    assert sync(engine, "north.yaml", NORTH).retired_points == ("n2.kwh",)
    assert declared(engine) == ({"north", "south"}, {"n1", "s1"})


def test_a_site_that_two_files_describe_stays_until_both_drop_it(engine: sa.Engine) -> None:
    for owner in ("one", "two"):
        sync(engine, owner, NORTH, SOUTH)
    assert sync(engine, "one", NORTH).kept_sites == ("south",)
    assert declared(engine)[0] == {"north", "south"}
    assert sync(engine, "two", NORTH).kept_sites == ()
    assert declared(engine)[0] == {"north"}


def test_a_meter_of_another_files_site_is_refused_by_name(engine: sa.Engine) -> None:
    sync(engine, "north.yaml", NORTH)
    with pytest.raises(ConfigError, match="meter 'n1' stands in site 'north', which another site file"):
        sync(engine, "south.yaml", site("south", "n1"))
    stolen = replace(SOUTH.meters[0], points=(replace(SOUTH.meters[0].points[0], id="n1.kwh"),))
    with pytest.raises(ConfigError, match=r"point 'n1\.kwh' stands in site 'north'"):
        sync(engine, "south.yaml", replace(SOUTH, meters=(stolen,)))
    assert declared(engine) == ({"north"}, {"n1"})


def test_a_meter_that_moves_between_sites_needs_a_date(engine: sa.Engine) -> None:
    sync(engine, "site.yaml", site("north", "n1", "n2"), SOUTH)
    with pytest.raises(ConfigError, match=r"meter 'n2' stood in site 'north' until now .* say when it moved"):
        sync(engine, "site.yaml", NORTH, site("south", "s1", "n2"))
    assert sync(engine, "site.yaml", site("renamed", "n1", "n2"), SOUTH).retired_points == ()


def test_sites_of_before_the_upgrade_belong_to_the_first_file(engine: sa.Engine) -> None:
    sync(engine, "", NORTH, SOUTH)
    with stores.begin(engine) as connection:
        connection.execute(sa.delete(tables.site_sources))
    assert sync(engine, "site.yaml", NORTH).retired_points == ("s1.kwh",)


def test_the_instant_counts_by_the_clock_of_the_database(engine: sa.Engine) -> None:
    beat(engine, A)
    with stores.connect(engine) as connection:
        (seen,) = (member.seen_at for member in workers.members(connection))
        now = connection.execute(sa.func.clock_timestamp().select()).scalar_one()
    assert timedelta() <= now - seen < timedelta(minutes=5)
    assert seen.tzinfo is not None
    assert seen.astimezone(UTC) <= datetime.now(UTC) + timedelta(minutes=5)


def test_the_command_lists_who_is_there(engine: sa.Engine, database_url: str) -> None:
    beat(engine, A)
    environment = {"WATTLINE_DATABASE_URL": database_url}
    listed = CliRunner(env=environment).invoke(app, ["workers", "--json"])
    (found,) = json.loads(listed.stdout)["workers"]
    assert (found["name"], found["sites"], found["has_jobs"]) == ("machine-a:1", BOTH, True)
    assert "machine-a:1" in CliRunner(env=environment).invoke(app, ["workers"]).stdout


# -- a worker that stands still in the middle of a transaction ------------------------------------------


def beginning(
    url: str, make_test_engine: Callable[..., sa.Engine], worker: Worker, lock: str
) -> sa.Connection:
    """A transaction of a worker's process that changed something."""
    named = make_test_engine(url, application_name=workers.session_name("worker", worker.id))
    connection = named.connect()
    connection.execute(sa.text("SELECT name FROM locks WHERE name = :name FOR UPDATE"), {"name": lock})
    return connection


def test_whoever_takes_over_ends_the_sessions_of_the_worker_before(
    engine: sa.Engine, database_url: str, make_test_engine: Callable[..., sa.Engine]
) -> None:
    beat(engine, A)
    frozen, other = (
        beginning(database_url, make_test_engine, worker, lock)
        for worker, lock in ((A, "rollup"), (Worker("c", "machine-c:1"), "alarms"))
    )
    beat(engine, B)
    frozen.execute(sa.text("SELECT 1"))  # it is heard of
    with silence_of(engine, A):
        assert beat(engine, B).has_jobs
    with pytest.raises(StoreUnavailable, match="terminating connection"):
        frozen.execute(sa.text("SELECT 1"))
    other.commit()
    other.close()
    frozen.close()


def test_a_job_commits_nothing_once_another_worker_has_taken_over(engine: sa.Engine) -> None:
    late, other = Membership(engine, None), Membership(engine, None)
    for member in (late, other, late):
        member.beat(BOTH)
    change = sa.text("INSERT INTO locks VALUES (:name)")
    with late.doing_jobs(), stores.begin(engine) as connection:
        connection.execute(change, {"name": "before"})

    def do_while_another_takes_over() -> None:
        with late.doing_jobs(), stores.begin(engine) as connection:
            connection.execute(change, {"name": "after"})
            with silence_of(engine, late._worker):
                other.beat(BOTH)

    with pytest.raises(StoreUnavailable, match="taken over the jobs"):
        do_while_another_takes_over()
    with stores.begin(engine) as connection:  # what it does for itself goes on
        connection.execute(change, {"name": "own"})
        found = connection.execute(sa.text("SELECT name FROM locks WHERE name IN ('before', 'after', 'own')"))
        assert set(found.scalars()) == {"before", "own"}


def test_nobody_takes_the_jobs_between_the_check_and_the_commit(
    engine: sa.Engine, database_url: str, make_test_engine: Callable[..., sa.Engine]
) -> None:
    hasty = make_test_engine(database_url, lock_timeout_s=0.2)
    for worker in (A, B, A):
        beat(engine, worker)
    with silence_of(engine, A), stores.begin(engine) as connection:
        connection.execute(sa.text("INSERT INTO locks VALUES ('anything')"))
        workers.hold_jobs(connection, A)
        with pytest.raises(StoreUnavailable, match="lock"):
            beat(hasty, B)
    assert beat(hasty, B).has_jobs


def test_what_only_reads_locks_nothing_at_its_end(engine: sa.Engine) -> None:
    for worker in (A, B, A):
        beat(engine, worker)
    with stores.begin(engine) as connection:
        connection.execute(sa.text("SELECT count(*) FROM locks"))
        workers.hold_jobs(connection, A)
        written = connection.execute(sa.text("SELECT pg_current_xact_id_if_assigned()")).scalar()
    assert written is None
