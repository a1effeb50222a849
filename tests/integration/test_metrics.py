"""Figures for Prometheus, for the networks that may see them (I12)."""

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from config import metrics
from pems_sync.client.connect import pace_for
from pems_sync.models import Connection, InboundState


def scraped(client: Client) -> dict[tuple[str, str], float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.content.decode())
    samples = [each for family in families for each in family.samples]
    return {(each.name, each.labels.get("organization") or each.labels["connection"]): each.value for each in samples}


def test_what_the_last_looks_at_pems_found_is_told_per_organization(rio, portarthur):
    InboundState.objects.create(organization=rio, differences=3, adjusted=7, broken_rows=[{"pfaId": "PFA-1"}])
    InboundState.objects.create(organization=portarthur, brake="too many are missing")
    found = scraped(Client())
    assert found["pems_sync_reconcile_differences", "org-rio"] == 3
    assert ("pems_sync_reconcile_differences", "org-portarthur") not in found, "never reconciled is not zero"
    assert found["pems_sync_adjusted_writes_total", "org-rio"] == 7
    assert found["pems_sync_inbound_broken_rows", "org-rio"] == 1
    assert (found["pems_sync_sweep_brake", "org-rio"], found["pems_sync_sweep_brake", "org-portarthur"]) == (0, 1)


def test_the_breaker_of_each_connection_is_told(rio):
    Connection.objects.update(breaker="half_open")
    assert scraped(Client())["pems_sync_breaker_state", "demo"] == 1
    Connection.objects.update(breaker_override="open")
    found = scraped(Client())
    assert (found["pems_sync_breaker_state", "demo"], found["pems_sync_breaker_opened_total", "demo"]) == (2, 0)


def test_the_pace_of_each_connection_is_told_as_its_limit_and_as_it_is(rio):
    def paces() -> dict[str, float]:
        families = text_string_to_metric_families(Client().get("/metrics").content.decode())
        samples = [each for family in families if family.name == "pems_sync_pace" for each in family.samples]
        assert {each.labels["connection"] for each in samples} == {"demo"}
        return {each.labels["what"]: each.value for each in samples}

    assert paces() == {"limit": 10, "now": 10}
    pace_for(rio.connection).lower()
    assert paces() == {"limit": 10, "now": 5}


def test_elsewhere_the_page_does_not_exist(rio, settings):
    InboundState.objects.create(organization=rio)
    assert Client(REMOTE_ADDR="192.0.2.1").get("/metrics").status_code == 404
    settings.METRICS_NETWORKS = ["192.0.2.0/24"]
    assert Client(REMOTE_ADDR="192.0.2.1").get("/metrics").status_code == 200
    assert Client().get("/metrics").status_code == 404


@pytest.mark.parametrize("address", ["", "unix", "999.1.1.1"])
def test_a_caller_without_an_address_is_not_welcome(address):
    assert not metrics.is_welcome(address)
