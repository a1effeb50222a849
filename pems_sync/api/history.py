"""What a record was, and the ways back: rollback of a record to a version, undo of a whole job."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from pems_sync.access import job_for, membership_for
from pems_sync.api import shapes
from pems_sync.api.committing import accepted_shape
from pems_sync.api.endpoint import Endpoint, body_of, id_from
from pems_sync.api.paging import Order
from pems_sync.api.presenting import sees_money
from pems_sync.api.strict import Flag, NoQuery, Paged, Said, Strict, Version, checked, checked_query
from pems_sync.api.wire import stamp
from pems_sync.errors import NotFoundError
from pems_sync.fields import MONEY_FIELDS, Value
from pems_sync.history import NEWEST_FIRST, Seen, tell, versions_of
from pems_sync.models import Membership, Record
from pems_sync.models.organization import Permission
from pems_sync.restoring import Plan
from pems_sync.retracing import Item
from pems_sync.services import rollback, undoing
from pems_sync.services.committing import Committed

_ORDER = Order("history", NEWEST_FIRST)


class HistoryView(Endpoint):
    @extend_schema(
        "get_history",
        parameters=[Paged],
        responses={200: shapes.page_of(shapes.HistoryShape), **shapes.answers(400, 404)},
    )
    def get(self, request: Request, organization_id: str, pfa_id: str) -> Response:
        """Every version that was seen, newest first."""
        membership = membership_for(request.user, organization_id)
        record = _record(membership, pfa_id)
        query = checked_query(Paged, request.query_params)
        page = _ORDER.page(
            versions_of(record), limit=query["limit"], cursor=query.get("cursor"), scope=record.pk
        )  # fmt: skip
        money = sees_money(membership)
        items = [_seen_shape(each, money=money) for each in tell(record, page.rows)]
        return Response({"items": items, "nextCursor": page.next_cursor})


def _record(membership: Membership, pfa_id: str) -> Record:
    record = Record.objects.for_organization(membership.organization).filter(pfa_id=pfa_id).first()
    if record is None:
        raise NotFoundError
    return record


def _seen_shape(seen: Seen, *, money: bool) -> dict[str, Any]:
    edit = seen.edit
    return {
        "version": seen.version.version,
        "changedAt": stamp(seen.version.changed_at),
        "seenAt": stamp(seen.version.seen_at),
        "author": seen.author or None,
        "source": seen.source,
        "reason": seen.reason or None,
        "modificationId": str(edit.pk) if edit else None,
        "jobId": str(edit.job_id) if edit and edit.job_id else None,
        "changedFields": [_change(each.field, each.before, each.after, money=money) for each in seen.changes],
        "masked": not money,
    }


def _change(name: str, before: Value, after: Value, *, money: bool) -> dict[str, Value]:
    hidden = name in MONEY_FIELDS and not money
    return {"field": name, "from": None if hidden else before, "to": None if hidden else after}


class _WayBack(Strict):
    reason = Said(required=False, help_text="needed, unless it is a preview")
    preview = Flag(required=False, default=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs["preview"] and not attrs.get("reason"):
            raise ValidationError({"reason": [ErrorDetail("is needed: it is kept in the history.", code="required")]})
        return attrs


class RollbackBody(_WayBack):
    version = Version()


class UndoBody(_WayBack):
    pass


def _either(name: str, preview: type[shapes.Shape]) -> dict[Any, Any]:
    return {
        200: preview,
        202: PolymorphicProxySerializer(name, [shapes.Accepted, shapes.ApprovalPending], resource_type_field_name=None),
        **shapes.answers(400, 403, 404, 409, 413, 415, 503),
    }


class RollbackView(Endpoint):
    @extend_schema("roll_back", request=RollbackBody, responses=_either("RolledBack", shapes.RollbackPreview))
    def post(self, request: Request, organization_id: str, pfa_id: str) -> Response:
        """PEMS is read first: the preview, and what is carried out, start from its values now. Fields that may not be
        edited, by anybody or by you, stay as they are."""
        membership = membership_for(request.user, organization_id, Permission.ROLLBACK)
        _record(membership, pfa_id)
        checked_query(NoQuery, request.query_params)
        body = checked(RollbackBody, body_of(request))
        if body["preview"]:
            found = rollback.preview(membership=membership, pfa_id=pfa_id, version=body["version"])
            return Response(_preview_shape(found, money=sees_money(membership)))
        done = rollback.roll_back(membership=membership, pfa_id=pfa_id, version=body["version"], reason=body["reason"])
        return _accepted(membership, done)


class UndoView(Endpoint):
    @extend_schema("undo_job", request=UndoBody, responses=_either("Undone", shapes.UndoPreview))
    def post(self, request: Request, job_id: str) -> Response:
        """Each record goes back to what it was before the job, wherever PEMS still shows what the job wrote. Once."""
        membership, job = job_for(request.user, id_from(job_id), Permission.ROLLBACK)
        job.organization = membership.organization
        checked_query(NoQuery, request.query_params)
        body = checked(UndoBody, body_of(request))
        if body["preview"]:
            found = undoing.preview(membership=membership, job=job)
            return Response(_undo_shape(found, money=sees_money(membership)))
        return _accepted(membership, undoing.undo(membership=membership, job=job, reason=body["reason"]))


def _accepted(membership: Membership, done: Committed) -> Response:
    job_id = done.job.pk if done.job else None
    return Response(accepted_shape(membership.organization, job_id, done.queued, done.rejected), status=202)


def _preview_shape(found: rollback.Preview, *, money: bool) -> dict[str, Any]:
    return {
        **_plan_shape(found.plan, money=money),
        "pemsVersion": found.record.version,
        "openEdits": found.open_edits,
        "needsApproval": found.needs_approval,
        "masked": not money,
    }


def _plan_shape(plan: Plan, *, money: bool) -> dict[str, Any]:
    return {
        "changes": [_change(name, plan.before[name], value, money=money) for name, value in plan.changes.items()],
        "skipped": [{"field": each.field, "reason": each.reason} for each in plan.skipped],
        "errors": [each.as_wire() for each in plan.errors],
    }


def _undo_shape(found: undoing.Preview, *, money: bool) -> dict[str, Any]:
    items = found.items
    restored = sum(item.goes_on for item in items)
    refused = sum(bool(item.plan.errors) for item in items)
    return {
        "items": [_item_shape(item, money=money) for item in items],
        "counts": {
            "records": len(items),
            "restored": restored,
            "refused": refused,
            "unchanged": len(items) - restored - refused,
            "skippedFields": sum(len(item.plan.skipped) for item in items),
        },
        "needsApproval": found.needs_approval,
        "masked": not money,
    }


def _item_shape(item: Item, *, money: bool) -> dict[str, Any]:
    ids = [str(row.pk) for row in item.rows]
    return {"pfaId": item.record.pfa_id, "modificationIds": ids, **_plan_shape(item.plan, money=money)}
