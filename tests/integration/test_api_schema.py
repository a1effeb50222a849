"""The OpenAPI document is complete, and answers are what it says."""

from __future__ import annotations

import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # comes with drf-spectacular
import pytest
import yaml
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.generators import SchemaGenerator

from conflicts.models import Conflict
from pems_sync.models import Connection, Organization
from tests.cast import Cast
from tests.integration import api_acts as acts


@pytest.fixture(autouse=True)
def _unhurried(settings):
    settings.API_USER_RATE_LIMIT = 1000


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    whole: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return whole


def test_the_schema_is_valid_and_without_warnings(tmp_path) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml"))


def test_every_address_is_described(document) -> None:
    def paths(patterns: Any, before: str = "/") -> set[str]:
        found = set()
        for each in patterns:
            here = before + re.sub(r"<str:(\w+)>", r"{\1}", str(each.pattern))
            if isinstance(each, URLResolver):
                found |= paths(each.url_patterns, here)
            elif isinstance(each, URLPattern):
                found.add(here)
        return {path for path in found if path.startswith("/api/")}

    undescribed = {"/api/schema", "/api/docs"}
    assert paths(get_resolver().url_patterns) - undescribed <= set(document["paths"])


def test_the_schema_and_its_page_need_no_sign_in_and_no_inline_script(db) -> None:
    schema = Client().get("/api/schema")
    assert schema.status_code == 200
    assert yaml.safe_load(schema.content)["openapi"].startswith("3.")
    page = Client().get("/api/docs")
    html = page.content.decode()
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert "<style" not in html
    assert " onload=" not in html
    sources = re.findall(r'<(?:script src|link rel="stylesheet" href)="([^"]+)"', html)
    assert all(source.startswith("/") for source in sources)
    script = Client().get(next(source for source in sources if "script=" in source).replace("&amp;", "&"))
    assert script.headers["Content-Type"].startswith("application/javascript")
    assert "/api/schema" in script.content.decode()


WINDOW = {"name": "nightly", "starts": "22:00", "minutes": 120, "lastDay": "2026-12-31"}
LOCAL_WINS = {"field": "model", "rule": "local_wins"}


