"""How many conflicts are open: in all, per organization and kind, and in groups that can be settled alike."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, F, Min, QuerySet

from conflicts.admin.comparing import pems_change
from conflicts.admin.wording import kind_word
from conflicts.models import Conflict
from pems_sync.admin.scope import Scope

MOST_GROUPS = 100


@dataclass(frozen=True)
class Overview:
    """`rows`: an organization, how many of each of `kinds`, and in all."""

    total: int
    kinds: list[tuple[str, str]]
    rows: list[tuple[str, list[tuple[str, int]], int]]


def overview(scope: Scope) -> Overview:
    """One query over the open conflicts of the organizations that may be seen."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    counted = scope.within(Conflict.objects.unresolved()).order_by().values("organization__slug", "kind")
    for each in counted.annotate(count=Count("pk")):
        counts[each["organization__slug"]][each["kind"]] = each["count"]
    kinds = sorted({kind for per_kind in counts.values() for kind in per_kind})
    rows = [
        (slug, [(kind, per_kind.get(kind, 0)) for kind in kinds], sum(per_kind.values()))
        for slug, per_kind in sorted(counts.items())
    ]
    return Overview(sum(row[2] for row in rows), [(kind, kind_word(kind)) for kind in kinds], rows)


@dataclass(frozen=True)
class Group:
    """Open conflicts of one organization in the same fields, where PEMS made the same change."""

    organization_id: int
    organization: str
    pattern: str
    count: int
    oldest_at: datetime
    change: list[str]


def groups(rows: QuerySet[Any]) -> list[Group]:
    """The largest first. Conflicts without a pattern are in none. Two queries, however many there are."""
    alike = rows.filter(resolved_at=None).exclude(pattern="").order_by()
    counted = alike.values("organization_id", "pattern", slug=F("organization__slug"))
    counted = counted.annotate(count=Count("pk"), oldest_at=Min("opened_at")).order_by("-count", "slug", "pattern")
    largest = list(counted[:MOST_GROUPS])
    changes = _changes(alike.filter(pattern__in=[each["pattern"] for each in largest]))
    return [
        Group(each["organization_id"], each["slug"], each["pattern"], each["count"], each["oldest_at"], change)
        for each in largest
        if (change := changes.get((each["organization_id"], each["pattern"]))) is not None
    ]


def _changes(rows: QuerySet[Any]) -> dict[tuple[int, str], list[str]]:
    """What PEMS changed, from one conflict of each group: a pattern itself tells no amounts."""
    one_each = rows.order_by("organization_id", "pattern").distinct("organization_id", "pattern").values("pk")
    return {(each.organization_id, each.pattern): pems_change(each) for each in rows.filter(pk__in=one_each)}
