"""PEMS says what changed: signed, in time, once; then the records are read (S9, N2)."""

import hashlib
import hmac
import json
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models import F
from django.test import Client
from django.utils import timezone

from pems_sync import delivery, inbound, sweeping, tasks
from pems_sync.client import secrets
from pems_sync.client.base import Fault, FaultKind, ReadFailed
from pems_sync.clock import database_now
from pems_sync.inbound import echoes, naming, runs
from pems_sync.inbound.pages import Reader
from pems_sync.models import Connection, InboundState, NamedRead, Record, WebhookEvent
from pems_sync.states import State
from pems_sync.webhooks import REMEMBERED
from tests.cast import make_connection, make_organization
from tests.invariants import assert_stored_equals_pems

SECRET = "a-webhook-secret"


@pytest.fixture(autouse=True)
def _secret(monkeypatch):
    for name, value in (("PEMS_WEBHOOK_SECRET", SECRET), ("PEMS_USER", "sandbox"), ("PEMS_PASSWORD", "sandbox")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(secrets, "_cached", None)
    yield
    secrets._cached = None


def event(*pfa_ids, code="RIO", **more):
    named = {"id": f"evt-{uuid4()}", "event": "pfa.changed", "organizationCode": code, "pfaIds": list(pfa_ids)}
    return json.dumps(named | more).encode()


def signed(body, *, secret=SECRET, at=None):
    timestamp = str(int(time.time()) if at is None else at)
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-PEMS-Timestamp": timestamp, "X-PEMS-Signature": f"sha256={digest}"}


def post(body, headers=None, *, connection="demo"):
    sender = Client(enforce_csrf_checks=True)
    where = f"/api/pems/webhook/{connection}"
    return sender.post(
        where, body, content_type="application/json", headers=signed(body) if headers is None else headers
    )


def named():
    return sorted(NamedRead.objects.values_list("organization__slug", "pfa_id"))


def test_a_genuine_event_is_accepted_without_sign_in_and_its_names_are_noted(rio):
    answer = post(event("PFA-2", "PFA-1", "PFA-2"))
    assert (answer.status_code, answer.json()) == (202, {"success": True})
    assert named() == [("org-rio", "PFA-1"), ("org-rio", "PFA-2")]


def test_what_is_not_signed_as_agreed_changes_nothing_and_is_told_nothing(rio):
    body, now = event("PFA-1"), int(time.time())
    good = signed(body)
    refused = [
        post(body, connection="no-such"),
        post(body, {}),
        post(body, signed(body, secret="another")),
        post(body, signed(body, secret="")),
        post(event("PFA-2"), good),
        post(body, {**good, "X-PEMS-Timestamp": str(now + 1)}),
        post(body, {**good, "X-PEMS-Signature": good["X-PEMS-Signature"].removeprefix("sha256=")}),
        post(body, {**good, "X-PEMS-Signature": "sha256=é"}),
        post(body, signed(body, at=now - 301)),
        post(body, signed(body, at=now + 302)),
        post(body, signed(body, at="soon")),
        post(body, signed(body, at="")),
    ]
    assert [answer.status_code for answer in refused] == [401] * len(refused)
    assert {(answer.json()["error"], answer.json()["message"]) for answer in refused} == {
        ("WEBHOOK_REFUSED", "This is not signed as agreed, or not in time.")
    }
    assert (named(), WebhookEvent.objects.count()) == ([], 0)
    assert post(body, signed(body, at=now - 295)).status_code == 202


def test_without_a_webhook_secret_nothing_is_genuine(rio, monkeypatch):
    """An empty secret would let anybody sign."""
    monkeypatch.setenv("PEMS_WEBHOOK_SECRET", "")
    body = event("PFA-1")
    assert post(body, signed(body, secret="")).status_code == 401
    assert named() == []


def test_a_repeated_event_is_answered_200_and_changes_nothing(rio):
    body = event("PFA-1")
    assert post(body).status_code == 202
    NamedRead.objects.all().delete()
    assert [post(body).status_code for _ in range(2)] == [200, 200]
    assert named() == []


def test_old_event_ids_are_forgotten_long_after_their_window(rio):
    post(event("PFA-1"))
    WebhookEvent.objects.update(received_at=database_now() - REMEMBERED)
    post(event("PFA-1"))
    assert WebhookEvent.objects.count() == 1


def test_only_organizations_of_that_connection_are_heard(rio):
    other = make_organization(make_connection(slug="other"), "org-other", "RIO")
    assert post(event("PFA-1", code="NOWHERE")).status_code == 202
    assert post(event("PFA-1", code="RIO2")).status_code == 202
    assert named() == []
    post(event("PFA-1"), connection="other")
    assert named() == [(other.slug, "PFA-1")]


def test_events_of_another_kind_are_accepted_and_left_alone(rio):
    assert post(event("PFA-1", event="pfa.printed", more={"x": 1})).status_code == 202
    assert named() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"id": 1}', event(event=None), event(pfaIds="PFA-1"), event(pfaIds=[1]), event("x" * 65)],
)
def test_signed_but_unreadable_is_400(rio, body):
    assert post(body).status_code == 400
    assert (named(), WebhookEvent.objects.count()) == ([], 0)


