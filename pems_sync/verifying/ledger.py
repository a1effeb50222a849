"""The ledger of attempts and outcomes: I1, I4, I5, I6."""

from __future__ import annotations

from collections.abc import Iterator

from pems_sync.client.base import Write
from pems_sync.models import Attempt
from pems_sync.verifying.guards import APPEND_ONLY, index_stands, triggers_stand
from pems_sync.verifying.looking import Check, Scope

_DECIDED = "'modification_queued', 'conflict_resolved', 'conflict_reopened', 'read_back_asked'"

_APPLIED_TWICE = f"""
WITH applied AS (
    SELECT attempt.modification_id, attempt.epoch, min(outcome.at) AS at
    FROM pems_sync_attemptoutcome AS outcome
    JOIN pems_sync_attempt AS attempt ON attempt.id = outcome.attempt_id
    JOIN pems_sync_modification AS edit ON edit.id = attempt.modification_id
    WHERE outcome.kind IN ('confirmed', 'landed') AND edit.organization_id = ANY(%(organizations)s)
    GROUP BY 1, 2
), paired AS (
    SELECT modification_id, epoch, at, lag(epoch) OVER one AS epoch_before, lag(at) OVER one AS at_before
    FROM applied WINDOW one AS (PARTITION BY modification_id ORDER BY at, epoch)
)
SELECT concat('modification ', modification_id, ': its attempts ', epoch_before, ' and ', epoch,
              ' were both applied, and nobody decided in between')
FROM paired
WHERE at_before IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM pems_sync_journalentry AS decision
    WHERE decision.modification_id = paired.modification_id AND decision.kind IN ({_DECIDED})
      AND decision.recorded_at BETWEEN paired.at_before AND paired.at
)
"""  # noqa: S608  (names of this module)

_AS_CONFIRMED = f"""
WITH tried AS MATERIALIZED (
    SELECT attempt.modification_id,
           count(*) FILTER (WHERE outcome.kind = 'confirmed') AS answered,
           count(*) FILTER (WHERE outcome.kind = 'landed') AS landed,
           max(outcome.at) FILTER (WHERE outcome.kind IN ('confirmed', 'landed')) AS applied_at
    FROM pems_sync_attempt AS attempt LEFT JOIN pems_sync_attemptoutcome AS outcome ON outcome.attempt_id = attempt.id
    GROUP BY 1
)
SELECT concat('modification ', edit.id, ' of ', edit.pfa_id, ': confirmed as ', entry.after ->> 'how', ', with ',
              coalesce(tried.answered, 0), ' answers and ', coalesce(tried.landed, 0), ' proofs that it was applied')
FROM pems_sync_modification AS edit
JOIN pems_sync_journalentry AS entry ON entry.modification_id = edit.id AND entry.kind = 'modification_confirmed'
LEFT JOIN tried ON tried.modification_id = edit.id
WHERE edit.state = 'confirmed' AND edit.organization_id = ANY(%(organizations)s)
  AND CASE entry.after ->> 'how'
      WHEN 'answer' THEN coalesce(tried.answered, 0) = 0
      WHEN 'proof' THEN tried.landed = 0
      WHEN 'converged' THEN tried.applied_at IS NOT NULL AND NOT EXISTS (
          SELECT 1 FROM pems_sync_journalentry AS decision
          WHERE decision.modification_id = edit.id AND decision.kind IN ({_DECIDED})
            AND decision.recorded_at >= tried.applied_at)
      END
"""  # noqa: S608
"""Restored from a backup, a row may be proven without any attempt, or be `restored`: those made since the backup are gone."""

I1 = Check(
    "I1",
    "each edit was applied at most once between two decisions",
    "Compare the record's history with PEMS's own, and correct the record there; keep the ledger for support.",
    (_APPLIED_TWICE, _AS_CONFIRMED),
)

_EPOCH_TWICE = """
SELECT concat('modification ', attempt.modification_id, ': ', count(*), ' attempts of epoch ', attempt.epoch)
FROM pems_sync_attempt AS attempt JOIN pems_sync_modification AS edit ON edit.id = attempt.modification_id
WHERE edit.organization_id = ANY(%(organizations)s)
GROUP BY attempt.modification_id, attempt.epoch HAVING count(*) > 1
"""

I4 = Check(
    "I4",
    "attempts are unique per epoch, and append-only tables are guarded",
    "Apply the migrations, or enable the trigger; what was changed while it was off cannot be told from here.",
    (
        triggers_stand(*((table, name) for table in APPEND_ONLY for name in ("append_only_rows", "append_only_table"))),
        index_stands("i4_attempt_once_per_epoch"),
        _EPOCH_TWICE,
    ),
)

_BEYOND = """
SELECT concat('modification ', edit.id, ' is at epoch ', edit.lease_epoch, ', and has an attempt of epoch ', attempt.epoch)
FROM pems_sync_attempt AS attempt JOIN pems_sync_modification AS edit ON edit.id = attempt.modification_id
WHERE attempt.epoch > edit.lease_epoch AND edit.organization_id = ANY(%(organizations)s)
"""

_STALE = """
WITH tried AS (
    SELECT attempt.id, attempt.modification_id, attempt.epoch,
           lead(attempt.started_at) OVER (PARTITION BY attempt.modification_id ORDER BY attempt.epoch) AS next_at
    FROM pems_sync_attempt AS attempt JOIN pems_sync_modification AS edit ON edit.id = attempt.modification_id
    WHERE edit.organization_id = ANY(%(organizations)s)
)
SELECT concat('modification ', tried.modification_id, ': "', outcome.kind, '" was written for epoch ', tried.epoch,
              ' after the next attempt had begun')
FROM tried JOIN pems_sync_attemptoutcome AS outcome ON outcome.attempt_id = tried.id
WHERE outcome.at > tried.next_at
"""

I5 = Check(
    "I5",
    "no outcome was written by a holder of an expired lease",
    "Look up the worker named in the attempt in the log, from its start on; its process was older than the code, or paused.",
    (_BEYOND, _STALE),
)

_UNSEEN = """
SELECT concat('modification ', edit.id, ' of ', edit.pfa_id, ': sent with version ', attempt.version_sent,
              ', which PEMS never showed here')
FROM pems_sync_attempt AS attempt JOIN pems_sync_modification AS edit ON edit.id = attempt.modification_id
WHERE edit.organization_id = ANY(%(organizations)s) AND NOT EXISTS (
    SELECT 1 FROM pems_sync_recordversion AS seen
    WHERE seen.record_id = edit.record_id AND seen.version = attempt.version_sent
)
"""


def _keys(scope: Scope) -> Iterator[str]:
    """The key of each attempt names the version and the values that went with it."""
    columns = ("modification_id", "version_sent", "idempotency_key", "request")
    rows = Attempt.objects.filter(modification__organization__in=scope.organization_ids).values_list(*columns)
    for modification_id, version, key, request in rows.order_by("pk").iterator(chunk_size=2000):
        sent = Write(modification_id, request["operation"], "", "", version, request["changes"], "", "")
        if sent.idempotency_key != key:
            yield f"modification {modification_id}: what is written down of the attempt at version {version} is not what was sent"


I6 = Check(
    "I6",
    "each request named a version that PEMS had shown",
    "Reconcile the organization (`manage.py reconcile`), and compare the attempt with PEMS's log.",
    (_UNSEEN,),
    (_keys,),
)
