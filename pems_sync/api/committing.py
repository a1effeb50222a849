"""write-sync: commit my drafts and queue them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ListField

from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, body_of, member_by_body
from pems_sync.api.status import drain_seconds, open_work
from pems_sync.api.strict import Id, NoQuery, Said, Slug, Strict, Whole, checked, checked_query
from pems_sync.api.wire import stamp
from pems_sync.clock import database_now
from pems_sync.models import Membership, Organization
from pems_sync.models.organization import Permission
from pems_sync.services.committing import commit
from pems_sync.services.repeating import once

MOST_NAMED = 10_000


class WriteSyncBody(Strict):
    organizationId = Slug()
    modificationIds = ListField(child=Id(), required=False, allow_null=True, max_length=MOST_NAMED)
    priority = Whole(required=False, min_value=0, max_value=10, default=0)
    reason = Said(required=False)


class WriteSyncView(Endpoint):
    @extend_schema(
        "write_sync",
        request=WriteSyncBody,
        parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description="kept for 24 hours")],
        responses={202: shapes.Accepted, **shapes.answers(400, 403, 404, 409, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        """All of my drafts in the organization, or those named."""
        membership = member_by_body(request, body_of(request), Permission.SYNC)
        checked_query(NoQuery, request.query_params)
        wanted = checked(WriteSyncBody, body_of(request))
        key = _key(request)
        if key is None:
            return Response(_commit(membership, wanted), status=202)
        body = {"path": request.path, "body": body_of(request)}
        answer = once(user=membership.user, key=key, body=body, carry_out=lambda: _commit(membership, wanted))
        return Response(answer, status=202)


def _key(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,200}", key):
        problem = ErrorDetail("must be 1 to 200 visible ASCII characters.", code="invalid_key")
        raise ValidationError({"Idempotency-Key": [problem]})
    return key


def _commit(membership: Membership, wanted: Mapping[str, Any]) -> dict[str, Any]:
    result = commit(
        membership=membership,
        modification_ids=wanted.get("modificationIds"),
        priority=wanted["priority"],
        reason=wanted.get("reason", ""),
    )
    job_id = result.job.pk if result.job else None
    return accepted_shape(membership.organization, job_id, result.queued, result.rejected)


def accepted_shape(
    organization: Organization, job_id: UUID | None, queued: int, rejected: Mapping[UUID, Sequence[Mapping[str, str]]]
) -> dict[str, Any]:
    """The answer of everything that queues: write-sync, replayed dead letters."""
    return {
        "success": queued > 0 or not rejected,
        "jobId": str(job_id) if job_id else None,
        "queuedCount": queued,
        "rejected": [{"modificationId": str(pk), "errors": list(errors)} for pk, errors in rejected.items()],
        "estimatedCompletionTime": _estimated(organization) if queued else None,
    }


def _estimated(organization: Organization) -> str | None:
    """When what waits now will have been sent. None while nothing is."""
    now = database_now()
    seconds = drain_seconds(organization, open_work(organization, now).waiting, now)
    return stamp(now + timedelta(seconds=seconds)) if seconds is not None else None