def test_answers_are_what_the_schema_says(document, api, cast: Cast, rio, make_record) -> None:
    Connection.objects.update(requests_per_second=10_000)
    planner, admin = api(cast.planner), api(cast.admin)
    record = make_record(rio, pfa_id="PFA-1")
    draft = acts.draft(record, cast.planner)
    dead = acts.buried(make_record(rio), cast.planner)
    conflict = Conflict.objects.get(modification=acts.conflicted(make_record(rio), cast.planner))
    body = {"changes": {"model": "X"}, "baseVersion": record.version}
    for client, method, path, sent in (
        (admin, "get", "/api/organizations", None),
        (planner, "get", "/api/pfa/org-rio/records", None),
        (planner, "get", "/api/pfa/org-rio/records/PFA-1", None),
        (planner, "get", "/api/pfa/org-rio/drafts", None),
        (planner, "get", "/api/pfa/org-rio/drafts/PFA-1", None),
        (planner, "put", "/api/pfa/org-rio/drafts/PFA-1", body),
        (
            planner,
            "put",
            "/api/pfa/org-rio/drafts",
            {"items": [{"pfaId": "PFA-1", **body}, {"pfaId": "PFA-0", **body}]},
        ),
        (planner, "get", "/api/pems/sync-status?organizationId=org-rio", None),
        (planner, "get", "/api/pems/queue-metrics?organizationId=org-rio", None),
        (planner, "get", "/api/pems/sync-logs?organizationId=org-rio", None),
        (planner, "get", f"/api/pems/sync-logs/{dead.job_id}", None),
        (planner, "get", "/api/pems/modifications?organizationId=org-rio", None),
        (planner, "get", f"/api/pems/modifications/{dead.pk}", None),
        (planner, "get", f"/api/pems/modifications/{conflict.modification_id}", None),
        (planner, "get", f"/api/pems/modifications/{draft.pk}", None),
        (planner, "get", "/api/pems/conflicts?organizationId=org-rio", None),
        (planner, "get", f"/api/pems/conflicts/{conflict.pk}", None),
        (planner, "get", "/api/pfa/org-rio/records/PFA-1/history", None),
        (admin, "get", "/api/audit?organizationId=org-rio", None),
        (planner, "get", "/api/pems/dead-letters?organizationId=org-rio", None),
        (planner, "post", "/api/pems/write-sync", {"organizationId": "org-rio"}),
        (planner, "post", f"/api/pems/modifications/{dead.pk}/retry", None),
        (planner, "post", f"/api/pems/modifications/{dead.pk}/withdraw", {}),
        (planner, "post", "/api/pems/dead-letters/retry", {"organizationId": "org-rio", "filter": {}}),
        (
            planner,
            "post",
            f"/api/pems/conflicts/{conflict.pk}/resolve",
            {"resolution": "use_pems", "seenPemsVersion": 5},
        ),
        (planner, "get", f"/api/pems/conflicts/{conflict.pk}", None),
        (planner, "post", f"/api/pems/conflicts/{conflict.pk}/undo", {}),
        (
            planner,
            "post",
            "/api/pems/conflicts/bulk-resolve",
            {"organizationId": "org-rio", "filter": {}, "resolution": "use_local", "preview": True},
        ),
        (planner, "get", "/api/pems/policies?organizationId=org-rio", None),
        (admin, "put", "/api/pems/policies", {"organizationId": "org-rio", "rules": [], "moneyThreshold": "5000"}),
        (planner, "post", "/api/pems/policies/simulate", {"organizationId": "org-rio", "rules": [LOCAL_WINS]}),
        (admin, "post", "/api/pems/organizations/org-rio/pause", {"reason": "x"}),
        (admin, "post", "/api/pems/organizations/org-rio/resume", None),
        (admin, "post", "/api/pems/organizations/org-rio/breaker", {"order": "auto"}),
        (admin, "post", "/api/pems/organizations/org-rio/maintenance", WINDOW),
        (admin, "post", "/api/pems/organizations/org-rio/maintenance", {**WINDOW, "minutes": 0}),
        (planner, "get", "/api/pems/organizations/org-rio/maintenance", None),
        (planner, "get", "/api/pfa/org-rio/records/PFA-0", None),
        (planner, "get", "/api/pfa/org-rio/records?limit=0", None),
    ):
        answer = (
            getattr(client, method)(path, sent, format="json") if sent is not None else getattr(client, method)(path)
        )
        conforms(document, method, path.split("?")[0], answer)
    for path in ("/api/health/live", "/api/health/ready", "/api/health/write-sync"):
        conforms(document, "get", path, Client().get(path))


def test_ways_back_answer_what_the_schema_says(document, engine, api, cast: Cast, rio) -> None:
    record, lead = engine.records[0], api(cast.lead)
    job = engine.edit(record, model="NEW", monthlyRate="99999.00").job
    engine.settle()
    way = f"/api/pfa/org-rio/records/{record.pfa_id}/rollback"
    body = {"version": record.version, "reason": "r"}
    Organization.objects.filter(pk=rio.pk).update(second_approval=True, money_threshold=1)
    for path, sent in (
        (way, {**body, "preview": True}),
        (way, body),
        (way, body),
        (way, {"version": 0, "reason": "r"}),
    ):
        conforms(document, "post", path, lead.post(path, sent, format="json"))
    listed = lead.get("/api/pems/approvals?organizationId=org-rio")
    conforms(document, "get", "/api/pems/approvals", listed)
    decision = f"/api/pems/approvals/{listed.json()['items'][0]['id']}/reject"
    conforms(document, "post", decision, api(cast.admin).post(decision, {"comment": "no"}, format="json"))
    Organization.objects.filter(pk=rio.pk).update(second_approval=False)
    undo = f"/api/pems/sync-logs/{job.pk}/undo"
    for path, sent in ((undo, {"preview": True}), (undo, {"reason": "r"}), (undo, {"reason": "r"})):
        conforms(document, "post", path, lead.post(path, sent, format="json"))


def conforms(document: dict[str, Any], method: str, path: str, answer: Any) -> None:
    described = next(each for each in document["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", each), path))
    for candidate in document["paths"]:
        described = candidate if candidate == path else described
    operation = document["paths"][described][method]
    content = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
    schema = {**_closed(content), "components": _closed(document["components"])}
    jsonschema.validate(answer.json(), schema)


def _closed(node: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: nullable said as a type, and no key that is not described."""
    if isinstance(node, list):
        return [_closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: _closed(value) for key, value in node.items()}
    if node.get("type") == "object" and "properties" in node:
        node.setdefault("additionalProperties", False)
    if node.pop("nullable", False):
        return {"anyOf": [node, {"type": "null"}]}
    return node
