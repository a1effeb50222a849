"""Tickets: one-time, short-lived, and worthless to somebody who reads Redis."""

import pytest
from knox.models import AuthToken

from pems_sync.store import redis_store
from realtime import tickets
from realtime.tickets import Visitor
from tests.integration.realtime_cast import ticket_for

pytestmark = pytest.mark.django_db
URL = "/api/realtime/ticket"


def test_a_ticket_is_good_once():
    visitor = Visitor(7, 3, token_digest="abc")
    ticket = tickets.issue(visitor)
    assert tickets.redeem(ticket) == visitor
    assert tickets.redeem(ticket) is None


def test_a_ticket_lives_thirty_seconds(rio, cast):
    ticket_for(cast.planner, rio)
    [key] = redis_store().keys("pems-sync:ticket:*")
    assert 28_000 < redis_store().pttl(key) <= 30_000


def test_redis_holds_no_ticket(rio, cast):
    ticket = ticket_for(cast.planner, rio)
    [key] = redis_store().keys("pems-sync:ticket:*")
    assert ticket not in f"{key!r}{redis_store().get(key)!r}"
    assert len(ticket) >= 43, "256 random bits"


@pytest.mark.parametrize("ticket", ["", "wrong", "\udcff", "\x00", "a" * 5000])
def test_what_was_never_issued_redeems_to_nothing(ticket):
    assert tickets.redeem(ticket) is None


def test_a_member_gets_a_ticket_that_remembers_the_token(api, rio, cast):
    answer = api(cast.viewer).post(URL, {"organizationId": "org-rio"}, format="json")
    assert answer.status_code == 200, answer.content
    digest = AuthToken.objects.get(user=cast.viewer).digest
    assert tickets.redeem(answer.json()["ticket"]) == Visitor(cast.viewer.pk, rio.pk, token_digest=digest)


def test_a_session_gets_a_ticket_that_remembers_the_session(client, rio, cast):
    client.force_login(cast.viewer)
    answer = client.post(URL, {"organizationId": "org-rio"}, content_type="application/json")
    assert tickets.redeem(answer.json()["ticket"]) == Visitor(
        cast.viewer.pk, rio.pk, session_key=client.session.session_key
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"organizationId": "org-portarthur"}, 404),
        ({"organizationId": "org-nowhere"}, 404),
        ({"organizationId": 7}, 400),
        ({"organizationId": None}, 400),
        ({"organizationId": ["org-rio"]}, 400),
        ({"organizationId": "org\x00rio"}, 400),
        ({"organizationId": "org-rio", "more": 1}, 400),
        ({}, 400),
        ([], 400),
        ("org-rio", 400),
    ],
)
def test_no_ticket_for_strangers_and_bad_bodies(api, cast, body, status):
    answer = api(cast.planner).post(URL, body, format="json")
    assert answer.status_code == status, answer.content
    assert set(answer.json()) >= {"error", "message", "requestId"}
    assert not redis_store().keys("pems-sync:ticket:*")


def test_no_ticket_without_signing_in(client, cast):
    assert client.post(URL, {"organizationId": "org-rio"}, content_type="application/json").status_code == 401
