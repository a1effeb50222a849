"""I2: what was accepted against what there is, each minute."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from structlog.testing import capture_logs

from config import heartbeat
from pems_sync import conserving, dispatch, sweeping
from pems_sync.clock import database_now
from pems_sync.models import Conservation, HourTally
from pems_sync.services.drafts import discard_drafts
from pems_sync.services.people import retry_modification, withdraw_modification
from pems_sync.services.rollback import roll_back
from tests.integration.test_metrics import scraped


def run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(sql)
        cursor.execute("SET session_replication_role = origin")


def of(organization) -> Conservation:
    return next(row for row in conserving.check_all(database_now()) if row.organization_id == organization.pk)


def committed() -> int:
    return sum(HourTally.objects.values_list("committed", flat=True))


@pytest.fixture
def accepted(engine):
    """Three edits accepted: one folded into another, one withdrawn; and a draft thrown away, which never was."""
    first, second, third = engine.records[:3]
    engine.edit(first, model="1")
    engine.edit(first, model="2")
    withdraw_modification(membership=engine.member(), modification=engine.edit(second, model="1"))
    engine.draft(third, model="1")
    discard_drafts(membership=engine.member())
    return engine


def test_every_accepted_edit_is_counted_once_and_found(accepted, rio):
    assert committed() == 3
    found = of(rio)
    assert (found.committed, found.by_state) == (3, {"queued": 1, "superseded": 1, "withdrawn": 1})
    assert (found.difference, found.off_since) == (0, None)
    accepted.settle()
    assert of(rio).by_state == {"confirmed": 1, "superseded": 1, "withdrawn": 1}


def test_an_edit_that_comes_back_is_not_accepted_twice(accepted, rio):
    accepted.settle()
    row = accepted.edit(accepted.records[4], model="refused")
    accepted.sandbox.script("status_422", pfaId=row.pfa_id, times=None)
    before = committed()
    accepted.settle()
    accepted.sandbox.clear_faults()
    assert accepted.state(row) == "dead"
    retry_modification(membership=accepted.member(), modification=row)
    assert committed() == before
    assert of(rio).difference == 0


def test_a_lost_edit_is_an_alarm_until_it_is_back(accepted, rio, portarthur):
    run("CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM pems_sync_modification WHERE state = 'queued'")
    conserving.check_all(database_now())
    run("DELETE FROM pems_sync_modification WHERE state = 'queued'")
    with capture_logs() as logged:
        since = of(rio).off_since
        assert since is not None
        assert of(rio).off_since == since, "it has been off since then"
    assert [each["event"] for each in logged if each["log_level"] == "error"] == ["edits_unaccounted_for"], "told once"
    assert (of(rio).difference, of(portarthur).difference, conserving.differences()) == (1, 0, 1)
    run("INSERT INTO pems_sync_modification SELECT * FROM kept")
    with capture_logs() as logged:
        assert (of(rio).difference, of(rio).off_since) == (0, None)
    assert [each["event"] for each in logged if each["log_level"] == "error"] == ["edits_accounted_for_again"]


def test_a_row_nobody_accepted_is_an_alarm_as_well(accepted, rio):
    run("DELETE FROM pems_sync_journalentry WHERE kind = 'modification_queued'")
    run("UPDATE pems_sync_hourtally SET committed = 0")
    assert of(rio).difference == -3


def test_what_an_older_release_accepted_is_counted_from_the_journal(accepted, rio):
    """Its workers do not write the column; the journal has every commit all the same."""
    HourTally.objects.update(committed=0)
    HourTally.objects.filter(confirmed=0).delete()
    with capture_logs() as logged:
        assert (of(rio).difference, of(rio).committed) == (0, 3)
    assert [each["event"] for each in logged] == ["accepted_edits_counted_anew"]
    accepted.edit(accepted.records[5], model="1")
    assert (of(rio).difference, of(rio).committed) == (0, 4)


def test_the_journal_is_asked_only_when_the_difference_is_news(accepted, rio, monkeypatch):
    run("DELETE FROM pems_sync_modification WHERE state = 'queued'")
    asked: list[Any] = []
    recount = conserving.recount

    def asking(ids: list[int]) -> int:
        asked.append(ids)
        return recount(ids)

    monkeypatch.setattr(conserving, "recount", asking)
    for _ in range(3):
        of(rio)
    assert asked == [[rio.pk]]


def test_the_migration_counts_what_was_accepted_before(accepted, rio):
    before = committed()
    HourTally.objects.all().delete()
    migration = import_module("pems_sync.migrations.0005_count_committed")
    with connection.cursor() as cursor:
        cursor.execute(migration.COUNT)
    assert committed() == before == 3
    assert len(HourTally.objects.first().latency) == 17


def test_one_look_a_minute_whoever_asks(rio):
    assert conserving.check_if_due()
    assert not conserving.check_if_due()
    Conservation.objects.update(checked_at=database_now() - timedelta(seconds=61))
    assert conserving.check_if_due()


def test_the_sweep_asks_for_it_when_it_is_due(rio, monkeypatch):
    rung: list[bool] = []
    monkeypatch.setattr(dispatch, "conserve", lambda: rung.append(True))
    sweeping.ask_for_the_count()
    conserving.check_if_due()
    sweeping.ask_for_the_count()
    assert rung == [True]


def test_of_two_who_count_at_once_one_goes_without(transactional_db, rio, monkeypatch):
    others: list[bool] = []
    check_all = conserving.check_all

    def meanwhile(now: datetime) -> list[Conservation]:
        with ThreadPoolExecutor(1) as another:
            others.append(another.submit(_in_a_thread).result())
        return check_all(now)

    monkeypatch.setattr(conserving, "check_all", meanwhile)
    assert conserving.check_if_due()
    assert others == [False]


def _in_a_thread() -> bool:
    try:
        return conserving.check_if_due()
    finally:
        connection.close()


def test_metrics_and_health_tell(accepted, rio):
    heartbeat.beat("write1@here", ["pems.write"])
    shown = Client().get("/api/health/write-sync").json()
    told = shown.get("details", shown)["conservation"]
    assert told == {"difference": 0, "checkedSecondsAgo": None}
    run("DELETE FROM pems_sync_modification WHERE state = 'queued'")
    conserving.check_all(database_now())
    shown = Client().get("/api/health/write-sync").json()
    told = shown.get("details", shown)["conservation"]
    assert told["difference"] == 1
    assert 0 <= told["checkedSecondsAgo"] < 60
    assert "org-rio" not in str(shown), "no organization is named without a sign-in"
    found = scraped(Client())
    assert found["pems_sync_conservation_difference", "org-rio"] == 1
    assert found["pems_sync_conservation_age_seconds", "org-rio"] < 60


def test_edits_of_a_rollback_are_accepted_edits(engine, rio, cast):
    record = engine.records[0]
    engine.edit(record, model="new")
    engine.settle()
    roll_back(membership=engine.member(cast.lead), pfa_id=record.pfa_id, version=record.version, reason="back")
    found = of(rio)
    assert (found.committed, found.difference) == (2, 0)
