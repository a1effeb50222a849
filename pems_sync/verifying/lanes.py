"""The rows of modifications: I2, I3, one head per lane, and none that nothing will ever move."""

from __future__ import annotations

from pems_sync.verifying.guards import index_stands
from pems_sync.verifying.looking import Check

_ACCEPTED = """
SELECT entry.organization_id, entry.modification_id, entry.position FROM pems_sync_journalentry AS entry
WHERE entry.kind = 'modification_queued' AND entry.before ->> 'state' = 'draft'
  AND entry.organization_id = ANY(%(organizations)s)
"""

_DISAPPEARED = f"""
SELECT concat('modification ', accepted.modification_id, ' was accepted (journal of organization ', accepted.organization_id,
              ', position ', accepted.position, '), and there is no such row')
FROM ({_ACCEPTED}) AS accepted LEFT JOIN pems_sync_modification AS edit ON edit.id = accepted.modification_id
WHERE edit.id IS NULL OR edit.committed_at IS NULL
"""  # noqa: S608  (names of this module)

_UNTOLD = f"""
SELECT concat('modification ', edit.id, ' of ', edit.pfa_id, ' is committed, and the journal does not know of it')
FROM pems_sync_modification AS edit LEFT JOIN ({_ACCEPTED}) AS accepted ON accepted.modification_id = edit.id
WHERE edit.committed_at IS NOT NULL AND edit.organization_id = ANY(%(organizations)s) AND accepted.modification_id IS NULL
"""  # noqa: S608

_MISCOUNTED = f"""
SELECT concat('organization ', organization.slug, ': the hourly counts say ', coalesce(tally.number, 0),
              ' accepted edits, the journal ', coalesce(accepted.number, 0), '; `manage.py verify --recount` counts anew')
FROM pems_sync_organization AS organization
LEFT JOIN (SELECT organization_id, sum(committed) AS number FROM pems_sync_hourtally GROUP BY 1) AS tally
    ON tally.organization_id = organization.id
LEFT JOIN (SELECT organization_id, count(*) AS number FROM ({_ACCEPTED}) AS each GROUP BY 1) AS accepted
    ON accepted.organization_id = organization.id
WHERE organization.id = ANY(%(organizations)s) AND coalesce(tally.number, 0) <> coalesce(accepted.number, 0)
"""  # noqa: S608

_FOLDED_AWAY = """
SELECT concat('modification ', edit.id, ' of ', edit.pfa_id, ' was folded into one that is not of its record and author')
FROM pems_sync_modification AS edit LEFT JOIN pems_sync_modification AS later ON later.id = edit.superseded_by_id
WHERE edit.state = 'superseded' AND edit.organization_id = ANY(%(organizations)s)
  AND (later.id IS NULL OR later.record_id <> edit.record_id OR later.author_id <> edit.author_id)
"""

I2 = Check(
    "I2",
    "every accepted edit is there, in one state",
    "Restore the missing rows from the backup: the journal holds what was accepted (`after.changes` of the entry named).",
    (_DISAPPEARED, _UNTOLD, _MISCOUNTED, _FOLDED_AWAY),
)

_TWO_UNDER_WAY = """
SELECT concat('record ', min(edit.pfa_id), ': ', count(*), ' edits are under way: ', string_agg(edit.id::text, ', '))
FROM pems_sync_modification AS edit
WHERE edit.state IN ('sending', 'unknown') AND edit.organization_id = ANY(%(organizations)s)
GROUP BY edit.record_id HAVING count(*) > 1
"""

I3 = Check(
    "I3",
    "at most one edit of a record is under way",
    "Pause the organization, apply the migrations, and have support read both edits back before it is resumed.",
    (index_stands("i3_one_in_flight_per_record"), _TWO_UNDER_WAY),
)

_HEADS = """
SELECT concat('record ', min(edit.pfa_id), ': ', count(*), ' open edits and ', count(*) FILTER (WHERE edit.is_head), ' heads')
FROM pems_sync_modification AS edit
WHERE (edit.state IN ('queued', 'sending', 'unknown', 'conflicted') OR (edit.state = 'dead' AND edit.dead_reason = 'poison'))
  AND edit.organization_id = ANY(%(organizations)s)
GROUP BY edit.record_id HAVING count(*) FILTER (WHERE edit.is_head) <> 1
"""

HEADS = Check(
    "heads",
    "each lane has exactly one head",
    "A lane without a head is not sent: withdraw or retry its first edit, which names a head anew.",
    (index_stands("one_head_per_record"), _HEADS),
)

_STUCK = """
SELECT concat('modification ', edit.id, ' of ', edit.pfa_id, CASE
    WHEN edit.state = 'sending' THEN ': its lease ended ' || date_trunc('second', clock_timestamp() - edit.lease_until) || ' ago'
    ELSE ': it waits to be read back, and no time is set for that' END)
FROM pems_sync_modification AS edit
WHERE edit.organization_id = ANY(%(organizations)s) AND (
    (edit.state = 'sending' AND edit.lease_until < clock_timestamp() - interval '2 minutes')
    OR ((edit.state = 'unknown' OR edit.read_back_for <> '') AND edit.not_before IS NULL)
)
"""

STUCK = Check(
    "stuck",
    "no edit waits for something that never comes",
    "See whether beat and the control worker run (`/api/health/write-sync`): their sweep takes expired leases back.",
    (_STUCK,),
)
