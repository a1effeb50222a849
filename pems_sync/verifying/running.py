"""All checks, one after the other, on one snapshot; and the comparison with PEMS."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from django.db import connection, transaction

from pems_sync.models import Organization
from pems_sync.reconciling import reconcile
from pems_sync.verifying.chains import I9, I10
from pems_sync.verifying.guards import GUARDS
from pems_sync.verifying.lanes import HEADS, I2, I3, STUCK
from pems_sync.verifying.ledger import I1, I4, I5, I6
from pems_sync.verifying.looking import Checked, Scope, carry_out, told
from pems_sync.verifying.records import I7, I8

CHECKS = (I1, I2, I3, I4, I5, I6, I7, I8, I9, I10, HEADS, STUCK, GUARDS)

_READ_ONLY = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET LOCAL statement_timeout = '15min'",
    "SET LOCAL lock_timeout = '5s'",
)


def verify(organizations: Sequence[Organization], *, whole: bool) -> list[Checked]:
    """Every check of the database. `whole`: these are all organizations, so the entries of none are looked at as well.

    On a snapshot of its own, which it only reads; inside a transaction of the caller, on that one's. Raises DatabaseError.
    """
    scope = Scope([each.pk for each in organizations], whole)
    own = not connection.in_atomic_block
    with transaction.atomic():
        if own:
            with connection.cursor() as cursor:
                for statement in _READ_ONLY:
                    cursor.execute(statement)
        return [carry_out(check, scope) for check in CHECKS]


def compare_with_pems(organizations: Sequence[Organization]) -> Checked:
    """I13, and I7 on the side of PEMS: every record, in the pace. Raises PemsUnavailableError, SecretsUnavailableError,
    PaceUnavailableError."""
    begun = time.monotonic()
    found = told(iter(list(_unexplained(organizations))))
    remedy = "`manage.py reconcile ORGANIZATION --repair` stores what PEMS shows, and gives up what it does not know."
    taken = round((time.monotonic() - begun) * 1000)
    return Checked("I13", "stored records equal PEMS, edits under way aside", remedy, found, taken)


def _unexplained(organizations: Sequence[Organization]) -> Iterator[str]:
    for organization in organizations:
        for each in reconcile(organization).unexplained:
            yield f"{organization.slug}, record {each.pfa_id}: {each.kind}, {each.detail}"
