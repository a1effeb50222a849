"""What goes over the wire, and what is made of what comes back."""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from realtime import frames
from realtime.limits import Limits
from realtime.socket import Tempo

MODIFICATION = UUID("6f0c9f4e-6a57-4b68-8a7c-0d2b6f2a9c11")


def test_an_event_has_exactly_the_keys_of_the_interface():
    at = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=2)))
    event = frames.event("org-rio", 1042, "SYNC_SUCCESS", "PFA-12345", MODIFICATION, at, {"newVersion": 5})
    assert json.loads(event) == {
        "v": 1,
        "seq": 1042,
        "type": "SYNC_SUCCESS",
        "organizationId": "org-rio",
        "pfaId": "PFA-12345",
        "modificationId": str(MODIFICATION),
        "timestamp": "2026-03-01T10:00:00.250Z",
        "details": {"newVersion": 5},
    }


def test_what_an_event_is_not_about_is_null():
    event = json.loads(frames.event("org-rio", 7, "QUEUE_PAUSED", "", None, datetime.now(UTC), {}))
    assert (event["pfaId"], event["modificationId"], event["details"]) == (None, None, {})


def test_connected_carries_the_last_seq_twice_and_reset_has_none():
    [connected] = json.loads(frames.connected("org-rio", 41))
    assert (connected["type"], connected["seq"], connected["details"]) == ("CONNECTED", 41, {"seq": 41})
    [reset] = json.loads(frames.reset("org-rio"))
    assert reset["type"] == "RESET"
    assert "seq" not in reset


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '"RESUME"', '{"type":"PING"}', "{}", "[" * 900, '{"type":["RESUME"]}', "NaN", None],
)
def test_everything_but_a_resume_is_ignored(text):
    assert frames.resumed_after(text) is frames.NOT_A_RESUME


def test_a_resume_is_recognised_whatever_its_after_is():
    assert frames.resumed_after('{"type":"RESUME","after":12}') == 12
    assert frames.resumed_after('{"type":"RESUME"}') is None


def test_the_21st_message_within_a_second_is_one_too_many():
    tempo = Tempo(Limits())
    assert not any(tempo.is_exceeded(number * 0.04) for number in range(20))
    assert tempo.is_exceeded(0.99)


def test_twenty_messages_a_second_may_go_on_for_ever():
    tempo = Tempo(Limits())
    assert not any(tempo.is_exceeded(number * 0.0501) for number in range(200))
