"""A long queue made in a moment: committed edits written by SQL, for measures of what a queue costs, not of filling it.

The rows satisfy every constraint; they lack what a commit leaves besides them (journal, job, tally).
"""

from __future__ import annotations

import psycopg

# Foreign keys hold by construction; asking for each of a million rows takes a minute.
_BULK = "SET LOCAL session_replication_role = replica"
_MADE_UP = """
INSERT INTO pems_sync_record (organization_id, pfa_id, version, fields, content_hash, changed_by, missed_sweeps)
SELECT organization.id, 'MADE-UP-' || known.count + number, 1, '{}', '', '', 0
FROM pems_sync_organization organization, generate_series(1, %(count)s) number,
    (SELECT count(*) FROM pems_sync_record WHERE pfa_id LIKE 'MADE-UP-%%') known
WHERE organization.slug = %(organization)s
"""
_EDITS = """
INSERT INTO pems_sync_modification (
    id, organization_id, record_id, pfa_id, author_id, authorised_by_id, operation, reason, changes, base, base_version,
    expected_version, at_risk, state, is_head, priority, created_at, saved_at, committed_at, queued_at, rank_at, waits_for,
    lease_epoch, attempts, crashes, exposed, proofs, error_code, error_message, error_field, fingerprint, may_still_land,
    read_back_for, discard_reason, auto_merged, adjusted)
SELECT gen_random_uuid(), free.organization_id, free.id, free.pfa_id, planner.id, planner.id, 'UPDATE', 'backlog',
    jsonb_build_object('model', %(tag)s::text),
    jsonb_build_object('model', free.fields -> 'model', 'isDiscontinued', free.fields -> 'isDiscontinued'),
    free.version, free.version, '[]', 'queued', true, 0, now(), now(), now(), now(),
    now() - interval '1 hour' + place * interval '1 ms',
    '', 0, 0, 0, false, 0, '', '', '', '', false, '', '', false, '{}'
FROM (
    SELECT record.*, row_number() OVER (ORDER BY record.pfa_id LIKE 'MADE-UP-%%', record.id) AS place
    FROM pems_sync_record record JOIN pems_sync_organization organization ON organization.id = record.organization_id
    WHERE organization.slug = %(organization)s
        AND (record.pfa_id LIKE 'MADE-UP-%%' OR NOT (
            (record.fields ->> 'isDiscontinued')::boolean OR (record.fields ->> 'isActualized')::boolean))
        AND NOT EXISTS (
            SELECT 1 FROM pems_sync_modification open WHERE open.record_id = record.id AND open.is_head)
    ORDER BY place LIMIT %(count)s
) free, auth_user planner WHERE planner.username = %(planner)s
"""


def queue_edits(database_url: str, *, organization: str, planner: str, count: int, tag: str) -> None:
    """`count` edits, each of a record of its own, all due. Those of records that PEMS has come first; behind them come records
    that exist here only."""
    values = {"organization": organization, "planner": planner, "count": count, "tag": tag}
    with psycopg.connect(database_url) as database:
        database.execute(_BULK)
        database.execute(_MADE_UP, values)
        done = database.execute(_EDITS, values)
        assert done.rowcount == count, f"{done.rowcount} of {count} edits were queued"
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute("VACUUM ANALYZE pems_sync_modification, pems_sync_record")
