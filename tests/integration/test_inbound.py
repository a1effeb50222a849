"""PEMS to here: forward only, unchanged rows write nothing, a broken row stops nothing (N1, N3 to N6, I7)."""

from dataclasses import replace

import pytest
from django.core.management import CommandError, call_command

from pems_sync import inbound, sweeping, tasks
from pems_sync.client.answers import record_of
from pems_sync.client.base import BrokenRow, Page
from pems_sync.client.connect import pace_for
from pems_sync.clock import database_now
from pems_sync.errors import PemsUnavailableError
from pems_sync.inbound import applying, pages
from pems_sync.inbound.pages import Reader
from pems_sync.models import Connection, Job, JournalEntry, Organization, Record, RecordVersion
from pems_sync.states import State
from tests.invariants import assert_invariants, assert_stored_equals_pems


@pytest.fixture
def record(engine):
    return engine.records[0]


def shown(engine, record, **changed):
    seen = record_of(engine.in_pems(record), organization_code="RIO")
    fields = {**seen.fields, **changed.pop("fields", {})}
    return replace(seen, fields=fields, **changed)


def stored(record):
    return Record.objects.get(pk=record.pk)


def test_a_pull_loads_every_record_of_the_organization_over_all_pages(engine, monkeypatch):
    monkeypatch.setattr(pages, "PAGE_ROWS", 7)
    Record.objects.filter(pk=engine.records[0].pk).update(version=0)
    pulled = inbound.pull(engine.organization, full=True)
    assert pulled.pages > 2
    assert pulled.seen == Record.objects.for_organization(engine.organization).count()
    assert {record.organization_id for record in Record.objects.all()} == {engine.organization.pk}
    assert_stored_equals_pems(engine)


def test_unchanged_rows_write_nothing(engine):
    versions, entries = RecordVersion.objects.count(), JournalEntry.objects.filter(kind="record_changed").count()
    pulled = inbound.pull(engine.organization, full=True)
    assert (pulled.changed, pulled.broken) == (0, [])
    assert (RecordVersion.objects.count(), JournalEntry.objects.filter(kind="record_changed").count()) == (
        versions,
        entries,
    )


def test_a_changed_row_is_stored_and_told(engine, record):
    engine.sandbox.edit(record.pfa_id, {"model": "T", "areaSilo": "T"})
    assert engine.pull().changed == 1
    told = JournalEntry.objects.get(kind="record_changed")
    assert sorted(told.details["changedFields"]) == ["areaSilo", "model"]
    assert (told.actor, told.after["model"]) == ("pems.user", "T")
    assert "T" not in str(told.details), "events carry no field values"
    assert_stored_equals_pems(engine)


def test_an_older_page_never_overwrites_a_newer_record(engine, record):
    old = shown(engine, record)
    engine.edit(record, model="1")
    engine.settle()
    assert inbound.apply(engine.organization, [old]) == 0
    assert stored(record).fields["model"] == "1"


def test_other_content_at_the_same_version_is_applied(engine, record):
    assert inbound.apply(engine.organization, [shown(engine, record, fields={"model": "T"})]) == 1
    assert stored(record).fields["model"] == "T"


def test_a_tombstone_gives_way_only_to_a_higher_version(engine, record):
    inbound.mark_gone(record)
    assert inbound.apply(engine.organization, [shown(engine, record)]) == 0
    assert stored(record).deleted_at is not None
    assert inbound.apply(engine.organization, [shown(engine, record, version=record.version + 1)]) == 1
    assert stored(record).deleted_at is None


def test_of_one_record_twice_in_a_page_the_newest_counts(engine, record):
    newer = shown(engine, record, version=record.version + 2, fields={"model": "NEW"})
    older = shown(engine, record, version=record.version + 1, fields={"model": "OLD"})
    inbound.apply(engine.organization, [newer, older])
    assert (stored(record).version, stored(record).fields["model"]) == (record.version + 2, "NEW")


def test_an_unknown_value_stays_null(engine, record):
    inbound.apply(engine.organization, [shown(engine, record, version=99, fields={"monthlyRate": None, "model": None})])
    assert (stored(record).fields["monthlyRate"], stored(record).fields["model"]) == (None, None)


def test_a_broken_row_is_counted_with_its_reason_and_never_stops_the_page(engine, record, monkeypatch):
    page = Page((shown(engine, record, version=99),), (BrokenRow("PFA-BAD", "has no version"),), None, 2)
    monkeypatch.setattr(Reader, "page", lambda *_, **__: page)
    pulled = engine.pull()
    assert (pulled.changed, len(pulled.broken)) == (1, 1)
    job = Job.objects.latest("started_at")
    assert (job.skipped, job.errors) == (1, [{"pfaId": "PFA-BAD", "message": "has no version"}])


def test_two_pulls_that_create_the_same_record_both_go_through(engine, record):
    """The other one commits between our look and our insert."""
    new = replace(shown(engine, record), pfa_id="PFA-NEW")
    look, looks = applying._create, []

    def beaten(organization, rows):
        looks.append(1)
        if len(looks) == 1:
            from django.db import IntegrityError

            raise IntegrityError
        return look(organization, rows)

    applying._create = beaten
    try:
        assert inbound.apply(engine.organization, [new]) == 1
    finally:
        applying._create = look
    assert len(looks) == 2


