"""A pull from its first page to its last: read in the pace, apply, keep the place; then the next."""

from __future__ import annotations

import structlog

from pems_sync import crashpoints
from pems_sync.client.base import Page
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.client.secrets import SecretsUnavailableError
from pems_sync.errors import DomainError, PullUnderWayError
from pems_sync.inbound import runs
from pems_sync.inbound.applying import apply
from pems_sync.inbound.pages import PageFailedError, Reader
from pems_sync.inbound.runs import LeaseLostError, Pulled, Run
from pems_sync.models import Organization

log = structlog.get_logger(__name__)

_SAID = (DomainError, SecretsUnavailableError, PaceUnavailableError)


def pull(
    organization: Organization, *, author_id: int | None = None, full: bool = False, quiet: bool = False
) -> Pulled:
    """What changed in PEMS since the last pull, or with `full` every record, which also tells what is gone. A run that
    broke off goes on where it was. What is applied stays, whatever happens.

    Raises PullUnderWayError, PemsUnavailableError when a page cannot be had, SecretsUnavailableError and
    PaceUnavailableError."""
    run = runs.claim(organization)
    if run is None:
        raise PullUnderWayError
    return carry_out(run, author_id=author_id, full=full, quiet=quiet)


def carry_out(run: Run, *, author_id: int | None = None, full: bool = False, quiet: bool = False) -> Pulled:
    """As `pull`, under a lease that is held already, and given up at the end."""
    turned = 0
    try:
        runs.begin(run, full=full, author_id=author_id, quiet=quiet)
        reader = Reader.of(run.organization, keep=run.renew)
        while not _turn_page(run, reader):
            turned += 1
        runs.end(run)
    except LeaseLostError:
        log.warning("pull_given_up", organization=run.organization.slug, reason="another pull took over")
    except Exception as error:
        stale = isinstance(error, PageFailedError) and error.fault is None and run.resumed and not turned
        failure = str(error) if isinstance(error, _SAID) else "A defect of ours stopped this pull."
        runs.break_off(run, failure=failure, forget_cursor=stale)
        raise
    return run.pulled


def _turn_page(run: Run, reader: Reader) -> bool:
    """One page, from request to saved cursor. Whether it was the last."""
    crashpoints.reached("before_page", run.organization.code)
    page = reader.page(since=run.since, cursor=run.cursor)
    crashpoints.reached("after_page", run.organization.code)
    runs.fix_upper_bound(run, page)
    run.total = page.total
    run.pulled.changed += apply(run.organization, page.records)
    _count(run, page)
    run.save_page(page)
    crashpoints.reached("after_cursor", run.organization.code)
    if page.next_cursor is None or page.next_cursor == run.cursor or _is_beyond(run, page):
        return True
    run.cursor = page.next_cursor
    return False


def _count(run: Run, page: Page) -> None:
    run.pulled.pages += 1
    run.pulled.seen += len(page.records) + len(page.broken)
    run.pulled.broken += page.broken
    run.sighted.update(row.pfa_id for row in page.records)
    run.sighted.update(row.pfa_id for row in page.broken)


def _is_beyond(run: Run, page: Page) -> bool:
    """Rows come in order of their change: what follows came after this run began, and belongs to the next. A sweep looks
    on: what was changed meanwhile has moved to the end of the list."""
    last = page.records[-1].updated_at if page.records else None
    return not run.is_sweep and last is not None and run.until is not None and last > run.until
