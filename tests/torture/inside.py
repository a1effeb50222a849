"""usage: python -m tests.torture.inside       (in the environment of a stack; the last line is JSON)

After the storm: two full sweeps, then what the system says of itself. A process of its own, so that the harness stays
outside.
"""

from __future__ import annotations

import json
import os
import sys
from io import StringIO
from typing import Any

import django
from django.core.management import CommandError, call_command


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
    django.setup()
    words = sys.argv[1:]
    print(json.dumps(sweeps() if words == ["sweep"] else checks()))


def sweeps() -> dict[str, Any]:
    """A record counts as gone when two sweeps missed it."""
    for _ in range(2):
        call_command("sync_pull", "--all", "--full", stdout=sys.stderr)
    return {}


def checks() -> dict[str, Any]:
    """`{broken: […], verify: {…}}`"""
    from pems_sync.models import Organization

    organizations = list(Organization.objects.select_related("connection").order_by("slug"))
    return {"broken": [each for some in map(broken_in, organizations) for each in some], "verify": verified()}


def broken_in(organization: Any) -> list[str]:
    from pems_sync.models import Modification
    from tests.invariants import assert_journal, assert_lanes

    rows = list(Modification.objects.for_organization(organization).select_related("superseded_by"))
    broken = [each for row in rows if row.superseded_by for each in lost_in_folding(row)]
    for check in (lambda: assert_lanes(rows), lambda: assert_journal(organization, rows)):
        try:
            check()
        except AssertionError as error:
            broken.append(f"{organization.slug}: {trace_of(error)} {str(error)[:1500]}")
    return broken


def lost_in_folding(row: Any) -> list[str]:
    """What was folded lived on in its successor, at least until a person or a policy decided on that one (I2)."""
    from pems_sync.models import JournalEntry

    entries = JournalEntry.objects.filter(modification_id=row.superseded_by_id, after__has_key="changes")
    carried = set(row.superseded_by.changes).union(*(entry.after["changes"] for entry in entries))
    same = row.superseded_by.record_id == row.record_id and row.superseded_by.author_id == row.author_id
    fine = same and set(row.changes) <= carried
    return [] if fine else [f"{row.pk} was folded into {row.superseded_by_id}, which does not carry {row.changes}"]


def verified() -> dict[str, Any]:
    """What `manage.py verify` says; that it cannot say anything is a finding, too."""
    told = StringIO()
    try:
        call_command("verify", "--all", "--pems", "--json", stdout=told)
    except SystemExit:
        pass
    except CommandError as error:
        return {"checks": [{"id": "I13", "title": "verify", "ok": False, "found": [str(error)]}]}
    found: dict[str, Any] = json.loads(told.getvalue().strip().splitlines()[-1])
    return found


def trace_of(error: AssertionError) -> str:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else ""


if __name__ == "__main__":
    main()
