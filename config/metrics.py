"""`/metrics` for Prometheus: read from the database at each scrape, so that every web process says the same.

Names organizations, so it answers only the networks of METRICS_NETWORKS (I12); to all others the page does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address, ip_network

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pems_sync.client.connect import pace_for
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.clock import database_now
from pems_sync.models import Connection, Conservation, InboundState
from pems_sync.models.organization import Breaker
from pems_sync.services import breaking


class InboundCollector(Collector):
    """How faithful the copy of PEMS is."""

    def collect(self) -> Iterator[Metric]:
        labels = ["organization"]
        differences = GaugeMetricFamily(
            "pems_sync_reconcile_differences",
            "Records that differ from PEMS without a reason, by the last reconcile",
            labels=labels,
        )
        broken = GaugeMetricFamily(
            "pems_sync_inbound_broken_rows", "Rows of PEMS the last pull could not read", labels=labels
        )
        brake = GaugeMetricFamily(
            "pems_sync_sweep_brake", "1 while a sweep found too many records missing to give them up", labels=labels
        )
        adjusted = CounterMetricFamily(
            "pems_sync_adjusted_writes", "Writes whose values PEMS adjusted while applying them", labels=labels
        )
        for state in InboundState.objects.select_related("organization").order_by("organization__slug"):
            label = [state.organization.slug]
            if state.differences is not None:
                differences.add_metric(label, state.differences)
            broken.add_metric(label, len(state.broken_rows))
            brake.add_metric(label, bool(state.brake))
            adjusted.add_metric(label, state.adjusted)
        yield from (differences, broken, brake, adjusted)


class ConservationCollector(Collector):
    """Whether every accepted edit is accounted for (I2)."""

    def collect(self) -> Iterator[Metric]:
        labels = ["organization"]
        difference = GaugeMetricFamily(
            "pems_sync_conservation_difference",
            "Edits accepted, less those found in any state: anything but 0 is an alarm",
            labels=labels,
        )
        age = GaugeMetricFamily(
            "pems_sync_conservation_age_seconds", "Since accepted edits were counted last", labels=labels
        )
        now = database_now()
        for row in Conservation.objects.select_related("organization").order_by("organization__slug"):
            label = [row.organization.slug]
            difference.add_metric(label, row.difference)
            age.add_metric(label, (now - row.checked_at).total_seconds())
        yield from (difference, age)


class BreakerCollector(Collector):
    """Whether each PEMS answers (D10)."""

    def collect(self) -> Iterator[Metric]:
        labels = ["connection"]
        state = GaugeMetricFamily(
            "pems_sync_breaker_state", "0 closed, 1 half open, 2 open; orders count", labels=labels
        )
        opened = CounterMetricFamily("pems_sync_breaker_opened", "How often the breaker has opened", labels=labels)
        connections = list(Connection.objects.order_by("slug"))
        for connection in connections:
            state.add_metric([connection.slug], _BREAKER[breaking.state_of(connection)])
        for connection, number in zip(connections, breaking.openings(connections) or [], strict=False):
            opened.add_metric([connection.slug], number)
        yield from (state, opened)


_BREAKER = {Breaker.CLOSED: 0, Breaker.HALF_OPEN: 1, Breaker.OPEN: 2}


class PaceCollector(Collector):
    """How fast each connection may be used (D11)."""

    def collect(self) -> Iterator[Metric]:
        pace = GaugeMetricFamily(
            "pems_sync_pace",
            "Requests per second: the limit of PEMS, and what is allowed now. Now is absent without Redis",
            labels=["connection", "what"],
        )
        for connection in Connection.objects.order_by("slug"):
            pace.add_metric([connection.slug, "limit"], connection.requests_per_second)
            with suppress(PaceUnavailableError):
                pace.add_metric([connection.slug, "now"], pace_for(connection).rate())
        yield pace


def metrics(request: HttpRequest) -> HttpResponse:
    if not is_welcome(request.META.get("REMOTE_ADDR") or ""):
        raise Http404
    registry = CollectorRegistry()
    registry.register(InboundCollector())
    registry.register(ConservationCollector())
    registry.register(BreakerCollector())
    registry.register(PaceCollector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def is_welcome(address: str) -> bool:
    try:
        seen = ip_address(address)
    except ValueError:
        return False
    return any(seen in ip_network(each) for each in settings.METRICS_NETWORKS)
