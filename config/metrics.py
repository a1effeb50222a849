"""`/metrics` for Prometheus: read from the database at each scrape, so that every web process says the same.

Names organizations, so it answers only the networks of METRICS_NETWORKS (I12); to all others the page does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pems_sync.models import InboundState


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


def metrics(request: HttpRequest) -> HttpResponse:
    if not is_welcome(request.META.get("REMOTE_ADDR") or ""):
        raise Http404
    registry = CollectorRegistry()
    registry.register(InboundCollector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def is_welcome(address: str) -> bool:
    try:
        seen = ip_address(address)
    except ValueError:
        return False
    return any(seen in ip_network(each) for each in settings.METRICS_NETWORKS)
