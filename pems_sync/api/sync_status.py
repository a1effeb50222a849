"""How the queue of an organization is doing."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField

from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, member_by_query
from pems_sync.api.metrics import queue_metrics
from pems_sync.api.status import sync_status
from pems_sync.api.strict import Moment, Slug, Strict, checked_query
from pems_sync.api.wire import STATUS_WORDS
from pems_sync.clock import database_now


class StatusQuery(Strict):
    organizationId = Slug()
    status = ChoiceField(STATUS_WORDS, required=False)
    startDate = Moment(required=False)
    endDate = Moment(required=False)


class SyncStatusView(Endpoint):
    @extend_schema(
        "sync_status", parameters=[StatusQuery], responses={200: shapes.SyncStatus, **shapes.answers(400, 404)}
    )
    def get(self, request: Request) -> Response:
        """Averages are over 24 hours, or over the whole hours that startDate and endDate touch."""
        organization = member_by_query(request).organization
        query = checked_query(StatusQuery, request.query_params)
        numbers = sync_status(
            organization, now=database_now(), status=query.get("status"),
            since=query.get("startDate"), until=query.get("endDate"),
        )  # fmt: skip
        return Response(numbers)


class MetricsQuery(Strict):
    organizationId = Slug()


class QueueMetricsView(Endpoint):
    @extend_schema(
        "queue_metrics", parameters=[MetricsQuery], responses={200: shapes.QueueMetrics, **shapes.answers(400, 404)}
    )
    def get(self, request: Request) -> Response:
        """Open work by state, operation and priority; what ended in each minute of the last hour."""
        organization = member_by_query(request).organization
        checked_query(MetricsQuery, request.query_params)
        return Response(queue_metrics(organization, database_now()))
