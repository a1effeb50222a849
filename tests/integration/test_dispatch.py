"""Bells: by task name, ids only, readable in Flower, and never a reason to fail."""

import base64
import json
from inspect import isfunction
from typing import Any
from uuid import UUID

import pytest
import redis
from celery import current_app
from celery._state import _task_stack

from pems_sync import dispatch, tasks
from pems_sync.models import Modification
from pems_sync.states import State
from pems_sync.store import redis_store
from tests.conftest import warm_pace


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


CANARY = "SECRET-VALUE"


def on_the_lists() -> list[dict[str, Any]]:
    """Every message of every queue as it lies in Redis, its body decoded."""
    raw = [each for queue in current_app.conf.task_queues for each in redis_store().lrange(queue.name, 0, -1)]
    messages = [json.loads(each) for each in raw]
    for message in messages:
        message["body"] = json.loads(base64.b64decode(message["body"]))
    return messages


def test_on_the_wire_a_bell_is_ids_and_a_version(engine, django_capture_on_commit_callbacks):
    """Each bell there is, over the real broker. A new one is to be added here."""
    row = engine.edit(engine.records[0], model=CANARY)
    bells = {
        "ring": lambda: dispatch.ring(1),
        "ring_on_commit": lambda: dispatch.ring_on_commit(1, in_seconds=2),
        "deliver": lambda: dispatch.deliver(row.pk, shown="RIO"),
        "worker_lost": lambda: dispatch.worker_lost(str(row.pk)),
        "prove": lambda: dispatch.prove([row.pk, row.pk], shown="RIO"),
        "refresh": lambda: dispatch.refresh(1, shown="RIO"),
        "pull": lambda: dispatch.pull(1, shown="RIO"),
        "pull_on_commit": lambda: dispatch.pull_on_commit(1, shown="RIO"),
        "read_named": lambda: dispatch.read_named(1, shown="RIO"),
        "conserve": dispatch.conserve,
        "reconcile": lambda: dispatch.reconcile(1, shown="RIO"),
        "dead_letter_on_commit": lambda: dispatch.dead_letter_on_commit(row.pk, shown="RIO"),
    }
    public = {
        name for name, each in vars(dispatch).items() if isfunction(each) and each.__module__ == dispatch.__name__
    }
    assert {name for name in public if not name.startswith("_")} == set(bells)
    redis_store().flushdb()
    with django_capture_on_commit_callbacks(execute=True):
        for bell in bells.values():
            bell()
    messages = on_the_lists()
    assert len(messages) == len(bells)
    for message in messages:
        arguments, keywords, _ = message["body"]
        assert keywords == {}
        for each in arguments[0] if arguments and isinstance(arguments[0], list) else arguments:
            assert isinstance(each, int) or UUID(each)
        assert message["headers"][dispatch.VERSION_HEADER] == dispatch.MESSAGE_VERSION == 1


def test_no_value_of_an_edit_reaches_redis(engine, django_capture_on_commit_callbacks):
    redis_store().flushdb()
    warm_pace(engine.organization.connection)
    with django_capture_on_commit_callbacks(execute=True):
        row = engine.edit(engine.records[0], model=CANARY)
        engine.sandbox.script("item_422")
        tasks.pump(engine.organization.connection_id)
        tasks.deliver(str(engine.row(row).delivery_id))
    assert {message["headers"]["task"] for message in on_the_lists()} >= {"pems_sync.deliver", "pems_sync.dead_letter"}
    assert CANARY not in str(on_the_lists())


@pytest.fixture
def heard(engine):
    """Carries a message out as a worker does: (version or None, arguments, keywords) → whether the row was claimed."""
    row = engine.edit(engine.records[0], model="1")
    task = current_app.tasks["pems_sync.pump"]

    def hear(version, **keywords):
        headers = {} if version is None else {dispatch.VERSION_HEADER: version}
        _task_stack.push(task)
        task.push_request(headers=headers)
        try:
            task.run(engine.organization.connection_id, **keywords)
        finally:
            task.pop_request()
            _task_stack.pop()
        return engine.state(row) is State.SENDING

    return hear


@pytest.mark.parametrize(
    ("version", "keywords", "carried_out"),
    [
        (None, {}, True),  # the release before sends none
        (1, {}, True),
        (1, {"hurry": True}, True),  # says more than is understood here
        (2, {}, False),  # its arguments may mean something else: the sweep rings again
        (2, {"hurry": True}, False),
        ("2", {}, False),
    ],
)
def test_a_message_of_another_release(heard, version, keywords, carried_out):
    assert heard(version, **keywords) is carried_out
