"""Webhooks of our own writes name what PEMS has just shown us: read again, they would cost the pace a read per write (K6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import F

from pems_sync.models import Modification, NamedRead, Organization, RecordVersion
from pems_sync.states import State

JUST_SHOWN = timedelta(seconds=2)
"""A write confirmed so shortly before its record was named, or later, is what was named. Somebody else's change in the very
same moments comes with the next pull."""


@dataclass(frozen=True)
class Sorted:
    """`echoes`: nothing to read. `early`: a write of ours is under way, and its outcome will tell. `news`: to be read."""

    echoes: list[NamedRead]
    early: list[NamedRead]
    news: list[NamedRead]


def sort_out(organization: Organization, names: Iterable[NamedRead]) -> Sorted:
    names = list(names)
    ids = [name.pfa_id for name in names]
    sending = Modification.objects.for_organization(organization).filter(pfa_id__in=ids, state=State.SENDING)
    under_way = set(sending.values_list("pfa_id", flat=True))
    own = RecordVersion.objects.filter(
        record__organization=organization, record__pfa_id__in=ids, version=F("record__version")
    ).exclude(modification_id=None)
    shown_at = dict(own.values_list("record__pfa_id", "seen_at"))
    found = Sorted([], [], [])
    for name in names:
        seen = shown_at.get(name.pfa_id)
        if name.pfa_id in under_way:
            found.early.append(name)
        elif seen is not None and seen > name.named_at - JUST_SHOWN:
            found.echoes.append(name)
        else:
            found.news.append(name)
    return found
