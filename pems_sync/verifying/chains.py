"""The journal: every transition is in it, its chains verify, its numbers have no holes (I9, I10)."""

from __future__ import annotations

from collections.abc import Iterator

from pems_sync.journal import first_broken
from pems_sync.models import JournalEntry, JournalHead
from pems_sync.states import TRANSITIONS, State
from pems_sync.verifying.guards import index_stands
from pems_sync.verifying.looking import Check, Scope

_WAYS = ", ".join(f"('{old.value}', '{new.value}')" for old, news in TRANSITIONS.items() for new in sorted(news))

_STEPS = """
SELECT entry.modification_id, entry.position, entry.before ->> 'state' AS old, entry.after ->> 'state' AS new,
       coalesce(lag(entry.after ->> 'state') OVER one, 'draft') AS stood,
       row_number() OVER (PARTITION BY entry.modification_id ORDER BY entry.position DESC) = 1 AS is_last
FROM pems_sync_journalentry AS entry
WHERE entry.organization_id = ANY(%(organizations)s) AND entry.modification_id IS NOT NULL AND entry.kind <> 'draft_saved'
  AND entry.before ->> 'state' IS NOT NULL AND entry.after ->> 'state' IS NOT NULL
WINDOW one AS (PARTITION BY entry.modification_id ORDER BY entry.position)
"""

_REPLAYED = f"""
SELECT concat('modification ', step.modification_id, ', position ', step.position, ': it goes from ', step.old, ' to ', step.new,
              CASE WHEN step.old <> step.stood THEN concat(', and stood at ', step.stood) ELSE ', and there is no such way' END)
FROM ({_STEPS}) AS step
WHERE step.old <> step.stood OR (step.old, step.new) NOT IN ({_WAYS})
"""  # noqa: S608  (names of this module)

_LAST_STEP = f"""
SELECT concat('modification ', edit.id, ' of ', edit.pfa_id, ' is ', edit.state, ', and by the journal ',
              coalesce(step.new, 'draft'))
FROM pems_sync_modification AS edit
LEFT JOIN ({_STEPS}) AS step ON step.modification_id = edit.id AND step.is_last
WHERE edit.organization_id = ANY(%(organizations)s) AND edit.state <> coalesce(step.new, '{State.DRAFT}')
"""  # noqa: S608


def _chains(scope: Scope) -> Iterator[str]:
    """Each chain from its first entry on, and whether its head knows its last."""
    last: list[int | None] = [None] if scope.whole else []
    for organization_id in [*scope.organization_ids, *last]:
        entries = JournalEntry.objects.filter(organization=organization_id).order_by("position")
        broken = first_broken(entries)
        whose = f"organization {organization_id}" if organization_id else "no organization"
        if broken is not None:
            yield f"journal of {whose}: entry {broken.pk} at position {broken.position} does not follow what was before it"
            continue
        hashes = list(entries.order_by("-position").values_list("hash", flat=True)[:1])
        kept = JournalHead.objects.filter(organization=organization_id).values_list("last_hash", flat=True).first()
        if hashes and hashes != [kept]:
            yield f"journal of {whose}: its head names another last entry"


I9 = Check(
    "I9",
    "every transition is in the journal, and its chains verify",
    "The entry named, or one before it, was changed after it was written: compare with the backup, and ask who had access.",
    (_REPLAYED, _LAST_STEP),
    (_chains,),
)

_HOLES = """
SELECT concat('organization ', numbered.organization_id, ': after position ', numbered.position - step,
              ' comes ', numbered.position)
FROM (
    SELECT organization_id, position, position - coalesce(lag(position) OVER one, 0) AS step FROM pems_sync_journalentry
    WHERE organization_id = ANY(%(organizations)s) WINDOW one AS (PARTITION BY organization_id ORDER BY position)
) AS numbered
WHERE step <> 1
"""

_MISSED = """
SELECT concat('organization ', told.organization_id, ': after event ', told.seq - step, ' comes ', told.seq)
FROM (
    SELECT organization_id, seq, seq - coalesce(lag(seq) OVER one, 0) AS step FROM pems_sync_journalentry
    WHERE seq IS NOT NULL AND organization_id = ANY(%(organizations)s)
    WINDOW one AS (PARTITION BY organization_id ORDER BY position)
) AS told
WHERE step <> 1
"""

_ENDS = """
SELECT concat('organization ', head.organization_id, ': the head is at position ', head.position, ' and event ', head.seq,
              ', the journal ends at ', coalesce(kept.position, 0), ' and ', coalesce(kept.seq, 0))
FROM pems_sync_journalhead AS head
LEFT JOIN (
    SELECT organization_id, max(position) AS position, max(seq) AS seq FROM pems_sync_journalentry GROUP BY 1
) AS kept ON kept.organization_id = head.organization_id
WHERE head.organization_id = ANY(%(organizations)s)
  AND (head.position <> coalesce(kept.position, 0) OR head.seq <> coalesce(kept.seq, 0))
"""

I10 = Check(
    "I10",
    "positions and events of each organization have no holes",
    "Clients that resume may have missed what is not there: have them read everything anew, and compare with the backup.",
    (index_stands("i9_position_once", "i10_seq_once"), _HOLES, _MISSED, _ENDS),
)
