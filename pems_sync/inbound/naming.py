"""Records that were named: by a webhook, or because PEMS confirmed a write without showing what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from pems_sync import crashpoints
from pems_sync.client.base import Missing, PemsRecord, ReadFailed
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.client.secrets import SecretsUnavailableError
from pems_sync.clock import database_now
from pems_sync.errors import PemsUnavailableError
from pems_sync.inbound import runs
from pems_sync.inbound.applying import apply, mark_gone, revive
from pems_sync.inbound.echoes import sort_out
from pems_sync.inbound.pages import Reader
from pems_sync.inbound.pulling import carry_out
from pems_sync.inbound.runs import Run
from pems_sync.models import NamedRead, Organization, Record
from pems_sync.turns import Turns

MOST_SINGLE = 20
"""More names than these are cheaper by one pull of what changed."""
PUT_OFF = timedelta(seconds=15)
UNTIL_SETTLED = timedelta(seconds=1)


def refresh(record: Record) -> None:
    """Read one record and store it forward: it was confirmed without being shown."""
    organization = record.organization
    turns = Turns.of(organization.connection)
    found = turns.read(organization_code=organization.code, pfa_id=record.pfa_id, patience_seconds=10)
    if isinstance(found, PemsRecord):
        apply(organization, [found])
        Record.objects.filter(pk=record.pk, version__lte=found.version).update(read_due_at=None)
    elif isinstance(found, Missing):
        mark_gone(record)


def note_names(organization: Organization, pfa_ids: Iterable[str]) -> None:
    """These have changed, PEMS says. Named again before it is read, a record is read once; named again while it is read,
    once more. In the order of ids, so that two notes at once do not wait for each other."""
    rows = [NamedRead(organization=organization, pfa_id=pfa_id) for pfa_id in sorted(set(pfa_ids))]
    NamedRead.objects.bulk_create(
        rows, update_conflicts=True, update_fields=["named_at"], unique_fields=["organization", "pfa_id"]
    )


def read_named(organization: Organization) -> None:
    """Read what was named: a few records each by itself, more by one pull. A name is removed only once it was read.
    Raises PemsUnavailableError, SecretsUnavailableError, PaceUnavailableError."""
    run = runs.claim(organization)
    if run is None:
        return  # whoever pulls is done in a moment, and the sweep asks again
    try:
        names = _worth_reading(organization)
        left = names if len(names) > MOST_SINGLE else _read_singly(run, names)
    finally:
        run.release()
    if left:
        _read_by_pull(organization, left)


def _worth_reading(organization: Organization) -> list[NamedRead]:
    """Without those that name a write of ours, whose answer has shown the record, or is about to."""
    found = sort_out(organization, NamedRead.objects.filter(organization=organization, named_at__lte=database_now()))
    _forget(found.echoes)
    _put_off(found.early, UNTIL_SETTLED)
    return found.news


def _read_singly(run: Run, names: Sequence[NamedRead]) -> list[NamedRead]:
    """Those whose answer could not be understood: a page skips a broken row, and tells its reason."""
    reader = Reader.of(run.organization, keep=run.renew)
    left: list[NamedRead] = []
    for position, name in enumerate(names):
        crashpoints.reached("before_named_read", name.pfa_id)
        found = reader.one(name.pfa_id)
        crashpoints.reached("after_named_read", name.pfa_id)
        if isinstance(found, ReadFailed) and found.fault is not None:
            _put_off(names[position:])
            return []
        if isinstance(found, ReadFailed):
            left.append(name)
        else:
            _take_in(run.organization, name, found)
    return left


def _take_in(organization: Organization, name: NamedRead, found: PemsRecord | Missing) -> None:
    records = Record.objects.for_organization(organization).filter(pfa_id=name.pfa_id)
    if isinstance(found, PemsRecord):
        apply(organization, [found])
        for record in records.filter(deleted_at__lte=name.named_at, version=found.version):
            revive(record, found, actor="inbound")
    else:
        for record in records.present():
            mark_gone(record)
    crashpoints.reached("before_forget", name.pfa_id)
    _forget([name])


def _read_by_pull(organization: Organization, names: Sequence[NamedRead]) -> None:
    run = runs.claim(organization)
    if run is None:
        return
    try:
        carry_out(run, quiet=True)
    except (PemsUnavailableError, SecretsUnavailableError, PaceUnavailableError):
        _put_off(names)
        raise
    if run.ended and not run.resumed:  # the upper bound of a resumed run lies before these were named
        _forget(names)


def _forget(names: Sequence[NamedRead]) -> None:
    """Unless named again since."""
    for name in names:
        NamedRead.objects.filter(pk=name.pk, named_at=name.named_at).delete()


def _put_off(names: Sequence[NamedRead], wait: timedelta = PUT_OFF) -> None:
    """They cannot be read now: not again at once."""
    NamedRead.objects.filter(pk__in=[name.pk for name in names]).update(named_at=database_now() + wait)
