"""The modifications of one record stand in a lane, earliest first; its head is next, or under way (PROTOCOL.md, Lanes)."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connection

from pems_sync.models import Modification

_PROMOTE = """
UPDATE pems_sync_modification AS m SET is_head = true
FROM (
    SELECT DISTINCT ON (record_id) id, record_id FROM pems_sync_modification
    WHERE record_id = ANY(%s)
      AND (state IN ('queued', 'sending', 'unknown', 'conflicted') OR (state = 'dead' AND dead_reason = 'poison'))
    ORDER BY record_id, queued_at, id
) AS first
WHERE m.id = first.id AND NOT m.is_head
  AND NOT EXISTS (SELECT 1 FROM pems_sync_modification h WHERE h.record_id = first.record_id AND h.is_head)
"""


def promote(record_ids: Iterable[int]) -> int:
    """Give each record without a head its earliest row as head. Records are locked by the caller. How many got one."""
    ids = sorted(set(record_ids))
    if not ids:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_PROMOTE, [ids])
        return int(cursor.rowcount)


def blocking_head(modification: Modification) -> Modification | None:
    """The head this row waits behind, or None when it is the head itself."""
    if modification.is_head:
        return None
    return Modification.objects.filter(record_id=modification.record_id, is_head=True).first()
