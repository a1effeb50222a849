"""What the machine gave up on, grouped by cause; sent again, or discarded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib.postgres.aggregates import ArrayAgg
from django.db.models import Count, Min
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField, ListField

from pems_sync.access import membership_for
from pems_sync.api import shapes
from pems_sync.api.committing import accepted_shape
from pems_sync.api.endpoint import Endpoint, body_of, member_by_body, member_by_query
from pems_sync.api.presenting import sees_money, shown_text
from pems_sync.api.strict import Changes, Id, NoQuery, Said, Slug, Strict, Text, checked, checked_query
from pems_sync.api.wire import stamp
from pems_sync.errors import NotFoundError
from pems_sync.models import Membership, Modification
from pems_sync.models.organization import Permission
from pems_sync.services.people import discard_dead_letters
from pems_sync.services.reviving import MOST_AT_ONCE, Revived, dead_letters, fix_and_revive, not_dead, revive
from pems_sync.states import DeadReason, State

_REASONS = [str(reason) for reason in DeadReason]
_MOST_GROUPS = 200


class DeadLettersQuery(Strict):
    organizationId = Slug()
    reason = ChoiceField(_REASONS, required=False)
    fingerprint = Text(required=False, max_length=16)


class DeadLettersView(Endpoint):
    @extend_schema(
        "list_dead_letters",
        parameters=[DeadLettersQuery],
        responses={200: shapes.DeadLetterGroups, **shapes.answers(400, 404)},
    )
    def get(self, request: Request) -> Response:
        """Grouped by fingerprint: dead letters of one cause. The largest 200 groups."""
        membership = member_by_query(request)
        query = checked_query(DeadLettersQuery, request.query_params)
        rows = dead_letters(membership, reason=query.get("reason"), fingerprint=query.get("fingerprint"))
        groups = rows.order_by().values("fingerprint", "dead_reason", "error_code", "error_field").annotate(
            count=Count("pk"), message=Min("error_message"), ids=ArrayAgg("pk", order_by=["queued_at", "pk"]),
            oldest=Min("queued_at"),
        )  # fmt: skip
        money = sees_money(membership)
        return Response(
            {"items": [_group(each, money) for each in groups.order_by("-count", "fingerprint")[:_MOST_GROUPS]]}
        )


def _group(group: Any, money: bool) -> dict[str, Any]:
    return {
        "fingerprint": group["fingerprint"],
        "reason": group["dead_reason"],
        "code": group["error_code"],
        "message": shown_text(group["message"], about=group["error_field"], money=money),
        "field": group["error_field"] or None,
        "count": group["count"],
        "modificationIds": [str(pk) for pk in group["ids"][:MOST_AT_ONCE]],
        "oldestAt": stamp(group["oldest"]),
    }


class Filter(Strict):
    reason = ChoiceField(_REASONS, required=False)
    fingerprint = Text(required=False, max_length=16)


class RetryBody(Strict):
    organizationId = Slug()
    ids = ListField(child=Id(), required=False, min_length=1, max_length=MOST_AT_ONCE)
    filter = Filter(required=False, help_text="{} means all")
    changes = Changes(required=False, help_text="fix and resend: with exactly one id")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == ("filter" in attrs):
            raise ValidationError({"ids": [ErrorDetail("give either ids or filter.", code="either")]})
        if "changes" in attrs and len(attrs.get("ids", ())) != 1:
            raise ValidationError({"changes": [ErrorDetail("needs exactly one id.", code="either")]})
        return attrs


class RetryDeadLettersView(Endpoint):
    @extend_schema(
        "retry_dead_letters",
        request=RetryBody,
        responses={202: shapes.Accepted, **shapes.answers(400, 403, 404, 409, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        """In the order of their first queueing, at most 1,000 at once; what may still land is read back first."""
        membership = member_by_body(request, body_of(request), Permission.SYNC)
        checked_query(NoQuery, request.query_params)
        result = _revive(membership, checked(RetryBody, body_of(request)))
        return Response(accepted_shape(membership.organization, None, len(result.queued), result.rejected), status=202)


def _revive(membership: Membership, body: dict[str, Any]) -> Revived:
    if "changes" in body:
        return fix_and_revive(membership=membership, modification_id=body["ids"][0], changes=body["changes"])
    found = dead_letters(membership, **body.get("filter", {}))
    return revive(membership=membership, found=found, named=body.get("ids"))


class DiscardBody(Strict):
    organizationId = Slug(required=False, help_text="without: the one organization the ids belong to")
    ids = ListField(child=Id(), min_length=1, max_length=MOST_AT_ONCE)
    reason = Said()


class DiscardDeadLettersView(Endpoint):
    @extend_schema(
        "discard_dead_letters",
        request=DiscardBody,
        responses={200: shapes.Discarded, **shapes.answers(400, 403, 404, 409, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        """Give them up, with a reason. What may still land is read back first."""
        membership = _membership(request)
        checked_query(NoQuery, request.query_params)
        body = checked(DiscardBody, body_of(request))
        rows = discard_dead_letters(membership=membership, modification_ids=body["ids"], reason=body["reason"])
        gone = sum(row.state == State.WITHDRAWN for row in rows)
        rejected = [{"modificationId": str(pk), "errors": errors} for pk, errors in not_dead(body["ids"], rows).items()]
        return Response(
            {"success": bool(rows), "discardedCount": gone, "readBackFirst": len(rows) - gone, "rejected": rejected}
        )


def _membership(request: Request) -> Membership:
    if "organizationId" in body_of(request):
        return member_by_body(request, body_of(request), Permission.SYNC)
    ids = checked(_Ids, {"ids": body_of(request).get("ids")})["ids"]
    slugs = _organizations(ids)
    if len(slugs) != 1:
        raise NotFoundError
    return membership_for(request.user, slugs.pop(), Permission.SYNC)


class _Ids(Strict):
    ids = ListField(child=Id(), min_length=1, max_length=MOST_AT_ONCE)


def _organizations(ids: Iterable[UUID]) -> set[str]:
    return set(Modification.objects.filter(pk__in=ids).values_list("organization__slug", flat=True))
