"""Bells: by task name, ids only, readable in Flower, and never a reason to fail."""

import pytest
import redis
from celery import current_app

from pems_sync import dispatch, tasks
from pems_sync.models import Modification
from pems_sync.states import State


@pytest.fixture
def rung(monkeypatch):
    sent = []
    monkeypatch.setattr(dispatch.current_app, "send_task", lambda name, **message: sent.append((name, message)))
    return sent


def test_messages_carry_ids_only_and_say_in_words_what_they_are_about(engine, rung, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        row = engine.edit(engine.records[0], model="SECRET-VALUE")
        Modification.objects.filter(pk=row.pk).update(reason="Überholt")
        engine.sandbox.script("item_422")
        from pems_sync import scheduling

        scheduling.pump(engine.organization.connection_id)
        tasks.deliver(rung[-1][1]["args"][0])
    names = {name for name, _ in rung}
    assert names >= {"pems_sync.pump", "pems_sync.deliver", "pems_sync.dead_letter"}
    assert "SECRET-VALUE" not in str(rung)
    (shown,) = {message["argsrepr"] for name, message in rung if name == "pems_sync.deliver"}
    assert shown == f"(RIO {row.pfa_id} · Überholt)"
    dead = next(message for name, message in rung if name == "pems_sync.dead_letter")
    assert row.pfa_id in dead["argsrepr"]
    assert dead["args"] == [str(row.pk)]


def test_every_task_that_is_rung_exists_and_is_routed(engine, rung):
    dispatch.ring(1, in_seconds=2000)
    dispatch.prove([engine.records[0].organization_id], shown="x")
    dispatch.refresh(1, shown="x")
    assert {name for name, _ in rung} <= set(current_app.tasks)
    assert rung[0][1]["countdown"] == 60, "a later bell is rung by the sweep"
    assert current_app.conf.task_routes["pems_sync.deliver"] == {"queue": "pems.write"}


def test_a_bell_that_cannot_be_rung_is_only_logged(monkeypatch):
    for failure in (redis.ConnectionError, OSError):

        def gone(*_, failure=failure, **__):
            raise failure

        monkeypatch.setattr(dispatch.current_app, "send_task", gone)
        dispatch.ring(1)


def test_the_tasks_do_what_their_names_say(engine):
    row = engine.edit(engine.records[0], model="1")
    engine.sandbox.script("lost_reply")
    tasks.pump(engine.organization.connection_id)
    tasks.deliver(str(engine.row(row).delivery_id))
    assert engine.state(row) is State.UNKNOWN
    engine.skip_waits()
    tasks.prove([str(row.pk)])
    assert engine.state(row) is State.CONFIRMED
    tasks.sweep()
    bad = engine.edit(engine.records[1], model="1")
    engine.sandbox.script("item_422")
    engine.send()
    tasks.dead_letter(str(bad.pk))
