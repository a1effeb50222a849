"""The operations page: who sees what, what it costs, and orders given there."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from pems_sync.models import Connection, Conservation, JournalEntry, MaintenanceWindow, Membership, Organization
from pems_sync.models.organization import Breaker, Role
from tests.cast import Cast, make_connection, make_organization
from tests.integration.admin_cast import make_modification, staff, superuser

PAGE = "/admin/operations/"


@pytest.fixture
def troubled(rio: Organization, portarthur: Organization, cast: Cast) -> Connection:
    """Both share one connection, whose breaker is open."""
    now = timezone.now()
    Connection.objects.update(
        breaker=Breaker.OPEN, breaker_since=now, breaker_reason="5 of 5 requests failed",
        breaker_probe_at=now + timedelta(seconds=15), base_url="https://pems.internal",
    )  # fmt: skip
    make_modification(rio, cast.planner)
    make_modification(rio, cast.planner, not_before=now, attempts=1)
    make_modification(portarthur, cast.outsider)
    Conservation.objects.create(organization=rio, checked_at=now, committed=3, by_state={"queued": 2}, difference=1)
    return Connection.objects.get()


def cells(client: Client, first: str) -> list[str]:
    """The texts of the table row that begins with this."""
    page = client.get(PAGE).content.decode()
    row = next(each for each in page.split("<tr>") if f">{first}</th>" in each)
    return [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[dh].*?</t[dh]>", row, re.DOTALL)]


def test_a_superuser_sees_every_connection_and_queue(troubled):
    MaintenanceWindow.objects.create(connection=troubled, name="yearly", starts="00:00", minutes=7 * 24 * 60)
    client = superuser()
    shown = cells(client, "demo")
    assert shown[1] == "https://pems.internal"
    assert shown[2].endswith("/ 10 per s")
    assert (shown[3], shown[5]) == ("open", "5 of 5 requests failed")
    assert shown[9].startswith("yearly, until 20")
    assert cells(client, "org-rio")[1:7] == ["1", "1", "0", "0", "0", "0"]
    assert cells(client, "org-rio")[-2] == "1"
    assert cells(client, "org-portarthur")[1:3] == ["1", "0"]
    assert "Give the order" not in client.get(PAGE).content.decode(), "who is no member gives no orders"


def test_a_member_sees_their_own_and_of_the_connection_what_concerns_them(troubled, cast):
    elsewhere = make_connection(slug="elsewhere")
    make_organization(elsewhere, "org-elsewhere", "ELSEWHERE")
    client = staff(cast.planner)
    page = client.get(PAGE).content.decode()
    assert cells(client, "PEMS of RIO")[2] == "open"
    for foreign in ("pems.internal", "portarthur", "PORTARTHUR", "elsewhere", "Give the order"):
        assert foreign not in page, foreign


def test_the_index_leads_there_and_strangers_are_not_let_in(troubled, cast):
    assert PAGE in staff(cast.planner).get(reverse("admin:index")).content.decode()
    assert Client().get(PAGE).status_code == 302


def order(client: Client, **said: str) -> str:
    """What the page says after an order."""
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', client.get(PAGE).content.decode())
    said |= {"organization": "org-rio"} | ({"csrfmiddlewaretoken": token[1]} if token else {})
    return client.post(PAGE, said, follow=True).content.decode()


def test_who_manages_all_that_share_it_gives_orders(troubled, cast, portarthur):
    admin = staff(cast.admin)
    assert "Give the order" not in admin.get(PAGE).content.decode()
    Membership.objects.create(user=cast.admin, organization=portarthur, role=Role.ADMIN)
    assert "Say why" in order(admin, order="open")
    assert "Choose what" in order(admin, order="shut", reason="x")
    assert "The order is given: closed." in order(admin, order="closed", reason="PEMS is well")
    assert Connection.objects.get().breaker_override == "closed"
    assert JournalEntry.objects.filter(kind="breaker_overridden", actor=cast.admin.username).count() == 2
    assert cells(admin, "PEMS of PORTARTHUR, RIO")[2] == "closed by order"


def test_a_forged_order_is_refused(troubled, cast, portarthur):
    admin = staff(cast.admin)
    assert admin.post(PAGE, {"organization": "org-rio", "order": "auto"}).status_code == 403, "no CSRF token"
    client = Client()  # past the form, without the right
    client.force_login(cast.admin)
    assert (
        "Nothing was done"
        in client.post(PAGE, {"organization": "org-rio", "order": "auto"}, follow=True).content.decode()
    )
    assert not JournalEntry.objects.filter(kind="breaker_overridden").exists()


def test_many_cost_no_more_queries_than_few(troubled, cast, django_assert_max_num_queries):
    for number in range(6):
        other = make_connection(slug=f"more-{number}")
        make_modification(make_organization(other, f"org-more-{number}", f"M{number}"), cast.planner)
    client = superuser()
    client.get(PAGE)
    with django_assert_max_num_queries(9):
        assert client.get(PAGE).status_code == 200