def test_a_body_beyond_the_limit_is_413(rio, settings):
    settings.BODY_LIMIT_BYTES = 1000
    assert post(event("x" * 1000)).status_code == 413


def test_nobody_is_slowed_down_as_a_user_is(rio, settings):
    settings.API_USER_RATE_LIMIT = 1
    assert {post(event(f"PFA-{number}")).status_code for number in range(5)} == {202}


# ---------------------------------------------------------------------- what is named is read


@pytest.fixture
def record(engine):
    return engine.records[0]


def note(engine, *pfa_ids):
    naming.note_names(engine.organization, pfa_ids)


def test_the_sweep_asks_once_for_each_organization_with_names(engine, portarthur, monkeypatch):
    asked = []
    monkeypatch.setattr(sweeping.dispatch, "read_named", lambda organization_id, shown: asked.append(shown))
    note(engine, "PFA-1", "PFA-2")
    naming.note_names(portarthur, ["PFA-3"])
    sweeping.ask_for_pulls()
    assert sorted(asked) == ["PORTARTHUR", "RIO"]
    run = runs.claim(engine.organization)
    sweeping.ask_for_pulls()
    assert sorted(asked)[-2:] == ["PORTARTHUR", "RIO"], "one is pulled just now"
    run.release()
    Connection.objects.update(paused_at=database_now())
    sweeping.ask_for_pulls()
    assert len(asked) == 3


def test_a_named_record_is_read_by_itself(engine, record):
    engine.sandbox.edit(record.pfa_id, {"model": "T"})
    note(engine, record.pfa_id, "PFA-UNKNOWN")
    engine.sandbox.reset_stats()
    tasks.read_named(engine.organization.pk)
    assert engine.sandbox.stats()["requests"]["total"] == 2
    assert named() == []
    assert_stored_equals_pems(engine)


def test_a_named_record_that_is_gone_is_given_up(engine, record):
    engine.sandbox.remove(record.pfa_id)
    note(engine, record.pfa_id)
    naming.read_named(engine.organization)
    assert Record.objects.get(pk=record.pk).deleted_at is not None
    assert named() == []


def test_many_names_are_one_pull(engine):
    for one in engine.records:
        engine.sandbox.edit(one.pfa_id, {"model": "T"})
    note(engine, *[f"PFA-UNKNOWN-{number}" for number in range(naming.MOST_SINGLE)], engine.records[0].pfa_id)
    engine.sandbox.reset_stats()
    naming.read_named(engine.organization)
    assert engine.sandbox.stats()["requests"]["total"] == 1
    assert named() == []
    assert_stored_equals_pems(engine)


