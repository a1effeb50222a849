"""Who may open a socket, and with which code the others are sent away."""

import asyncio

import pytest
from django.contrib.sessions.models import Session
from knox.models import AuthToken

from realtime.reading import in_thread
from tests.integration.realtime_cast import Listener, cookie_of, happen, path_for, refusal, ticket_for

pytestmark = pytest.mark.usefixtures("transactional_db")
RIO = "/api/ws/sync/org-rio"
OWN_PAGE = {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}


def code(path: str, **headers: str) -> int:
    return asyncio.run(refusal(path, **headers))


def connected(path: str, **headers: str) -> dict:
    return asyncio.run(Listener(path, **headers).open())


def test_a_ticket_opens_a_socket_without_an_origin(rio, cast):
    last = happen(rio, 3)
    event = connected(path_for(cast.viewer, rio))
    assert (event["type"], event["organizationId"]) == ("CONNECTED", "org-rio")
    assert (event["seq"], event["details"]) == (last, {"seq": last})


def test_a_ticket_opens_a_socket_from_any_origin(rio, cast):
    assert connected(path_for(cast.planner, rio), origin="https://elsewhere.example")["type"] == "CONNECTED"


def test_a_used_ticket_is_4401(rio, cast):
    path = path_for(cast.planner, rio)
    connected(path)
    assert code(path) == 4401


@pytest.mark.parametrize("query", ["", "?ticket=", "?ticket=wrong", "?ticket=%00%ff", "?ticket=a&ticket=b", "?other=1"])
def test_without_a_good_ticket_4401(rio, query):
    assert code(RIO + query) == 4401


def test_a_bad_ticket_does_not_fall_back_to_the_session(rio, cast):
    assert code(f"{RIO}?ticket=wrong", cookie=cookie_of(cast.planner), **OWN_PAGE) == 4401


def test_a_ticket_is_for_one_organization(rio, portarthur, cast):
    assert code(f"/api/ws/sync/org-portarthur?ticket={ticket_for(cast.planner, rio)}") == 4403
    assert code(f"/api/ws/sync/org-nowhere?ticket={ticket_for(cast.planner, rio)}") == 4403


def test_a_ticket_dies_with_the_membership_the_user_and_the_token(rio, cast):
    token = AuthToken.objects.create(cast.lead)[0]
    of_lead = path_for(cast.lead, rio, token_digest=token.digest)
    paths = [path_for(cast.planner, rio), path_for(cast.viewer, rio), of_lead]
    cast.planner.memberships.all().delete()
    type(cast.viewer).objects.filter(pk=cast.viewer.pk).update(is_active=False)
    token.delete()
    assert [code(path) for path in paths] == [4403, 4403, 4401]


def test_the_session_opens_a_socket_for_our_own_pages(rio, cast):
    assert connected(RIO, cookie=cookie_of(cast.planner), **OWN_PAGE)["type"] == "CONNECTED"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:8000"},
        {"host": "127.0.0.1:8000", "origin": "https://elsewhere.example"},
        {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8001"},
        {"host": "127.0.0.1:8000", "origin": "null"},
        {"host": "127.0.0.1:8000", "origin": "http://[::1"},
        {"host": "elsewhere.example", "origin": "https://elsewhere.example"},
        {"origin": "http://127.0.0.1:8000"},
        {},
    ],
)
def test_the_session_opens_no_socket_for_pages_of_others(rio, cast, headers):
    assert code(RIO, cookie=cookie_of(cast.planner), **headers) == 4403


def test_a_page_of_a_trusted_origin_may_use_the_session(rio, cast, settings):
    settings.CSRF_TRUSTED_ORIGINS = ["https://planning.example"]
    cookie = cookie_of(cast.planner)
    assert connected(RIO, cookie=cookie, host="127.0.0.1:8000", origin="https://planning.example")["seq"] == 0


def test_a_session_without_a_user_or_membership_is_sent_away(rio, cast):
    assert code(RIO, cookie="sessionid=forged", **OWN_PAGE) == 4401
    assert code(RIO, cookie=cookie_of(cast.outsider), **OWN_PAGE) == 4403
    assert code("/api/ws/sync/org-nowhere", cookie=cookie_of(cast.planner), **OWN_PAGE) == 4403


@pytest.mark.parametrize("path", ["/", "/api/ws/sync/", "/api/ws/sync/org-rio/more", "/api/ws/sync/%00", "/ws"])
def test_other_paths_are_refused_before_accepting(path):
    assert asyncio.run(Listener(path).connect()) == "websocket.close"


@pytest.mark.parametrize("end", ["membership", "permission", "user", "token", "session"])
def test_an_open_socket_is_closed_within_five_seconds_when_its_right_ends(rio, cast, end):
    token = AuthToken.objects.create(cast.planner)[0]
    cookie = cookie_of(cast.planner)

    def revoke() -> None:
        match end:
            case "membership":
                cast.planner.memberships.all().delete()
            case "permission":
                cast.planner.memberships.update(permissions=["draft"])
            case "user":
                type(cast.planner).objects.filter(pk=cast.planner.pk).update(is_active=False)
            case "token":
                token.delete()
            case "session":
                Session.objects.all().delete()

    async def scenario() -> tuple[int, list[dict]]:
        path = RIO if end == "session" else path_for(cast.planner, rio, token_digest=token.digest)
        headers = {"cookie": cookie, **OWN_PAGE} if end == "session" else {}
        ended, other = Listener(path, **headers), Listener(path_for(cast.viewer, rio))
        await ended.open()
        await other.open()
        await in_thread(revoke)
        code = await ended.close_code(5)
        await in_thread(happen, rio)
        return code, await other.frame()

    found, others = asyncio.run(scenario())
    assert found == (4401 if end in ("token", "session") else 4403)
    assert [event["type"] for event in others] == ["QUEUE_PAUSED"]


def test_too_many_sockets_of_one_user_are_4429(rio, cast, settings):
    settings.REALTIME = {"sockets_per_user": 2}

    async def scenario() -> tuple[int, dict]:
        one, two = Listener(path_for(cast.planner, rio)), Listener(path_for(cast.planner, rio))
        await one.open()
        await two.open()
        refused = await refusal(path_for(cast.planner, rio))
        await one.leave()
        return refused, await Listener(path_for(cast.planner, rio)).open()

    refused, again = asyncio.run(scenario())
    assert refused == 4429
    assert again["type"] == "CONNECTED"
