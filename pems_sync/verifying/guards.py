"""What the database itself refuses, as long as its triggers and unique indexes stand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.db import connection

from pems_sync.states import TRANSITIONS
from pems_sync.verifying.looking import Check, Scope

APPEND_ONLY = ("pems_sync_attempt", "pems_sync_attemptoutcome", "pems_sync_journalentry", "pems_sync_recordversion")
_MODIFICATION = "pems_sync_modification"


def triggers_stand(*wanted: tuple[str, str]) -> str:
    """A statement that finds which of these (table, trigger) are missing or disabled."""
    rows = ", ".join(f"('{table}', '{name}')" for table, name in wanted)
    return f"""
    SELECT concat('the trigger ', wanted.name, ' on ', wanted.on_table,
                  CASE WHEN pg_trigger.oid IS NULL THEN ' is missing' ELSE ' is disabled' END)
    FROM (VALUES {rows}) AS wanted(on_table, name)
    LEFT JOIN pg_trigger ON pg_trigger.tgname = wanted.name AND pg_trigger.tgrelid = to_regclass(wanted.on_table)
    WHERE pg_trigger.oid IS NULL OR pg_trigger.tgenabled NOT IN ('O', 'A')
    """  # noqa: S608  (names of this package)


def index_stands(*names: str) -> str:
    """A statement that finds which of these unique indexes are missing or not valid."""
    rows = ", ".join(f"('{name}')" for name in names)
    return f"""
    SELECT concat('the unique index ', wanted.name, ' is missing or not valid')
    FROM (VALUES {rows}) AS wanted(name)
    LEFT JOIN pg_index ON pg_index.indexrelid = to_regclass(wanted.name)
    WHERE pg_index.indexrelid IS NULL OR NOT pg_index.indisvalid OR NOT pg_index.indisunique
    """  # noqa: S608


def _ways_of_the_trigger(_: Scope) -> Iterator[str]:
    """The table of ways in the trigger against the one in states.py."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT prosrc FROM pg_proc WHERE proname = 'pems_sync_guard_transition'")
        found = cursor.fetchone()
    known = set(re.findall(r"\('(\w+)', '(\w+)'\)", found[0] if found else ""))
    legal = {(str(old), str(new)) for old, news in TRANSITIONS.items() for new in news}
    for old, new in sorted(known ^ legal):
        yield f"the trigger {'allows' if (old, new) in known else 'refuses'} the way from {old} to {new}"


GUARDS = Check(
    "guards",
    "the database refuses illegal transitions and deletions",
    "Apply the migrations (`manage.py migrate`), or enable the trigger; then find out who took it away.",
    (triggers_stand((_MODIFICATION, "guard_transition"), (_MODIFICATION, "never_deleted")),),
    (_ways_of_the_trigger,),
)