def test_a_name_stays_until_it_was_read(engine, record, monkeypatch):
    fault = Fault(FaultKind.UNREACHABLE, "nobody there")
    read = Reader.one
    monkeypatch.setattr(Reader, "one", lambda *_: ReadFailed(fault, fault.message))
    note(engine, record.pfa_id)
    naming.read_named(engine.organization)
    assert named() == [("org-rio", record.pfa_id)]
    assert NamedRead.objects.get().named_at > database_now(), "not again at once"
    monkeypatch.setattr(Reader, "one", read)
    NamedRead.objects.update(named_at=database_now())
    naming.read_named(engine.organization)
    assert named() == []


def test_a_record_named_again_while_it_is_read_is_read_once_more(engine, record, monkeypatch):
    read = Reader.one

    def named_again(self, pfa_id):
        found = read(self, pfa_id)
        note(engine, pfa_id)
        return found

    monkeypatch.setattr(Reader, "one", named_again)
    note(engine, record.pfa_id)
    naming.read_named(engine.organization)
    assert named() == [("org-rio", record.pfa_id)]


def test_a_record_that_cannot_be_understood_is_left_to_a_page_which_tells_its_reason(engine, record, monkeypatch):
    monkeypatch.setattr(Reader, "one", lambda *_: ReadFailed(None, "the answer cannot be read"))
    engine.sandbox.edit(record.pfa_id, {"model": "T"})
    note(engine, record.pfa_id)
    naming.read_named(engine.organization)
    assert named() == []
    assert_stored_equals_pems(engine)


def test_names_wait_while_a_resumed_run_is_finished_whose_bound_lies_before_them(engine, record):
    now = database_now()
    InboundState.objects.update(run_since=now, run_until=now, run_cursor="")
    names = [f"PFA-{number}" for number in range(naming.MOST_SINGLE + 1)]
    note(engine, *names)
    naming.read_named(engine.organization)
    assert len(named()) == len(names)
    naming.read_named(engine.organization)
    assert named() == []


def test_the_sandbox_signs_as_we_check(engine, record):
    """Both sides of the contract, byte for byte."""
    from deploy.sandbox.webhook import signature

    body = event(record.pfa_id)
    assert post(body, signature(SECRET, body, time.time())).status_code == 202
    engine.sandbox.edit(record.pfa_id, {"model": "T"})
    inbound.naming.read_named(engine.organization)
    assert_stored_equals_pems(engine)


def test_a_write_of_ours_that_pems_names_is_not_read_again(engine, record):
    """One read per write would cost the pace a fifth (C10). Somebody else's change is read at once all the same."""
    engine.edit(record, model="1")
    engine.settle()
    reads = engine.sandbox.stats()["requests"]["total"]
    naming.note_names(engine.organization, [record.pfa_id])
    naming.read_named(engine.organization)
    assert (engine.sandbox.stats()["requests"]["total"] - reads, named()) == (0, [])
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "East"})
    naming.note_names(engine.organization, [record.pfa_id])
    NamedRead.objects.update(named_at=F("named_at") + echoes.JUST_SHOWN)
    time.sleep(echoes.JUST_SHOWN.total_seconds())
    naming.read_named(engine.organization)
    assert_stored_equals_pems(engine)


def test_a_record_named_while_a_write_of_ours_is_under_way_waits_for_its_outcome(engine, record):
    row = engine.edit(record, model="1")
    (claim,) = engine.claim()
    reads = engine.sandbox.stats()["requests"]["total"]
    naming.note_names(engine.organization, [record.pfa_id])
    naming.read_named(engine.organization)
    assert (engine.sandbox.stats()["requests"]["total"] - reads, named()) == (0, [("org-rio", record.pfa_id)])
    delivery.deliver(claim.delivery_id)
    assert engine.state(row) is State.CONFIRMED
    NamedRead.objects.update(named_at=database_now())
    naming.read_named(engine.organization)
    assert named() == []


def test_a_worker_with_a_wrong_clock_reads_a_name_when_it_is_due_by_the_databases(engine, monkeypatch):
    NamedRead.objects.create(organization=engine.organization, pfa_id=engine.records[0].pfa_id)
    NamedRead.objects.update(named_at=database_now() + timedelta(seconds=30))
    right = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: right() + timedelta(hours=1))
    naming.read_named(engine.organization)
    assert NamedRead.objects.count() == 1, "put off by half a minute, and read at once"
