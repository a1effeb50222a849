"""F8: what a claim and the sweep ask must not read the whole queue. The figure itself is in tests/bench/claiming.py."""

from __future__ import annotations

import pytest
from django.db.models.functions import Now

from pems_sync import scheduling
from pems_sync.models import Organization

pytestmark = pytest.mark.django_db


def test_organizations_with_something_due_are_found_by_one_probe_each():
    """With EXISTS the planner joins: it reads every queued edit to find a handful of organizations."""
    plan = scheduling._with_something_due(Organization.objects.all(), Now()).explain()
    assert "SubPlan" in plan, plan
    assert "Join" not in plan, plan
    assert "Nested Loop" not in plan, plan
