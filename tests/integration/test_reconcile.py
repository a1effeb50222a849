"""Is everything here as PEMS has it? Each kind of difference is named, repaired on request, and counted (N1 to N4)."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from pems_sync import delivery, inbound, reconciling, tasks
from pems_sync.client.base import content_hash
from pems_sync.clock import database_now
from pems_sync.differences import Kind
from pems_sync.inbound import asking, pages
from pems_sync.models import InboundState, Job, JournalEntry, Record
from pems_sync.states import State
from tests.invariants import assert_invariants, assert_stored_equals_pems


@pytest.fixture
def record(engine):
    return engine.records[0]


@pytest.fixture
def look(engine):
    def looked(**options):
        report = reconciling.reconcile(engine.organization, **options)
        return {each.pfa_id: (each.kind, each.repaired) for each in report.differences}

    return looked


def reconcile(*options):
    """Exit code, and the JSON of the last line."""
    out = StringIO()
    code: object = 0
    try:
        call_command("reconcile", "org-rio", *options, stdout=out)
    except SystemExit as ended:
        code = ended.code
    return code, json.loads(out.getvalue().splitlines()[-1]), out.getvalue()


def before_it_looked(engine, monkeypatch):
    """PEMS says a time that lies ahead of everything that has happened so far."""
    page = pages.Reader.page

    def later(self, **how):
        from dataclasses import replace
        from datetime import timedelta

        shown = page(self, **how)
        assert shown.server_time is not None
        return replace(shown, server_time=shown.server_time + timedelta(seconds=1))

    monkeypatch.setattr(pages.Reader, "page", later)


def falsify(record, **fields):
    values = {**record.fields, **fields}
    Record.objects.filter(pk=record.pk).update(fields=values, content_hash=content_hash(values))


def test_nothing_differs(engine):
    code, figures, text = reconcile()
    assert code == 0
    assert (figures["differences"], figures["compared"]) == (0, Record.objects.count())
    assert "records compared" in text
    assert InboundState.objects.get(organization=engine.organization).differences == 0


def test_a_change_that_did_not_arrive(engine, record, look):
    engine.sandbox.edit(record.pfa_id, {"model": "T"})
    assert look() == {record.pfa_id: (Kind.MISSED_INBOUND, False)}
    assert look(repair=True) == {record.pfa_id: (Kind.MISSED_INBOUND, True)}
    assert look() == {}
    assert_stored_equals_pems(engine)


def test_a_change_made_while_we_looked_is_explained(engine, record, monkeypatch):
    compare = reconciling._Look._compare

    def edited_meanwhile(self, page):
        compare(self, page)
        engine.sandbox.edit(record.pfa_id, {"model": "AGAIN"})

    engine.sandbox.edit(record.pfa_id, {"model": "T"})
    monkeypatch.setattr(reconciling._Look, "_compare", edited_meanwhile)
    code, figures, _ = reconcile()
    assert (code, figures["byKind"]["under_way"], figures["differences"]) == (0, 1, 0)


def test_what_arrives_while_we_look_is_no_difference(engine, record, monkeypatch, look):
    compare = reconciling._Look._compare

    def arrives(self, page):
        compare(self, page)
        inbound.pull(engine.organization)

    engine.sandbox.edit(record.pfa_id, {"model": "T"})
    monkeypatch.setattr(reconciling._Look, "_compare", arrives)
    assert look() == {}


def test_our_own_write_whose_reply_was_lost(engine, record, look, monkeypatch):
    row = engine.edit(record, model="1")
    engine.sandbox.script("lost_reply")
    engine.send()
    assert engine.state(row) is State.UNKNOWN
    before_it_looked(engine, monkeypatch)
    assert look() == {record.pfa_id: (Kind.LOST_REPLY, False)}
    code, figures, _ = reconcile("--json")
    assert (code, figures["differences"]) == (0, 0), "the machine proves it by itself"
    assert look(repair=True) == {record.pfa_id: (Kind.LOST_REPLY, True)}
    assert engine.state(row) is State.CONFIRMED
    assert_invariants(engine.organization)


def test_a_foreign_edit_under_an_edit_of_ours_that_is_under_way(engine, record, look, monkeypatch):
    row = engine.edit(record, model="1")
    (claim,) = engine.claim()
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Moved"})
    before_it_looked(engine, monkeypatch)
    assert look() == {record.pfa_id: (Kind.UNDER_WAY, False)}
    delivery.deliver(claim.delivery_id)
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert look() == {}


def test_other_content_at_the_same_version(engine, record, look):
    falsify(record, model="NOT-PEMS")
    assert look() == {record.pfa_id: (Kind.MAPPING, False)}
    assert look(repair=True) == {record.pfa_id: (Kind.MAPPING, True)}
    assert_stored_equals_pems(engine)


def test_a_row_that_cannot_be_read_stays_unexplained(engine, record, look, monkeypatch):
    from pems_sync.client import answers

    record_of = answers.record_of

    def broken(shown, **how):
        if shown.get("pfaId") == record.pfa_id:
            raise ValueError("monthlyRate must be an amount")
        return record_of(shown, **how)

    monkeypatch.setattr(answers, "record_of", broken)
    assert look(repair=True) == {record.pfa_id: (Kind.MAPPING, False)}
    code, figures, text = reconcile()
    assert (code, figures["differences"]) == (1, 1)
    assert "monthlyRate must be an amount" in " ".join(text.split())


def test_a_record_that_is_missing_here(engine, record, look, monkeypatch):
    other = Record.objects.get(pk=engine.records[1].pk)
    Record.objects.filter(pk=record.pk).update(pfa_id="PFA-RENAMED")
    Record.objects.filter(pk=other.pk).update(deleted_at=database_now())
    found = look()
    assert found[record.pfa_id] == found[other.pfa_id] == (Kind.MISSING_HERE, False)
    assert found["PFA-RENAMED"] == (Kind.MISSING_THERE, False)
    repaired = look(repair=True)
    assert {each for _, each in repaired.values()} == {True}
    assert JournalEntry.objects.get(kind="record_revived").pfa_id == other.pfa_id
    assert look() == {}


def test_a_record_that_is_missing_in_pems_is_given_up_on_request_only(engine, record, look):
    row = engine.edit(record, model="1")
    engine.sandbox.remove(record.pfa_id)
    assert look() == {record.pfa_id: (Kind.MISSING_THERE, False)}
    assert Record.objects.get(pk=record.pk).deleted_at is None
    assert look(repair=True) == {record.pfa_id: (Kind.MISSING_THERE, True)}
    assert engine.state(row) is State.CONFLICTED
    assert look() == {}


def test_an_older_version_in_pems_is_told_and_never_followed(engine, record, look):
    Record.objects.filter(pk=record.pk).update(version=record.version + 5)
    assert look(repair=True) == {record.pfa_id: (Kind.MISSED_INBOUND, False)}
    assert Record.objects.get(pk=record.pk).version == record.version + 5


def test_exit_codes(engine, record):
    engine.sandbox.edit(record.pfa_id, {"model": "T"})
    code, figures, text = reconcile()
    assert (code, figures["differences"], figures["byKind"]["missed_inbound"]) == (1, 1, 1)
    assert record.pfa_id in text
    code, figures, text = reconcile("--repair", "--json")
    assert (code, figures["differences"], figures["repaired"], len(text.splitlines())) == (0, 0, 1, 1)
    with pytest.raises(CommandError, match="no organization org-nowhere") as wrong:
        call_command("reconcile", "org-nowhere")
    assert wrong.value.returncode == 2


def test_a_pems_that_cannot_be_read_proves_nothing(engine, monkeypatch):
    monkeypatch.setattr(pages, "sleep", lambda _: None)
    monkeypatch.setattr(pages, "TRIES_PER_PAGE", 1)
    engine.sandbox.script("status_500", operation="LIST")
    with pytest.raises(CommandError, match=engine.sandbox.url) as failed:
        call_command("reconcile", "org-rio")
    assert failed.value.returncode == 1
    assert InboundState.objects.get(organization=engine.organization).differences is None
    assert "500" in Job.objects.latest("started_at").errors[0]["message"]


def test_it_runs_by_itself_once_a_week(engine, record, monkeypatch):
    asked = []
    monkeypatch.setattr(asking.dispatch, "reconcile", lambda organization_id, shown: asked.append(organization_id))
    tasks.pull(engine.organization.pk)
    assert asked == []
    InboundState.objects.update(reconcile_due_at=database_now())
    tasks.pull(engine.organization.pk)
    tasks.pull(engine.organization.pk)
    assert asked == [engine.organization.pk]
    falsify(record, model="NOT-PEMS")
    tasks.reconcile(engine.organization.pk)
    assert InboundState.objects.get(organization=engine.organization).differences == 1
    job = Job.objects.latest("started_at")
    assert (job.kind, job.errors[0]["pfaId"]) == ("reconcile", record.pfa_id)
