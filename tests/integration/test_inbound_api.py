"""POST /api/pems/pull: who may, what it answers, what it starts."""

from datetime import timedelta

import pytest

from pems_sync import dispatch, tasks
from pems_sync.clock import database_now
from pems_sync.models import Connection, InboundState, Job, JournalEntry

PULL = "/api/pems/pull"


@pytest.fixture
def rung(monkeypatch):
    bells = []
    monkeypatch.setattr(dispatch, "pull", lambda organization_id, shown: bells.append(shown))
    return bells


@pytest.fixture
def ask(api, cast):
    return lambda who=None, **body: api(who or cast.planner).post(
        PULL, {"organizationId": "org-rio"} | body, format="json"
    )


def test_who_may_pull(rio, cast, ask, client):
    assert client.post(PULL, "{}", content_type="application/json").status_code == 401
    assert ask(cast.outsider).status_code == 404
    assert ask(cast.viewer).status_code == 403
    assert ask(cast.viewer, full="perhaps").status_code == 403, "the permission comes first"
    assert not Job.objects.exists()
    for member in (cast.planner, cast.lead, cast.admin):
        assert ask(member).status_code == 202


@pytest.mark.parametrize("body", [{"full": "yes"}, {"full": 1}, {"full": None}, {"more": 1}, {"organizationId": 7}])
def test_what_is_not_understood_is_400(rio, cast, ask, body):
    assert ask(**body).status_code == 400
    assert not Job.objects.exists()


def test_a_pull_is_started_through_the_queue_and_its_job_is_there_at_once(
    engine, cast, ask, rung, django_capture_on_commit_callbacks
):
    engine.sandbox.edit(engine.records[0].pfa_id, {"model": "T"})
    with django_capture_on_commit_callbacks(execute=True):
        job_id = ask().json()["jobId"]
    job = Job.objects.get(pk=job_id)
    assert (job.kind, job.author, job.finished_at, rung) == ("pull", cast.planner, None, ["RIO"])
    assert JournalEntry.objects.get(kind="pull_asked").actor == "rio-planner"
    tasks.pull(engine.organization.pk)
    job.refresh_from_db()
    assert (job.changed, job.errors) == (1, [])
    assert job.finished_at is not None


def test_asked_for_again_while_it_runs_it_is_the_same_job(engine, ask, rung):
    first = ask().json()["jobId"]
    assert ask().json()["jobId"] == first
    tasks.pull(engine.organization.pk)
    assert ask().json()["jobId"] != first


def test_a_full_pull_is_a_sweep_and_follows_a_pull_that_runs(engine, ask, rung):
    state = InboundState.objects.filter(organization=engine.organization)
    full = ask(full=True).json()["jobId"]
    tasks.pull(engine.organization.pk)
    job = Job.objects.get(pk=full)
    assert (job.kind, job.seen) == ("sweep", state.get().last_sweep_keys)
    pull = ask().json()["jobId"]
    assert ask(full=True).json()["jobId"] == pull
    assert state.filter(sweep_due_at__lte=database_now()).exists()


def test_a_lost_bell_is_rung_again(engine, ask, rung):
    from pems_sync.inbound import asking

    ask()
    state = InboundState.objects.filter(organization=engine.organization)
    assert asking.due() == [] or engine.organization not in asking.due()
    state.update(pull_due_at=database_now() - timedelta(seconds=1))
    assert engine.organization in asking.due()


def test_asked_for_while_a_quiet_pull_runs_it_follows_at_once(engine, ask, rung):
    from pems_sync.inbound import runs

    run = runs.claim(engine.organization)
    runs.begin(run, full=False, author_id=None, quiet=True)
    run.until = database_now()
    job_id = ask().json()["jobId"]
    runs.end(run)
    state = InboundState.objects.get(organization=engine.organization)
    assert str(state.run_job_id) == job_id
    assert InboundState.objects.filter(pk=state.pk, pull_due_at__lte=database_now()).exists()
    tasks.pull(engine.organization.pk)
    assert Job.objects.get(pk=job_id).finished_at is not None


def test_on_a_paused_connection_the_job_says_so(engine, ask, rung):
    job_id = ask().json()["jobId"]
    Connection.objects.update(paused_at=database_now(), paused_reason="PEMS refused the credentials")
    tasks.pull(engine.organization.pk)
    job = Job.objects.get(pk=job_id)
    assert job.finished_at is not None
    assert "PEMS refused the credentials" in job.errors[0]["message"]
