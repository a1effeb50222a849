"""`manage.py sync_pull org-rio`: load an organization's records from PEMS."""

from __future__ import annotations

from time import monotonic, sleep
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pems_sync import inbound
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.client.secrets import SecretsUnavailableError
from pems_sync.errors import PemsUnavailableError, PullUnderWayError
from pems_sync.models import Organization

PATIENCE_SECONDS = 300.0
"""How long another pull of the same organization is waited for."""


class Command(BaseCommand):
    help = "Pulls what changed in PEMS since the last pull. Unchanged rows write nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", nargs="*", help="slugs, such as org-rio")
        parser.add_argument("--all", action="store_true", help="every organization")
        parser.add_argument("--full", action="store_true", help="a sweep: every record, and what is gone")

    def handle(self, *args: Any, **options: Any) -> None:
        slugs: list[str] = options["organization"]
        if bool(slugs) == bool(options["all"]):
            raise CommandError("Name one or more organizations, or give --all.")
        organizations = Organization.objects.select_related("connection").order_by("slug")
        chosen = list(organizations if options["all"] else organizations.filter(slug__in=slugs))
        unknown = set(slugs) - {organization.slug for organization in chosen}
        if unknown:
            known = ", ".join(organizations.values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no organization {', '.join(sorted(unknown))}. Known: {known}.")
        for organization in chosen:
            self._pull(organization, full=options["full"])

    def _pull(self, organization: Organization, *, full: bool) -> None:
        try:
            pulled = _in_turn(organization, full=full)
        except (PemsUnavailableError, PaceUnavailableError, SecretsUnavailableError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{organization.slug}: {pulled.seen} rows on {pulled.pages} pages, {pulled.changed} new or changed, "
            f"{len(pulled.broken)} skipped"
        )
        for row in pulled.broken[:20]:
            self.stderr.write(f"  skipped {row.pfa_id}: {row.message}")


def _in_turn(organization: Organization, *, full: bool) -> inbound.Pulled:
    """Beat may be pulling the same organization."""
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return inbound.pull(organization, full=full)
        except PullUnderWayError as error:
            if monotonic() > deadline:
                raise CommandError(f"{organization.slug}: {error}") from error
            sleep(0.5)