def test_a_pull_that_fails_says_so_in_its_job_and_does_not_count_as_pulled(engine, monkeypatch):
    monkeypatch.setattr(pages, "sleep", lambda _: None)
    monkeypatch.setattr(pages, "TRIES_PER_PAGE", 2)
    Organization.objects.update(pulled_at=None)
    engine.sandbox.script("status_500", operation="LIST", times=None)
    with pytest.raises(PemsUnavailableError, match=engine.sandbox.url):
        engine.pull()
    job = Job.objects.latest("started_at")
    assert job.finished_at is not None
    assert "org-rio" in job.errors[0]["message"]
    assert Organization.objects.get(pk=engine.organization.pk).pulled_at is None
    with pytest.raises(CommandError, match=engine.sandbox.url):
        call_command("sync_pull", "org-rio")


def test_a_page_is_tried_again_after_a_passing_failure(engine, monkeypatch):
    monkeypatch.setattr(pages, "sleep", lambda _: None)
    engine.sandbox.script("status_503", operation="LIST")
    assert engine.pull().changed == 0
    assert engine.connection().breaker == "closed"


def test_without_room_in_the_pace_nothing_is_pulled(engine, monkeypatch):
    monkeypatch.setattr(pages, "TRIES_PER_PAGE", 1)
    monkeypatch.setattr(type(pace_for(engine.connection())), "wait", lambda *_, **__: False)
    with pytest.raises(PemsUnavailableError, match="pace"):
        engine.pull()


def test_the_command_says_what_it_did_and_which_names_there_are(engine, capsys):
    call_command("sync_pull", "org-rio")
    assert "0 new or changed" in capsys.readouterr().out
    call_command("sync_pull", "--all")
    with pytest.raises(CommandError, match="Known: org-portarthur, org-rio"):
        call_command("sync_pull", "org-nope")
    with pytest.raises(CommandError, match="Name one"):
        call_command("sync_pull")


# ---------------------------------------------------------------- single records


def unverified(engine, record):
    engine.edit(record, model="1")
    engine.sandbox.script("no_record")
    engine.send()
    return Record.objects.select_related("organization__connection").get(pk=record.pk)


def test_the_sweep_asks_for_unverified_records_and_again_when_nothing_came(engine, record, monkeypatch):
    asked = []
    monkeypatch.setattr(sweeping.dispatch, "refresh", lambda record_id, shown: asked.append(record_id))
    unverified(engine, record)
    sweeping.ask_for_reads()
    sweeping.ask_for_reads()
    assert asked == [record.pk]
    Record.objects.filter(pk=record.pk).update(read_due_at=database_now())
    sweeping.ask_for_reads()
    assert asked == [record.pk] * 2


def test_a_refresh_reads_one_record_and_it_is_verified(engine, record):
    unverified(engine, record)
    tasks.refresh(record.pk)
    assert stored(record).read_due_at is None
    assert_stored_equals_pems(engine)


def test_a_refresh_that_fails_leaves_it_due(engine, record, monkeypatch):
    row = unverified(engine, record)
    engine.sandbox.script("status_500", operation="GET")
    inbound.refresh(row)
    assert stored(record).read_due_at is not None
    monkeypatch.setattr(type(pace_for(engine.connection())), "wait", lambda *_, **__: False)
    inbound.refresh(row)
    assert stored(record).read_due_at is not None


def test_a_refresh_of_what_is_gone_buries_the_record_and_asks_about_its_edits(engine, record, cast):
    row = unverified(engine, record)
    open_edit, draft = engine.edit(record, areaSilo="East"), engine.draft(record, by=cast.second, model="2")
    engine.sandbox.remove(record.pfa_id)
    inbound.refresh(row)
    gone_at = stored(record).deleted_at
    inbound.mark_gone(record)
    assert stored(record).deleted_at == gone_at is not None
    assert engine.state(open_edit) is State.CONFLICTED
    assert open_edit.conflicts.get().kind == "edit_deleted"
    assert engine.row(draft).at_risk == ["isDiscontinued"]
    assert_invariants(engine.organization)


def test_a_refresh_without_credentials_is_put_off(engine, record, monkeypatch):
    from pems_sync.client import secrets

    unverified(engine, record)
    for name in ("PEMS_USER", "PEMS_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(secrets, "_cached", None)
    tasks.refresh(record.pk)
    assert stored(record).read_due_at is not None
    monkeypatch.setattr(secrets, "_cached", None)


def test_a_reader_with_refused_credentials_pauses_the_connection(engine, monkeypatch):
    monkeypatch.setattr(pages, "sleep", lambda _: None)
    monkeypatch.setattr(pages, "TRIES_PER_PAGE", 1)
    engine.sandbox.script("status_403", operation="LIST")
    with pytest.raises(PemsUnavailableError, match="403"):
        engine.pull()
    assert Connection.objects.get().paused_at is not None
