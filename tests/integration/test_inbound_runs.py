"""A pull from page to page: what was seen is never looked for in vain, and never taken for seen too early (N1, N2, N3)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection as database

from pems_sync import inbound, sweeping, tasks
from pems_sync.client.base import Page
from pems_sync.clock import database_now
from pems_sync.errors import PemsUnavailableError, PullUnderWayError
from pems_sync.inbound import asking, pages, pulling, runs
from pems_sync.inbound.pages import Reader
from pems_sync.management.commands import sync_pull
from pems_sync.models import Connection, InboundState, Job, JournalEntry, Organization, Record
from tests.invariants import assert_stored_equals_pems


@pytest.fixture
def state(engine):
    return lambda: InboundState.objects.get(organization=engine.organization)


@pytest.fixture
def asked(engine, monkeypatch):
    """Every page that is asked for: (since, cursor)."""
    calls, page = [], Reader.page

    def watched(self, *, since=None, cursor="", **more):
        calls.append((since, cursor))
        return page(self, since=since, cursor=cursor, **more)

    monkeypatch.setattr(Reader, "page", watched)
    return calls


class Crash(BaseException):
    """The process is gone: nothing of it runs any more."""


def crash_at_page(monkeypatch, number):
    apply, turned = pulling.apply, []

    def counted(organization, rows):
        turned.append(1)
        if len(turned) == number:
            raise Crash
        return apply(organization, rows)

    monkeypatch.setattr(pulling, "apply", counted)
    return lambda: monkeypatch.setattr(pulling, "apply", apply)


def edit_all(engine, **changes):
    found = Record.objects.for_organization(engine.organization).values_list("pfa_id", flat=True)
    engine.sandbox.edit_many([{"pfaId": pfa_id, "changes": changes} for pfa_id in found])
    return len(found)


def lease_ends():
    InboundState.objects.update(lease_until=database_now() - timedelta(seconds=1))


def test_a_pull_asks_only_for_what_changed_since_the_end_of_the_last_less_the_overlap(engine, state, asked, settings):
    seen_until = state().seen_until
    engine.sandbox.edit(engine.records[0].pfa_id, {"model": "T"})
    pulled = inbound.pull(engine.organization)
    assert asked == [(seen_until - timedelta(seconds=settings.PULL_OVERLAP_SECONDS), "")]
    assert (pulled.seen, pulled.changed) == (1, 1)
    assert state().seen_until > seen_until


def test_rows_of_one_instant_on_both_sides_of_a_page_boundary_are_all_seen(engine, monkeypatch):
    """Pages are ordered by (time, key): equal times do not fall between two pages."""
    monkeypatch.setattr(pages, "PAGE_ROWS", 2)
    changed = edit_all(engine, model="SAME")
    pulled = inbound.pull(engine.organization)
    assert (pulled.changed, pulled.pages) == (changed, -(-changed // 2))
    assert_stored_equals_pems(engine)


def test_a_change_at_the_very_bound_of_the_last_run_is_seen_by_the_next(engine, state):
    engine.sandbox.edit(engine.records[0].pfa_id, {"model": "T"})
    at = datetime.fromisoformat(engine.in_pems(engine.records[0])["updatedAt"])
    InboundState.objects.update(seen_until=at)
    assert inbound.pull(engine.organization).changed == 1


def test_a_crash_between_pages_goes_on_at_the_cursor(engine, state, monkeypatch, asked):
    monkeypatch.setattr(pages, "PAGE_ROWS", 3)
    changed, seen_until = edit_all(engine, model="T"), state().seen_until
    heal = crash_at_page(monkeypatch, 3)
    with pytest.raises(Crash):
        inbound.pull(engine.organization)
    broken_off = state()
    assert Record.objects.filter(fields__model="T").count() == 6, "what is applied stays"
    assert broken_off.run_cursor != ""
    assert broken_off.seen_until == seen_until
    heal()
    lease_ends()
    pulled = inbound.pull(engine.organization)
    assert asked[-pulled.pages] == (broken_off.run_since, broken_off.run_cursor)
    assert pulled.changed == changed
    assert Job.objects.latest("started_at").changed == changed, "one job tells of the whole run"
    assert state().seen_until == broken_off.run_until
    assert_stored_equals_pems(engine)


def test_a_resumed_run_takes_the_upper_bound_from_its_beginning(engine, state, monkeypatch):
    """What changed after it broke off is not before the bound, so the next run looks for it."""
    monkeypatch.setattr(pages, "PAGE_ROWS", 3)
    edit_all(engine, model="T")
    heal = crash_at_page(monkeypatch, 2)
    with pytest.raises(Crash):
        inbound.pull(engine.organization)
    bound = state().run_until
    heal()
    lease_ends()
    inbound.pull(engine.organization)
    assert state().seen_until == bound


def test_a_failed_run_does_not_move_the_cursor(engine, state, monkeypatch):
    monkeypatch.setattr(pages, "sleep", lambda _: None)
    monkeypatch.setattr(pages, "TRIES_PER_PAGE", 1)
    before = state()
    engine.sandbox.script("status_500", operation="LIST")
    with pytest.raises(PemsUnavailableError):
        inbound.pull(engine.organization)
    after = state()
    assert (after.seen_until, after.last_sweep_keys) == (before.seen_until, before.last_sweep_keys)
    assert after.lease_until is None
    assert after.pull_due_at > database_now()


def test_a_cursor_pems_does_not_take_any_more_is_forgotten(engine, state, monkeypatch):
    monkeypatch.setattr(pages, "sleep", lambda _: None)
    now = database_now()
    InboundState.objects.update(run_since=now - timedelta(hours=1), run_until=now, run_cursor="of another day")
    with pytest.raises(PemsUnavailableError):
        inbound.pull(engine.organization)
    engine.sandbox.edit(engine.records[0].pfa_id, {"model": "T"})
    inbound.pull(engine.organization)
    assert_stored_equals_pems(engine)


def test_unchanged_rows_are_not_touched(engine):
    """xmin is the transaction that wrote a row last (N3)."""
    before = _xmins()
    pulled = inbound.pull(engine.organization, full=True)
    assert (pulled.changed, pulled.seen) == (0, len(before))
    assert _xmins() == before


def _xmins():
    with database.cursor() as cursor:
        cursor.execute("SELECT id, xmin::text FROM pems_sync_record ORDER BY id")
        return cursor.fetchall()


def test_of_two_pulls_at_once_one_pulls(engine):
    run = runs.claim(engine.organization)
    with pytest.raises(PullUnderWayError):
        inbound.pull(engine.organization)
    lease_ends()
    inbound.pull(engine.organization)
    with pytest.raises(runs.LeaseLostError):
        run.renew()


def test_a_pull_whose_lease_was_given_away_moves_nothing_on(engine, state, monkeypatch):
    seen_until, save_page = state().seen_until, runs.Run.save_page

    def too_slow(self, page):
        InboundState.objects.update(lease_until=database_now() + timedelta(minutes=1))
        save_page(self, page)

    monkeypatch.setattr(runs.Run, "save_page", too_slow)
    inbound.pull(engine.organization)
    assert state().seen_until == seen_until
    assert state().lease_until is not None, "it is the other's"


def test_a_pull_does_not_follow_a_busy_pems_for_ever(engine, monkeypatch, asked):
    """Rows changed after the run began belong to the next run."""
    shown = Reader.of(engine.organization).page().records
    began = database_now()
    busy = [replace(row, updated_at=began + timedelta(seconds=number)) for number, row in enumerate(shown)]
    endless = Page(tuple(busy), (), "more", None, began)
    monkeypatch.setattr(Reader, "page", lambda self, **_: endless)
    assert inbound.pull(engine.organization).pages == 1


def test_a_row_of_another_organization_is_never_taken(engine, record_of_rio2):
    """`RIO` is a prefix of `RIO2` (N5): each row is checked, by the dialect and again where it is stored."""
    assert inbound.apply(engine.organization, [record_of_rio2]) == 0
    assert not Record.objects.filter(pfa_id=record_of_rio2.pfa_id).exists()


@pytest.fixture
def record_of_rio2(engine):
    row = Reader.of(engine.organization).page().records[0]
    return replace(row, pfa_id="PFA-OF-RIO2", organization_code="RIO2")


def test_broken_rows_are_kept_with_their_reason_until_they_are_seen_whole(engine, state, monkeypatch):
    from pems_sync.client.base import BrokenRow

    pfa_id, page = engine.records[0].pfa_id, Reader.page
    broken = Page((), (BrokenRow(pfa_id, "has no version"),), None, 1, datetime.now(UTC))
    monkeypatch.setattr(Reader, "page", lambda *_, **__: broken)
    inbound.pull(engine.organization)
    assert state().broken_rows == [{"pfaId": pfa_id, "message": "has no version"}]
    monkeypatch.setattr(Reader, "page", page)
    engine.sandbox.edit(engine.records[1].pfa_id, {"model": "T"})
    inbound.pull(engine.organization)
    assert len(state().broken_rows) == 1, "that pull did not look at it"
    engine.sandbox.edit(pfa_id, {"model": "T"})
    inbound.pull(engine.organization)
    assert state().broken_rows == []


# ---------------------------------------------------------------------- by itself


@pytest.fixture
def rung(monkeypatch):
    bells = []
    monkeypatch.setattr(sweeping.dispatch, "pull", lambda organization_id, shown: bells.append(shown))
    return bells


def test_every_organization_is_pulled_each_minute_by_one_worker(engine, portarthur, rung, settings):
    InboundState.objects.update(pull_due_at=database_now() - timedelta(seconds=1))
    one, other = asking.due(), asking.due()
    assert [asking.take_turn(each) for each in (one[0], other[0])] == [True, False], "two sweeps look at once, one asks"
    InboundState.objects.update(pull_due_at=None)
    sweeping.sweep()
    sweeping.sweep()
    assert sorted(rung) == ["PORTARTHUR", "RIO"], "asked once"
    tasks.pull(engine.organization.pk)
    due_at = InboundState.objects.get(organization=engine.organization).pull_due_at
    assert due_at is not None
    wait = (due_at - database_now()).total_seconds()
    assert 0.89 * settings.PULL_INTERVAL_SECONDS < wait <= 1.1 * settings.PULL_INTERVAL_SECONDS


def test_a_paused_organization_is_pulled_and_a_paused_connection_is_not(engine, rung):
    due = database_now() - timedelta(seconds=1)
    InboundState.objects.update(pull_due_at=due)
    Organization.objects.update(paused_at=due)
    assert [each.code for each in asking.due()] == ["PORTARTHUR", "RIO"], "who was never pulled comes first"
    Connection.objects.update(paused_at=due)
    assert asking.due() == []
    seen_until = InboundState.objects.get(organization=engine.organization).seen_until
    tasks.pull(engine.organization.pk)
    assert InboundState.objects.get(organization=engine.organization).seen_until == seen_until


def test_few_pulls_are_under_way_at_once(engine, monkeypatch):
    monkeypatch.setattr(asking, "PULLS_AT_ONCE", 1)
    InboundState.objects.update(pull_due_at=None)
    assert len(asking.due()) == 1
    runs.claim(engine.organization)
    assert asking.due() == []


def test_a_quiet_pull_of_nothing_leaves_no_job_and_no_entry(engine):
    tasks.pull(engine.organization.pk)
    entries, jobs = JournalEntry.objects.count(), Job.objects.count()
    tasks.pull(engine.organization.pk)
    assert (JournalEntry.objects.count(), Job.objects.count()) == (entries, jobs)
    engine.sandbox.edit(engine.records[0].pfa_id, {"model": "T"})
    tasks.pull(engine.organization.pk)
    assert Job.objects.count() == jobs + 1
    assert Job.objects.latest("started_at").changed == 1


def test_the_sweep_of_the_night_is_planned_and_kept(engine, asked, state):
    assert state().sweep_due_at > database_now()
    InboundState.objects.update(sweep_due_at=database_now())
    tasks.pull(engine.organization.pk)
    assert asked == [(None, "")]
    assert Job.objects.latest("started_at").kind == "sweep"
    assert state().sweep_due_at > database_now()


def test_the_hour_of_the_sweep_is_utc_with_half_an_hour_of_chance():
    noon = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    assert runs.next_sweep(noon, 2, 0.5) == datetime(2026, 2, 1, 2, 15, tzinfo=UTC)
    assert runs.next_sweep(noon, 13, 0.0) == datetime(2026, 1, 31, 13, 0, tzinfo=UTC)


def test_a_pull_is_jittered_by_ten_percent():
    noon = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    assert [(runs.next_pull(noon, 60, chance) - noon).total_seconds() for chance in (0, 0.5, 1)] == [54, 60, 66]


def test_while_edits_wait_a_pull_takes_the_share_of_inbound_only(engine, monkeypatch):
    from pems_sync.client.connect import pace_for

    taken = []

    def wait(_, **how):
        taken.append(how["inbound"])
        return True

    monkeypatch.setattr(type(pace_for(engine.connection())), "wait", wait)
    inbound.pull(engine.organization)
    engine.edit(engine.records[0], model="1")
    inbound.pull(engine.organization)
    assert taken == [False, True]


# ---------------------------------------------------------------------- by hand


def test_the_command_pulls_what_changed_or_sweeps(engine, asked):
    call_command("sync_pull", "org-rio", stdout=StringIO())
    call_command("sync_pull", "--all", "--full", stdout=StringIO())
    assert [since is None for since, _ in asked] == [False, True, True], "the sweep of both organizations"
    assert Job.objects.filter(organization=engine.organization).latest("started_at").kind == "sweep"


def test_the_command_waits_for_a_pull_that_is_under_way(engine, monkeypatch):
    monkeypatch.setattr(sync_pull, "PATIENCE_SECONDS", 0.1)
    run = runs.claim(engine.organization)
    with pytest.raises(CommandError, match="being pulled already"):
        call_command("sync_pull", "org-rio")
    monkeypatch.setattr(sync_pull, "PATIENCE_SECONDS", 5)
    monkeypatch.setattr(sync_pull, "sleep", lambda _: run.release())
    call_command("sync_pull", "org-rio", stdout=StringIO())
