"""Tokens, sessions, and who may try how often (S5, S6, S7, C17)."""

from __future__ import annotations

import re
import time
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from knox.models import AuthToken

from pems_sync.api import windows
from pems_sync.models import JournalEntry, Modification
from tests.cast import Cast

TOKEN = "/api/auth/token"


def sign_in(username: str = "rio-planner", password: str = "a-password", **headers):  # noqa: S107
    return Client(**headers).post(TOKEN, {"username": username, "password": password}, content_type="application/json")


def test_a_token_signs_in_until_it_is_revoked(cast: Cast) -> None:
    answer = sign_in()
    assert answer.status_code == 200
    assert set(answer.json()) == {"token", "expiresAt"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", answer.json()["expiresAt"])
    client = Client(HTTP_AUTHORIZATION=f"Bearer {answer.json()['token']}")
    assert client.get("/api/organizations").status_code == 200
    assert client.delete(TOKEN).status_code == 204
    assert client.get("/api/organizations").status_code == 401
    kinds = JournalEntry.objects.filter(organization=None).order_by("position").values_list("kind", "actor")
    assert list(kinds) == [("signed_in", "rio-planner"), ("token_revoked", "rio-planner")]


def test_tokens_are_stored_hashed_and_expire(cast: Cast) -> None:
    token = sign_in().json()["token"]
    row = AuthToken.objects.get()
    assert token not in (row.digest, row.token_key)
    AuthToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    assert Client(HTTP_AUTHORIZATION=f"Bearer {token}").get("/api/organizations").status_code == 401


@pytest.mark.parametrize(
    ("username", "password"), [("rio-planner", "wrong"), ("nobody", "a-password"), ("rio-planner", "a-password ")]
)
def test_wrong_credentials_are_401_and_all_alike(cast: Cast, username: str, password: str) -> None:
    answer = sign_in(username, password)
    assert (answer.status_code, answer.json()["error"]) == (401, "INVALID_CREDENTIALS")
    assert username not in answer.content.decode()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "x"},
        {"username": 1, "password": "x"},
        {"username": "a\0", "password": "x"},
        {"username": "x" * 151, "password": "x"},
        {"username": "x", "password": "x", "y": 1},
    ],
)
def test_a_bad_sign_in_is_400(db, body: dict) -> None:
    answer = Client().post(TOKEN, body, content_type="application/json")
    assert answer.status_code == 400


def test_a_deactivated_user_cannot_sign_in(cast: Cast) -> None:
    cast.planner.is_active = False
    cast.planner.save()
    assert sign_in().status_code == 401


def test_failures_are_limited_per_user_and_address(cast: Cast, settings) -> None:
    settings.LOGIN_FAILURE_LIMIT = 3
    assert [sign_in(password="no").status_code for _ in range(4)] == [401, 401, 401, 429]
    locked = sign_in()
    assert (locked.status_code, locked.json()["error"]) == (429, "TOO_MANY_REQUESTS")
    assert 1 <= int(locked.headers["Retry-After"]) <= 60
    assert sign_in("RIO-planner").status_code == 429, "another spelling is the same user"
    assert sign_in("rio-lead").status_code == 200
    assert sign_in(REMOTE_ADDR="127.0.0.2").status_code == 200


def test_failures_are_limited_per_address_over_all_names(cast: Cast, settings) -> None:
    settings.LOGIN_FAILURE_LIMIT = 1
    assert {sign_in(f"nobody-{number}").status_code for number in range(10)} == {401}
    assert sign_in("rio-lead").status_code == 429


def test_forty_successful_sign_ins_in_a_minute_are_fine(cast: Cast) -> None:
    assert {sign_in().status_code for _ in range(40)} == {200}


def test_signing_in_looks_at_no_cookie_and_no_header(cast: Cast) -> None:
    browser = Client(enforce_csrf_checks=True, HTTP_AUTHORIZATION="Bearer nonsense")
    browser.force_login(cast.planner)
    body = {"username": "rio-lead", "password": "a-password"}
    answer = browser.post(TOKEN, body, content_type="application/json")
    assert answer.status_code == 200
    assert AuthToken.objects.get().user == cast.lead


def test_a_browser_session_needs_the_csrf_token_to_write(cast: Cast, rio, make_record) -> None:
    record = make_record(rio, pfa_id="PFA-1")
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(cast.planner)
    assert browser.get("/api/organizations").status_code == 200
    body = {"changes": {"model": "X"}, "baseVersion": record.version}
    forged = browser.put("/api/pfa/org-rio/drafts/PFA-1", body, content_type="application/json")
    assert (forged.status_code, forged.json()["error"]) == (403, "FORBIDDEN")
    assert not Modification.objects.exists()
    browser.get("/admin/login/")
    browser.cookies["csrftoken"] = "a" * 32
    meant = browser.put(
        "/api/pfa/org-rio/drafts/PFA-1", body, content_type="application/json", headers={"X-CSRFToken": "a" * 32}
    )
    assert meant.status_code == 200
    assert browser.delete(TOKEN, headers={"X-CSRFToken": "a" * 32}).status_code == 400


def test_ten_requests_a_second_in_any_second(api, cast: Cast, settings) -> None:
    settings.API_USER_RATE_LIMIT = 10
    planner, lead = api(cast.planner), api(cast.lead)
    answers = [planner.get("/api/organizations") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert [int(answer.headers["RateLimit-Remaining"]) for answer in answers] == [*range(9, -1, -1), 0]
    assert {answer.headers["RateLimit-Limit"] for answer in answers} == {"10"}
    assert {answer.headers["RateLimit-Reset"] for answer in answers} == {"1"}
    refused = answers[-1]
    assert (refused.json()["error"], refused.headers["Retry-After"]) == ("TOO_MANY_REQUESTS", "1")
    assert lead.get("/api/organizations").status_code == 200, "the limit is each user's own"
    time.sleep(float(refused.headers["Retry-After"]))
    assert planner.get("/api/organizations").status_code == 200


def test_the_window_slides_over_the_turn_of_a_second(api, cast: Cast, settings) -> None:
    settings.API_USER_RATE_LIMIT = 10
    planner = api(cast.planner)
    time.sleep(1.5 - time.time() % 1)
    turn = int(time.time()) + 1
    first = [planner.get("/api/organizations").status_code for _ in range(10)]
    time.sleep(max(0.0, turn + 0.05 - time.time()))
    assert (first, planner.get("/api/organizations").status_code) == ([200] * 10, 429)


def test_errors_carry_the_headers_too(api, cast: Cast) -> None:
    planner = api(cast.planner)
    for path in ("/api/pfa/org-x/records", "/api/pems/sync-status"):
        assert "RateLimit-Remaining" in planner.get(path).headers
    assert "RateLimit-Remaining" not in Client().get("/api/organizations").headers


def test_without_redis_nobody_is_locked_out(cast: Cast, api, settings) -> None:
    planner = api(cast.planner)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    windows._limiter.cache_clear()
    try:
        before = time.perf_counter()
        answers = [planner.get("/api/organizations") for _ in range(12)]
        assert {answer.status_code for answer in answers} == {200}
        assert sign_in().status_code == 200
        assert time.perf_counter() - before < 3
    finally:
        windows._limiter.cache_clear()
