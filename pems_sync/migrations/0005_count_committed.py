"""Edits accepted so far, by the hour in which they were. Workers of the release before go on accepting edits that they do
not count: the check of each minute finds those in the journal and counts them then (pems_sync/conserving.py)."""

from django.db import migrations

COUNT = """
INSERT INTO pems_sync_hourtally (organization_id, hour, committed, confirmed, failed, conflicts, seconds_total, latency)
SELECT organization_id, date_trunc('hour', recorded_at, 'UTC'), count(*), 0, 0, 0, 0, array_fill(0, ARRAY[17])
FROM pems_sync_journalentry
WHERE kind = 'modification_queued' AND before ->> 'state' = 'draft' AND organization_id IS NOT NULL
GROUP BY 1, 2
ON CONFLICT (organization_id, hour) DO UPDATE SET committed = EXCLUDED.committed
"""


class Migration(migrations.Migration):

    dependencies = [
        ('pems_sync', '0004_reliability'),
    ]

    operations = [
        migrations.RunSQL(COUNT, migrations.RunSQL.noop),
    ]
