"""Flow control, conservation and restore. Every new column has a default of the database's own, so that workers of the release
before, which do not know it, go on inserting rows."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

# The transition table as of this migration. tests/integration/test_guards.py compares the trigger with states.py.
BEFORE = {
    "draft": ["queued", "withdrawn"],
    "queued": ["sending", "conflicted", "confirmed", "superseded", "withdrawn", "dead"],
    "sending": ["queued", "unknown", "confirmed", "conflicted", "dead"],
    "unknown": ["queued", "confirmed", "conflicted", "dead"],
    "conflicted": ["queued", "withdrawn"],
    "dead": ["queued", "conflicted", "confirmed", "withdrawn"],
}
AFTER = BEFORE | {
    "queued": [*BEFORE["queued"], "unknown"],  # restored from a backup: what was sent since is not known
}


def _guard(transitions):
    ways = ", ".join(f"('{old}', '{new}')" for old, news in transitions.items() for new in news)
    return f"""
    CREATE OR REPLACE FUNCTION pems_sync_guard_transition() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (OLD.state, NEW.state) NOT IN ({ways}) THEN
            RAISE EXCEPTION 'modification %: no way from % to %', OLD.id, OLD.state, NEW.state
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END $$;
    """


class Migration(migrations.Migration):

    dependencies = [
        ('pems_sync', '0003_two_directions'),
    ]

    operations = [
        migrations.AddField(
            model_name='connection',
            name='breaker',
            field=models.CharField(choices=[('closed', 'Closed'), ('open', 'Open'), ('half_open', 'Half Open')], db_default='closed', default='closed', max_length=12),
        ),
        migrations.AddField(
            model_name='connection',
            name='breaker_override',
            field=models.CharField(blank=True, choices=[('', 'None'), ('open', 'Open'), ('closed', 'Closed')], db_default='', default='', help_text="a person's order", max_length=8),
        ),
        migrations.AddField(
            model_name='connection',
            name='breaker_override_reason',
            field=models.CharField(blank=True, db_default='', default='', max_length=500),
        ),
        migrations.AddField(
            model_name='connection',
            name='breaker_canary',
            field=models.UUIDField(blank=True, help_text='half open: the delivery, or the read, that is the canary', null=True),
        ),
        migrations.AddField(
            model_name='connection',
            name='breaker_probe_at',
            field=models.DateTimeField(blank=True, help_text='open: when the next canary may go', null=True),
        ),
        migrations.AddField(
            model_name='connection',
            name='breaker_reason',
            field=models.CharField(blank=True, db_default='', default='', max_length=500),
        ),
        migrations.AddField(
            model_name='connection',
            name='breaker_since',
            field=models.DateTimeField(blank=True, help_text='when it came into this state', null=True),
        ),
        migrations.AddField(
            model_name='connection',
            name='breaker_trips',
            field=models.PositiveIntegerField(db_default=0, default=0, help_text='canaries lost since it opened'),
        ),
        migrations.AddField(
            model_name='hourtally',
            name='committed',
            field=models.PositiveIntegerField(db_default=0, default=0, help_text='accepted edits, however they end (I2)'),
        ),
        migrations.AddField(
            model_name='organization',
            name='restored_at',
            field=models.DateTimeField(blank=True, help_text='restored from a backup then: nothing is sent until a full sweep has ended', null=True),
        ),
        migrations.CreateModel(
            name='Conservation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('checked_at', models.DateTimeField()),
                ('committed', models.PositiveBigIntegerField(help_text='accepted, by the tallies written with the journal')),
                ('by_state', models.JSONField(help_text='committed modifications by state, as the rows say')),
                ('difference', models.BigIntegerField(help_text='committed less the sum of by_state: anything but 0 is an alarm')),
                ('off_since', models.DateTimeField(help_text='since when the difference is not 0', null=True)),
                ('organization', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='conservation', to='pems_sync.organization')),
            ],
        ),
        migrations.CreateModel(
            name='MaintenanceWindow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='what planners and support read as the reason', max_length=100)),
                ('timezone', models.CharField(default='UTC', help_text='of its days and times, as in `Europe/Berlin`', max_length=64)),
                ('weekdays', django.contrib.postgres.fields.ArrayField(base_field=models.PositiveSmallIntegerField(), blank=True, default=list, help_text='0 Monday … 6 Sunday; empty: every day', size=None)),
                ('starts', models.TimeField(help_text='local time of its beginning')),
                ('minutes', models.PositiveIntegerField(help_text='how long it lasts; it may reach into the next day')),
                ('first_day', models.DateField(blank=True, help_text='empty: from now on', null=True)),
                ('last_day', models.DateField(blank=True, help_text='of its beginnings; empty: for ever', null=True)),
                ('connection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='windows', to='pems_sync.connection')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('minutes__range', (1, 10080))), name='window_of_at_most_a_week'), models.CheckConstraint(condition=models.Q(('first_day', None), ('last_day', None), ('last_day__gte', models.F('first_day')), _connector='OR'), name='window_days_in_order')],
            },
        ),
        migrations.RunSQL(_guard(AFTER), _guard(BEFORE)),
    ]
