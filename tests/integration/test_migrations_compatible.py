"""While a fleet is upgraded, the release before works on the new schema: no migration may take from it what it uses.

Before BASELINE nothing was released: those migrations may do what they like.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.db import connection as database
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone
from django_migration_linter import MigrationLinter

import pems_sync.migrations
from config.schema import missing_migrations
from tests.cast import Cast
from tests.integration import api_acts as acts

BASELINE = {"pems_sync": "0003_two_directions", "conflicts": "0002_two_directions"}
OURS = [
    config.label for config in apps.get_app_configs() if config.name in ("pems_sync", "conflicts", "realtime", "config")
]
BAD = {
    "a column that must be given": "migrations.AddField('connection', 'zeal', models.CharField(max_length=9, default='x'))",
    "a column dropped": "migrations.RemoveField('connection', 'tenant')",
    "a column renamed": "migrations.RenameField('connection', 'tenant', 'lodger')",
    "a table dropped": "migrations.DeleteModel('NamedRead')",
    "a table renamed": "migrations.RenameModel('NamedRead', 'ReadByName')",
}


def baseline_and_before() -> list[str]:
    names = {
        label: sorted(name for app, name in MigrationLoader(None).disk_migrations if app == label) for label in BASELINE
    }
    return [name for label, each in names.items() for name in each if name <= BASELINE[label]]


def lint(*, ignored: list[str]) -> MigrationLinter:
    linter = MigrationLinter(include_apps=OURS, ignore_name=ignored, no_cache=True)
    linter.lint_all_migrations()
    return linter


def test_no_migration_takes_from_the_release_before(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    linter = lint(ignored=baseline_and_before())
    assert not linter.has_errors, capsys.readouterr().out
    assert linter.nb_valid + linter.nb_warnings >= 1, "it looked at none"


@pytest.mark.parametrize("what", BAD)
def test_a_migration_that_does_is_found(db: None, tmp_path: Path, monkeypatch, settings, what: str) -> None:
    """Beside ours, in a package of its own, as the newest one."""
    package = tmp_path / "worse_migrations"
    shutil.copytree(Path(pems_sync.migrations.__path__[0]), package, ignore=shutil.ignore_patterns("__pycache__"))
    ours = sorted(path.stem for path in package.glob("0*.py"))
    (package / "9999_bad.py").write_text(
        "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n"
        f"    dependencies = [('pems_sync', '{ours[-1]}')]\n    operations = [{BAD[what]}]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings.MIGRATION_MODULES = {"pems_sync": package.name}
    try:
        linter = lint(ignored=[*ours, *baseline_and_before()])
    finally:
        for module in [name for name in sys.modules if name.startswith(package.name)]:
            del sys.modules[module]
    assert linter.nb_erroneous == 1


@pytest.fixture
def before(db: None) -> Callable[[str, str], Any]:
    """The models as the baseline knows them, on the present schema."""
    state = MigrationLoader(connections["default"]).project_state(list(BASELINE.items()))
    return state.apps.get_model


def test_the_release_before_reads_and_writes_every_table(before) -> None:
    """Its columns are all there, and none has come that an INSERT must name."""
    state = MigrationLoader(connections["default"]).project_state(list(BASELINE.items()))
    for model in state.apps.get_models():
        if model._meta.app_label not in BASELINE:
            continue
        list(model._default_manager.values()[:1])
        known = {field.column for field in model._meta.concrete_fields}
        assert not must_be_given(model._meta.db_table) - known, model


def must_be_given(table: str) -> set[str]:
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema AND table_name = %s"
            " AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'",
            [table],
        )
        return {name for (name,) in cursor.fetchall()}


def test_its_edits_are_accepted_and_changed(before, cast: Cast, rio, make_record) -> None:
    connection = before("pems_sync", "Connection").objects.create(
        slug="before", base_url="http://127.0.0.1:1", tenant="DEMO", secret_name="x"
    )
    connection.held_reason = "rests"
    connection.save()
    organization = before("pems_sync", "Organization").objects.create(
        slug="b", code="B", name="B", connection=connection
    )
    row = acts.draft(make_record(rio), cast.planner)
    record = copied(before("pems_sync", "Record").objects.get(pk=row.record_id), pk=None, organization=organization)
    edit = copied(
        before("pems_sync", "Modification").objects.get(pk=row.pk), pk=uuid4(), organization=organization, record=record
    )
    edit.state, edit.is_head = "queued", True
    edit.committed_at = edit.queued_at = edit.rank_at = timezone.now()
    edit.save()
    assert before("pems_sync", "Modification").objects.filter(pk=edit.pk).update(state="conflicted") == 1


def copied(row: Any, **changed: Any) -> Any:
    for name, value in changed.items():
        setattr(row, name, value)
    row.save(force_insert=True)
    return row


def test_a_worker_tells_what_the_database_lacks(db: None) -> None:
    assert missing_migrations() == []
    with database.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'pems_sync' AND name > '0003_two_directions'")
    assert missing_migrations()[0] == "pems_sync.0004_reliability"
