"""The dead letters' own list in the admin. A proxy: nothing changes in the database."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("pems_sync", "0002_guards")]

    operations = [
        migrations.CreateModel(
            name="DeadLetter",
            fields=[],
            options={"verbose_name": "dead letter", "proxy": True, "indexes": [], "constraints": []},
            bases=("pems_sync.modification",),
        )
    ]
