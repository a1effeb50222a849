"""PEMS as it is now, for a person who is about to decide: at the pace, stored forward, or a clear refusal."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pems_sync import reading
from pems_sync.client.connect import pace_for
from pems_sync.clock import database_now
from pems_sync.errors import PemsUnavailableError
from pems_sync.models import Connection, Record


def read(engine, *records, **since):
    engine.organization.connection.refresh_from_db()
    reading.read_now(engine.organization, records, since=database_now() - timedelta(**since or {"hours": 1}))


def models(*records) -> list[str]:
    return [Record.objects.get(pk=record.pk).fields["model"] for record in records]


def test_a_list_is_read_to_its_end(engine, monkeypatch):
    monkeypatch.setattr(reading, "MOST_SINGLE_READS", 1)
    monkeypatch.setattr(reading, "PAGE_ROWS", 2)
    records = engine.records[:5]
    for record in records:
        engine.sandbox.edit(record.pfa_id, {"model": "BY-PEMS"})
    read(engine, *records)
    assert models(*records) == ["BY-PEMS"] * 5


def test_at_most_so_many_pages_and_then_the_stored_values_serve(engine, monkeypatch):
    monkeypatch.setattr(reading, "MOST_SINGLE_READS", 1)
    monkeypatch.setattr(reading, "PAGE_ROWS", 1)
    monkeypatch.setattr(reading, "MOST_PAGES", 2)
    records = engine.records[:4]
    for record in records:
        engine.sandbox.edit(record.pfa_id, {"model": "BY-PEMS"})
    read(engine, *records)
    assert models(*records).count("BY-PEMS") == 2


@pytest.mark.parametrize("many", [False, True])
def test_a_pems_that_fails_is_said(engine, monkeypatch, many):
    if many:
        monkeypatch.setattr(reading, "MOST_SINGLE_READS", 0)
    engine.sandbox.script("status_500", operation="LIST" if many else "GET")
    with pytest.raises(PemsUnavailableError, match="cannot be read now"):
        read(engine, engine.records[0])


def test_refused_credentials_pause_the_connection(engine):
    engine.sandbox.script("status_401", operation="GET")
    with pytest.raises(PemsUnavailableError):
        read(engine, engine.records[0])
    assert Connection.objects.get().paused_at is not None


def test_without_a_secret_or_a_slot_nothing_is_asked(engine, monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE_SECONDS", 0.05)
    pace_for(engine.organization.connection).hold(30)
    with pytest.raises(PemsUnavailableError, match="up to its limit"):
        read(engine, engine.records[0])
    monkeypatch.delenv("PEMS_USER")
    Connection.objects.update(secret_name="pems-sync/never-fetched")
    with pytest.raises(PemsUnavailableError, match="cannot be asked"):
        read(engine, engine.records[0])
