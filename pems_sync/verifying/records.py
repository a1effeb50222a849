"""Stored records, and what open edits started from: I7, I8."""

from __future__ import annotations

from collections.abc import Iterator

from pems_sync.client.base import content_hash
from pems_sync.models import Record
from pems_sync.verifying.looking import Check, Scope

_NOT_AS_SEEN = """
SELECT concat('record ', record.pfa_id, ' (organization ', record.organization_id, '): what is stored as version ',
              record.version, ' is not what was seen of it')
FROM pems_sync_record AS record
WHERE record.organization_id = ANY(%(organizations)s) AND NOT EXISTS (
    SELECT 1 FROM pems_sync_recordversion AS seen
    WHERE seen.record_id = record.id AND seen.version = record.version AND seen.content_hash = record.content_hash
      AND seen.fields = record.fields
)
"""

_BEHIND = """
SELECT concat('record ', record.pfa_id, ' (organization ', record.organization_id, '): stored as version ', record.version,
              ', and version ', max(seen.version), ' was seen')
FROM pems_sync_record AS record
JOIN pems_sync_recordversion AS seen ON seen.record_id = record.id AND seen.version > record.version
WHERE record.organization_id = ANY(%(organizations)s)
GROUP BY record.id
"""

_PENDING = """
SELECT concat('record ', edit.pfa_id, ': version ', seen.version, ' holds values of modification ', edit.id,
              ', which was never sent')
FROM pems_sync_recordversion AS seen JOIN pems_sync_modification AS edit ON edit.id = seen.modification_id
WHERE edit.organization_id = ANY(%(organizations)s) AND edit.state <> 'confirmed'
  AND NOT EXISTS (SELECT 1 FROM pems_sync_attempt AS attempt WHERE attempt.modification_id = edit.id)
"""


def _hashes(scope: Scope) -> Iterator[str]:
    """The hash decides whether a row of PEMS is news: a wrong one hides a change."""
    rows = Record.objects.filter(organization__in=scope.organization_ids).values_list(
        "pfa_id", "content_hash", "fields"
    )
    for pfa_id, stored, fields in rows.order_by("pk").iterator(chunk_size=2000):
        if content_hash(fields) != stored:
            yield f"record {pfa_id}: its content hash is not that of its values"


I7 = Check(
    "I7",
    "stored records are what was seen last of PEMS",
    "`manage.py reconcile ORGANIZATION --repair` stores what PEMS shows.",
    (_NOT_AS_SEEN, _BEHIND, _PENDING),
    (_hashes,),
)

_INVENTED = """
SELECT concat('modification ', edit.id, ' of ', edit.pfa_id, ': its base for ', started.name, ' was never seen in PEMS')
FROM pems_sync_modification AS edit CROSS JOIN LATERAL jsonb_each(edit.base) AS started(name, value)
WHERE edit.organization_id = ANY(%(organizations)s) AND edit.state NOT IN ('confirmed', 'superseded', 'withdrawn')
  AND NOT EXISTS (
    SELECT 1 FROM pems_sync_recordversion AS seen
    WHERE seen.record_id = edit.record_id AND coalesce(seen.fields -> started.name, 'null') = started.value
  ) AND NOT EXISTS (
    SELECT 1 FROM pems_sync_modification AS own
    WHERE own.record_id = edit.record_id AND own.state = 'confirmed' AND own.author_id = edit.author_id
      AND ((own.changes || own.adjusted) -> started.name) = started.value
  )
"""
"""What PEMS confirmed of the same author counts as seen: a reply may be older than what inbound has stored by then."""

I8 = Check(
    "I8",
    "the base of each open edit was seen in PEMS",
    "Withdraw the edit and make it anew on the record as it is: what it would overwrite was never looked at.",
    (_INVENTED,),
)
